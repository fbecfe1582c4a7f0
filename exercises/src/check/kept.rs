//! What is remembered from one time to the next: the steps that were passed, and which hints were
//! asked for.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::finding::{Came, Outcome};

/// These steps are passed, from now on.
pub fn passed(all: &[Came]) {
    let passed = all.iter().filter(|came| matches!(came.outcome, Outcome::Passed));
    let new = passed.map(|came| came.step.name).filter(|name| !is_passed(name));
    note(&new.map(|name| format!("passed {name}\n")).collect::<String>());
}

/// Has the reader's program passed it once?
pub fn is_passed(step: &str) -> bool {
    times("passed", step) > 0
}

/// The reader asks for something about a step. Gives how often, this time included.
pub fn ask(what: &str, step: &str) -> usize {
    note(&format!("{what} {step}\n"));
    times(what, step).max(1)
}

fn times(what: &str, step: &str) -> usize {
    let lines = file().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    lines.lines().filter(|line| *line == format!("{what} {step}")).count()
}

/// Lines at the end of the file, in one write(2): two runs at once do not mix.
fn note(lines: &str) {
    let Some(file) = file().filter(|_| !lines.is_empty()) else { return };
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    let open = || File::options().append(true).create(true).open(&file);
    if let Err(error) = folder.and_then(|()| open()?.write_all(lines.as_bytes())) {
        // Nobody's check shall fail for this. Where that cannot be written there is nobody to tell.
        let _ = writeln!(io::stderr(), "progress was not kept: {}: {error}", file.display());
    }
}

fn file() -> Option<PathBuf> {
    let folder =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("starting-with-linux-containers/check"))
}
