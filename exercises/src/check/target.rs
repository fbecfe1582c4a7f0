//! What is checked: the words that start it.

use std::env;
use std::path::{Path, PathBuf};

use workbook::host::{Named as _, Refusal};

/// Stands in a word for the folder that shall become `/`.
pub const ROOTFS: &str = "{rootfs}";
/// Stands in a word for the process whose container is entered.
pub const PID: &str = "{pid}";

/// A program, as the checker starts it.
pub struct Target {
    /// How it is called in what the reader reads.
    pub name: String,
    /// The words before the command.
    pub words: Vec<String>,
    /// The same when it shall have a root of its own.
    pub with_rootfs: Vec<String>,
    /// The same when it shall enter a container, if it can.
    pub enter: Vec<String>,
    /// The probe's file, which has the same name in the new root.
    pub probe: String,
    /// Its working directory.
    pub folder: PathBuf,
    /// Is it the reader's own, which keeps to the contract?
    pub is_own: bool,
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

    /// The reader's own program, in a folder of this name.
    pub fn own(name: &str, program: &Path, folder: &Path) -> Result<Self, Refusal> {
        let program = program.display().to_string();
        let with = |more: &[&str]| {
            let more = more.iter().map(|word| word.to_string());
            [program.clone()].into_iter().chain(more).collect::<Vec<_>>()
        };
        Ok(Self {
            name: name.to_string(),
            words: with(&[]),
            with_rootfs: with(&["--rootfs", ROOTFS]),
            enter: with(&["--enter", PID]),
            probe: probe()?,
            folder: folder.to_path_buf(),
            is_own: true,
        })
    }

    /// Is there a word for the new root?
    pub fn wants_rootfs(&self) -> bool {
        self.with_rootfs.iter().any(|word| word.contains(ROOTFS))
    }
}

/// This program is the probe, too.
fn probe() -> Result<String, Refusal> {
    let probe = env::current_exe().named("readlink(\"/proc/self/exe\")")?;
    Ok(probe.display().to_string())
}
