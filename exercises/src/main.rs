//! `exercises`: what `workbook` hands over: study, start, check.

use std::process::ExitCode;

use clap::{Arg, Command};
use exercises::check::{self, probe};
use exercises::{start, study};
use nix::sys::signal::{SigHandler, Signal, signal};
use workbook::lesson::REFUSED;

fn main() -> ExitCode {
    // A reader who pipes us into `head` has seen enough: end as `cat` would.
    // SAFETY: installs no handler, and nothing else in this program sets one for SIGPIPE.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let usage =
        Command::new("workbook").bin_name("workbook").subcommand_required(true).subcommands([
            study::command(),
            start::command(),
            check::command(),
            // What the checker gives to the reader's program to run.
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
