//! `exercises`: what `workbook` hands over: study, start, check.

use std::process::ExitCode;

use clap::{Arg, Command};
use exercises::check::{self, probe};
use exercises::{start, study};
use workbook::lesson::REFUSED;

fn main() -> ExitCode {
    let usage = Command::new("workbook").subcommand_required(true).subcommands([
        study::command(),
        start::command(),
        check::command(),
        Command::new(probe::NAME)
            .hide(true)
            .arg(Arg::new("words").num_args(0..).allow_hyphen_values(true)),
    ]);
    let code = match usage.get_matches().subcommand() {
        Some(("study", arguments)) => study::run(arguments),
        Some(("start", arguments)) => start::run(arguments),
        Some((probe::NAME, arguments)) => {
            let words: Vec<_> =
                arguments.get_many("words").into_iter().flatten().cloned().collect();
            return ExitCode::from(probe::run(&words).unwrap_or_else(|errno| errno as i32 as u8));
        }
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
