//! What is remembered from one time to the next: the steps that were passed, and which hints were
//! asked for.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::finding::{Came, Outcome};

/// These steps are passed, from now on.
pub fn passed(all: &[Came]) {
    for came in all.iter().filter(|came| matches!(came.outcome, Outcome::Passed)) {
        if !is_passed(came.step.name) {
            note("passed", came.step.name);
        }
    }
}

/// Has the reader's program passed it once?
pub fn is_passed(step: &str) -> bool {
    times("passed", step) > 0
}

/// The reader asks for something about a step. Gives how often, this time included.
pub fn ask(what: &str, step: &str) -> usize {
    note(what, step);
    times(what, step).max(1)
}

fn times(what: &str, step: &str) -> usize {
    let lines = file().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    lines.lines().filter(|line| *line == format!("{what} {step}")).count()
}

/// A line at the end of the file, in one write(2): two runs at once do not mix.
fn note(what: &str, step: &str) {
    let Some(file) = file() else { return };
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    let open = || File::options().append(true).create(true).open(&file);
    let kept = folder.and_then(|()| open()?.write_all(format!("{what} {step}\n").as_bytes()));
    if let Err(error) = kept {
        // Nobody's check shall fail for this.
        let _ = writeln!(io::stderr(), "progress was not kept: {}: {error}", file.display());
    }
}

fn file() -> Option<PathBuf> {
    let folder =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("starting-with-linux-containers/check"))
}
