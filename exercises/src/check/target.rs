//! What is checked: the words that start it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use workbook::contents;
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{FAILS, USAGE};

/// Stands in a word for the folder that shall become `/`.
pub const ROOTFS: &str = "{rootfs}";
/// Stands in a word for the process whose container is entered.
pub const PID: &str = "{pid}";
/// The folder of the reader's own package, if no other is named: `.gitignore` lists it.
pub const FOLDER: &str = "my-container";

/// A program, as the checker starts it.
pub struct Target {
    /// How it is called in what the reader reads.
    pub name: String,
    /// The words before the command.
    pub words: Vec<String>,
    /// The same when it shall have a root of its own.
    pub with_rootfs: Vec<String>,
    /// The words before a command that enters a container; none if it cannot.
    pub enter: Vec<String>,
    /// The probe's file, which has the same name in the new root.
    pub probe: String,
    /// Its working directory.
    pub folder: PathBuf,
    /// Is it the reader's own, which keeps to the contract?
    pub is_own: bool,
}

/// There is nothing to check yet.
pub struct NotReady {
    /// What to tell the reader.
    pub why: String,
    /// The exit code.
    pub code: u8,
}

impl Target {
    /// Any program: these words, then the command.
    pub fn of_words(words: Vec<String>, enter: Option<&String>) -> Result<Self, Refusal> {
        let enter = enter.map(|words| words.split_whitespace().map(str::to_string).collect());
        Ok(Self {
            name: words.join(" "),
            with_rootfs: words.clone(),
            words,
            enter: enter.unwrap_or_default(),
            probe: probe()?,
            folder: env::current_dir().named("getcwd()")?,
            is_own: false,
        })
    }

    /// The folder of the reader's own package.
    pub fn folder(given: Option<&PathBuf>) -> PathBuf {
        given.cloned().unwrap_or_else(|| contents::root().join(FOLDER))
    }

    /// The reader's own program: `run` in this folder, or what cargo builds there.
    pub fn own(folder: &Path) -> Result<Result<Self, NotReady>, Refusal> {
        let not = |why: &str, code| {
            let why = format!("{}: {why}", folder.display());
            Ok(Err(NotReady { why, code }))
        };
        let Ok(folder) = folder.canonicalize() else {
            return not("there is no such folder. `cargo run -- start` makes one", USAGE);
        };
        let program = match folder.join("run") {
            run if run.is_file() => run,
            _ if !folder.join("Cargo.toml").is_file() => {
                return not("has neither a Cargo.toml nor a file `run`", USAGE);
            }
            _ => match built(&folder)? {
                Some(program) => program,
                None => return not("does not build yet", FAILS),
            },
        };
        let program = program.display().to_string();
        let with = |more: &[&str]| {
            [&[&*program], more].concat().into_iter().map(str::to_string).collect::<Vec<_>>()
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Ok(Self {
            name,
            words: with(&[]),
            with_rootfs: with(&["--rootfs", ROOTFS]),
            enter: with(&["--enter", PID]),
            probe: probe()?,
            folder,
            is_own: true,
        }))
    }

    /// What the reader types to have it checked once more, with one more word.
    pub fn again(&self, word: &str) -> String {
        match self.is_own {
            true => format!("{} {word}", to_check(&self.folder)),
            false => format!("{CHECK} {word} -- {}", self.name),
        }
    }

    /// Is there a word for the new root?
    pub fn wants_rootfs(&self) -> bool {
        self.with_rootfs.iter().any(|word| word.contains(ROOTFS))
    }
}

const CHECK: &str = "cargo run -- check";

/// What is typed to check the package in this folder.
pub fn to_check(folder: &Path) -> String {
    let is_default = folder.canonicalize().is_ok_and(|at| at == contents::root().join(FOLDER));
    if is_default { CHECK.to_string() } else { format!("{CHECK} --dir {}", folder.display()) }
}

/// This program is the probe, too.
fn probe() -> Result<String, Refusal> {
    let probe = env::current_exe().named("readlink(\"/proc/self/exe\")")?;
    Ok(probe.display().to_string())
}

/// Has cargo build a package, and say where the program is. What rustc says goes to the reader.
fn built(folder: &Path) -> Result<Option<PathBuf>, Refusal> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics"]);
    cargo.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    let built = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let built = built.named("execve(\"cargo\")")?;
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let program = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    Ok(program.filter(|_| built.status.success()))
}
