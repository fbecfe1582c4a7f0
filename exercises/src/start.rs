//! A package of the reader's own.

use clap::{ArgMatches, Command};
use workbook::host::Refusal;

/// Its arguments.
pub fn command() -> Command {
    Command::new("start").about("Make a package of your own, to build a container in")
}

/// Gives the exit code.
pub fn run(_arguments: &ArgMatches) -> Result<u8, Refusal> {
    todo!()
}
