//! A lesson, question by question.

use clap::{ArgMatches, Command};
use workbook::host::Refusal;

/// Its arguments.
pub fn command() -> Command {
    Command::new("study").about("Go through a lesson: say what will happen, run it, compare")
}

/// Gives the exit code.
pub fn run(_arguments: &ArgMatches) -> Result<u8, Refusal> {
    todo!()
}
