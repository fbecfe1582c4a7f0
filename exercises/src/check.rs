//! Takes a program through the steps.

use clap::{ArgMatches, Command};
use workbook::host::Refusal;

/// Its arguments.
pub fn command() -> Command {
    Command::new("check")
        .about("Take your program through the steps, to the first that is not reached")
}

/// Gives the exit code.
pub fn run(_arguments: &ArgMatches) -> Result<u8, Refusal> {
    todo!()
}
