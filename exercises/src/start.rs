//! A package of the reader's own: a program that runs the command that it is given, to begin with.

use std::fs::{self, Permissions};
use std::io::{self, Write as _, stderr, stdout};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use clap::{Arg, ArgMatches, Command, value_parser};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use workbook::host::{Named as _, Refusal};
use workbook::lesson::USAGE;
use workbook::programs::exercise;

use crate::check::target::{FOLDER, to_check};

/// The workbook's own lock file, from which a Rust package gets the versions that are here already.
const LOCK: &str = include_str!("../../Cargo.lock");
/// nix, and what it needs.
const LOCKED: [&str; 7] =
    ["autocfg", "bitflags", "cfg-if", "cfg_aliases", "libc", "memoffset", "nix"];

/// Its arguments.
pub fn command() -> Command {
    let dir = Arg::new("dir").value_name("DIR").default_value(FOLDER);
    let lang = Arg::new("lang").long("lang").value_name("LANG").default_value("rust");
    exercise("start")
        .arg(dir.value_parser(value_parser!(PathBuf)).help("A folder that is not there yet"))
        .arg(lang.value_parser(LANGUAGES.map(|language| language.name)).help("Its language"))
}

/// Gives the exit code.
pub fn run(arguments: &ArgMatches) -> Result<u8, Refusal> {
    let named = arguments.get_one::<String>("lang").map_or("rust", String::as_str);
    let Some(language) = LANGUAGES.iter().find(|language| language.name == named) else {
        return Ok(USAGE); // clap has refused it
    };
    let default = PathBuf::from(FOLDER);
    let folder = arguments.get_one("dir").unwrap_or(&default);
    let refused = match make(folder, language) {
        Ok(()) => {
            let next = next(folder, language);
            stdout().write_all(next.as_bytes()).named("write(1)")?;
            return Ok(0);
        }
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EEXIST | Errno::ENOTEMPTY) => "it is there, and not empty",
            Some(Errno::ENOTDIR) => "it is there, and no folder",
            _ => return Err(error).named(format!("mkdir({folder:?})")),
        },
    };
    let folder = folder.display();
    let sentence = format!(
        "workbook: {folder}: {refused}; nothing was changed. Give another name: \
         cargo run -- start DIR\n"
    );
    let _ = stderr().write_all(sentence.as_bytes()); // or there is nobody to tell
    Ok(USAGE)
}

/// Makes the package beside its place and then gives it its name, so that it is there as a whole or
/// not at all. rename(2) takes the place of an empty folder, and of no other.
fn make(folder: &Path, language: &Language) -> io::Result<()> {
    // `a/..` has no name, and what is there is not empty.
    let name = folder.file_name().ok_or(Errno::ENOTEMPTY)?.to_string_lossy();
    remove_left(&folder.with_file_name("."));
    let beside = folder.with_file_name(format!(".{name}{MARK}{}", process::id()));
    fs::create_dir(&beside)?;
    let made = fill(&beside, language).and_then(|()| fs::rename(&beside, folder));
    if made.is_err() {
        let _ = fs::remove_dir_all(&beside); // why there is no package matters more
    }
    made
}

/// Between the name of a package and who makes it.
const MARK: &str = ".start-";

/// Who was killed while it made a package has left it half made. Nobody else removes it.
fn remove_left(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let made_by = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once(MARK));
        let made_by = made_by.and_then(|(_, pid)| pid.parse().ok()).map(Pid::from_raw);
        // No signal: this asks whether it is there.
        if made_by.is_some_and(|pid| kill(pid, None) == Err(Errno::ESRCH)) {
            let _ = fs::remove_dir_all(entry.path()); // it is somebody else's, then
        }
    }
}

fn fill(folder: &Path, language: &Language) -> io::Result<()> {
    for (name, text) in language.files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(&file, text)?;
        if *name == "run" {
            fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        }
    }
    if language.name == "rust" {
        fs::write(folder.join("Cargo.lock"), lock())?;
    }
    match language.ignored {
        "" => Ok(()),
        ignored => fs::write(folder.join(".gitignore"), ignored),
    }
}

/// The lock file of a Rust package: that of the workbook, as far as it is about [`LOCKED`].
fn lock() -> String {
    let is_locked = |package: &&str| {
        let name = package.lines().find_map(|line| line.strip_prefix("name = "));
        name.is_some_and(|name| LOCKED.contains(&name.trim_matches('"')))
    };
    let packages = LOCK.split("[[package]]\n").skip(1);
    let packages = packages.filter(is_locked).map(str::trim_end).collect::<Vec<_>>();
    let own = "name = \"my-container\"\nversion = \"0.1.0\"\ndependencies = [\n \"nix\",\n]";
    let packages = [packages, vec![own]].concat();
    format!("version = 4\n\n[[package]]\n{}\n", packages.join("\n\n[[package]]\n"))
}

/// What the reader is told.
fn next(folder: &Path, language: &Language) -> String {
    let name = folder.display();
    let check = to_check(folder);
    let file = language.read;
    format!(
        "made    {name}/{file}: it runs the command that it is given\n\
         next    {check}, which says what the first step wants\n\
         read    book/src/your-turn.md, the page with all the steps\n"
    )
}

/// What a package is in one language.
struct Language {
    name: &'static str,
    /// The file that the reader changes.
    read: &'static str,
    /// Names in the package, and what is in them. `run` is a program.
    files: &'static [(&'static str, &'static str)],
    /// The package's `.gitignore`: what is made there.
    ignored: &'static str,
}

const LANGUAGES: [Language; 5] = [
    Language {
        name: "rust",
        read: "src/main.rs",
        files: &[
            ("Cargo.toml", include_str!("../start/rust/Cargo.toml")),
            ("src/main.rs", include_str!("../start/rust/src/main.rs")),
        ],
        ignored: "/target\n",
    },
    Language {
        name: "python",
        read: "run",
        files: &[("run", include_str!("../start/python/run"))],
        ignored: "",
    },
    Language {
        name: "c",
        read: "my-container.c",
        files: &[
            ("run", include_str!("../start/c/run")),
            ("my-container.c", include_str!("../start/c/my-container.c")),
        ],
        ignored: "/my-container\n",
    },
    Language {
        name: "shell",
        read: "run",
        files: &[("run", include_str!("../start/shell/run"))],
        ignored: "",
    },
    Language {
        name: "go",
        read: "main.go",
        files: &[
            ("run", include_str!("../start/go/run")),
            ("main.go", include_str!("../start/go/main.go")),
        ],
        ignored: "/my-container\n",
    },
];
