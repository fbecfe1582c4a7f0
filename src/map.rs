//! `workbook map`: draws who is in which namespace, as `/proc` tells it. Like lsns(8), but it explains.

mod moment;
mod nest;
mod process;
mod svg;
mod text;
mod words;

use std::error::Error;
use std::io::{self, Write as _};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::contents::Entry;
use crate::host::{self, Named as _};
use crate::lesson::{FAILS, HOLDS, REFUSED};
use crate::programs;
use crate::text::width;
use moment::Run;
use nest::Nest;
use process::{Everybody, Relations};

/// What is drawn.
struct Map {
    host: Nest,
    relations: Relations,
    unseen: usize,
    moment: Option<Moment>,
}

/// When a lesson's map was drawn.
struct Moment {
    lesson: String,
    /// How many it had printed, and the last of them.
    observations: usize,
    seen: String,
}

impl Map {
    fn of(everybody: Everybody) -> Self {
        let Everybody { processes, relations, unseen } = everybody;
        let host = Nest::of(processes, &relations);
        Self { host, relations, unseen: unseen.len(), moment: None }
    }

    /// How many namespaces it shows beside the host's, and how many processes.
    fn size(&self) -> (usize, usize) {
        (self.host.count(), self.host.everybody().count())
    }
}

/// Its arguments.
pub fn command(lessons: &[Entry]) -> Command {
    let names = lessons.iter().map(|lesson| lesson.name.clone());
    Command::new("map")
        .about("Draw who is in which namespace: everybody, some processes, or a lesson")
        .after_help(
            "With PIDs: these processes, who else is in their PID namespaces where these are not\n\
             yours, and those that descend from them.\n\
             With a lesson: its processes at the moment when it has the most namespaces. What the\n\
             lesson prints goes to standard error.\n\
             Exit codes: 0 drawn, 1 a process cannot be drawn or a claim fails, 2 wrong usage,\n\
             69 this host cannot run the lesson",
        )
        .arg(
            Arg::new("what")
                .value_name("PID|LESSON")
                .help("Without it: everybody who is in another namespace than you")
                .action(ArgAction::Append)
                .num_args(0..)
                .hide_possible_values(true)
                .value_parser(PidOrLesson(names.collect())),
        )
        .arg(
            Arg::new("svg")
                .long("svg")
                .help("Print an SVG picture for a page")
                .action(ArgAction::SetTrue),
        )
}

/// A number, or one of these names.
#[derive(Clone)]
struct PidOrLesson(Vec<String>);

impl TypedValueParser for PidOrLesson {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        match value.to_str().filter(|text| text.parse::<u32>().is_ok()) {
            Some(pid) => Ok(pid.to_string()),
            None => PossibleValuesParser::new(&self.0).parse_ref(command, argument, value),
        }
    }
}

/// Gives the exit code.
pub fn run(arguments: &ArgMatches, usage: &mut Command) -> Result<u8, Box<dyn Error>> {
    host::proc_is_ours()?;
    let what: Vec<&String> = arguments.get_many("what").into_iter().flatten().collect();
    let pids: Vec<u32> = what.iter().flat_map(|word| word.parse()).collect();
    let is_svg = arguments.get_flag("svg");
    match &what[..] {
        _ if pids.len() == what.len() => draw_processes(&pids, is_svg),
        [lesson] => draw_lesson(lesson, is_svg),
        _ => {
            usage.build(); // or the message would show a usage without `workbook`
            let usage = usage.find_subcommand_mut("map").ok_or("map: which command?")?;
            usage.error(ErrorKind::ArgumentConflict, "either PIDs, or one lesson").exit()
        }
    }
}

fn draw_processes(pids: &[u32], is_svg: bool) -> Result<u8, Box<dyn Error>> {
    let mut everybody = Everybody::look(pids)?;
    for pid in pids {
        if let Some(why) = everybody.misses(*pid) {
            // Where that cannot be written there is nobody to tell.
            let _ = writeln!(io::stderr(), "workbook: map: PID {pid}: {why}");
            return Ok(FAILS);
        }
    }
    if pids.is_empty() {
        everybody.keep_those_elsewhere();
    }
    print(&Map::of(everybody), is_svg)?;
    Ok(HOLDS)
}

fn draw_lesson(lesson: &str, is_svg: bool) -> Result<u8, Box<dyn Error>> {
    programs::build(&["--bin", lesson])?;
    let run = Run::of(lesson, programs::command(lesson)?)?;
    // Where that cannot be written there is nobody to tell.
    let _ = write!(io::stderr(), "{}", run.said);
    match (run.status.code(), run.map) {
        (Some(0), Some(map)) => {
            let _ = writeln!(io::stderr());
            print(&map, is_svg)?;
            Ok(HOLDS)
        }
        (code, _) => Ok(if code == Some(i32::from(REFUSED)) { REFUSED } else { FAILS }),
    }
}

fn print(map: &Map, is_svg: bool) -> Result<(), Box<dyn Error>> {
    let drawn = if is_svg { svg::draw(map) } else { text::draw(map, width()) };
    io::stdout().write_all(drawn.as_bytes()).named("write(1)")?;
    Ok(())
}
