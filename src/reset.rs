//! `workbook reset`: forgets what a reader has done.

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _, stdin};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::contents::Entry;
use crate::host::Named as _;
use crate::lesson::{HOLDS, USAGE};
use crate::progress::{Deed, Place};

/// Its arguments.
pub fn command(lessons: &[Entry]) -> Command {
    let parts = ["lessons", "answers", "steps"].map(String::from).into_iter();
    let names = lessons.iter().map(|lesson| lesson.name.clone());
    Command::new("reset")
        .about("Forget what you have done: all of it, or a part; asks first")
        .arg(
            Arg::new("what")
                .value_name("WHAT")
                .help("lessons, answers, steps, or the name of a lesson; without it: all")
                .hide_possible_values(true)
                .value_parser(parts.chain(names).collect::<Vec<_>>()),
        )
        .arg(
            Arg::new("yes")
                .long("yes")
                .help("Do not ask: without a terminal there is nobody to answer")
                .action(ArgAction::SetTrue),
        )
}

/// Gives the exit code.
pub fn run(arguments: &ArgMatches) -> Result<u8, Box<dyn Error>> {
    let what = arguments.get_one::<String>("what").map_or("", String::as_str);
    let of_part = |deed: Deed, name: &str| match what {
        "" => true,
        "lessons" => deed == Deed::Ran,
        "answers" => matches!(deed, Deed::Right | Deed::Wrong),
        "steps" => matches!(deed, Deed::Passed | Deed::Hint | Deed::Solution),
        lesson => name == lesson || name.split('/').next() == Some(lesson),
    };
    let place = Place::of_user();
    let count = place.progress().forget(of_part);
    let mut out = io::stdout();
    if count == 0 {
        writeln!(out, "There is nothing to forget.").named("write(1)")?;
        return Ok(HOLDS);
    }
    let what = if what.is_empty() { "all" } else { what };
    if !arguments.get_flag("yes") {
        if !stdin().is_terminal() {
            // Where that cannot be written there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "workbook: reset asks first, and no terminal answers: --yes"
            );
            return Ok(USAGE);
        }
        write!(out, "Forget {what}, {}? [y/N] ", entries(count)).named("write(1)")?;
        out.flush().named("write(1)")?;
        let mut answer = String::new();
        stdin().read_line(&mut answer).named("read(0)")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            writeln!(out, "Nothing was forgotten.").named("write(1)")?;
            return Ok(HOLDS);
        }
    }
    let forgotten = place.forget(of_part)?;
    writeln!(out, "Forgotten: {what}, {}.", entries(forgotten)).named("write(1)")?;
    Ok(HOLDS)
}

fn entries(count: usize) -> String {
    match count {
        1 => "1 entry".to_string(),
        _ => format!("{count} entries"),
    }
}
