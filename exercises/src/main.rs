//! `exercises`: what `workbook` hands over: study, start, check.

use std::process::ExitCode;

use clap::Command;
use exercises::{check, start, study};
use workbook::lesson::REFUSED;

fn main() -> ExitCode {
    let usage = Command::new("workbook").subcommand_required(true).subcommands([
        study::command(),
        start::command(),
        check::command(),
    ]);
    let code = match usage.get_matches().subcommand() {
        Some(("study", arguments)) => study::run(arguments),
        Some(("start", arguments)) => start::run(arguments),
        Some((_, arguments)) => check::run(arguments),
        None => Ok(0), // clap has ended it
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            refusal.tell("workbook");
            ExitCode::from(REFUSED)
        }
    }
}
