//! `workbook`: greets, lists the lessons, runs them, prints the ledger of their claims.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{ExitCode, Output, Stdio};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use clap_complete::Shell;
use nix::sys::signal::{SigHandler, Signal, signal};
use workbook::contents::{self, Entry};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::{FAILS, HOLDS, REFUSED};
use workbook::needs::Found;
use workbook::programs::{self, EXERCISES, START};
use workbook::transcript::{BAD, GOOD};
use workbook::{causes, doctor, greeting, map, reset};

/// A line of output. A full disk is told as the refusal of write(2).
macro_rules! say {
    ($out:expr, $($text:tt)*) => { writeln!($out, $($text)*).named("write(1)") };
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // A reader who pipes us into `head` has seen enough: end as `cat` would.
    // SAFETY: installs no handler, and nothing else in this program sets one for SIGPIPE.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    match workbook() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            match error.downcast::<Refusal>() {
                Ok(refusal) => refusal.tell("workbook"),
                // Where that cannot be written there is nobody to tell.
                Err(error) => drop(writeln!(io::stderr(), "workbook: {error}")),
            }
            ExitCode::from(REFUSED)
        }
    }
}

fn workbook() -> Result<u8> {
    host::memory_is_there()?;
    let lessons = contents::lessons()?;
    let mut usage = usage(&lessons);
    match usage.clone().get_matches().subcommand() {
        Some(("run", arguments)) => run(&lessons, arguments),
        Some(("claims", _)) => claims(&lessons),
        Some(("doctor", arguments)) => examine(&lessons, arguments),
        Some(("completions", arguments)) => {
            let shell: Option<&Shell> = arguments.get_one("shell");
            let shell = *shell.ok_or("completions: which shell?")?;
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut usage, "workbook", &mut script);
            io::stdout().write_all(&script).named("write(1)")?;
            Ok(HOLDS)
        }
        Some(("map", arguments)) => map::run(arguments, &mut usage),
        Some(("reset", arguments)) => reset::run(arguments),
        Some((name, _)) if EXERCISES.iter().any(|(known, _)| *known == name) => {
            // As they were given: of `check -- COMMAND` the parser would keep no `--`.
            let words: Vec<_> = env::args_os().skip(1).collect();
            Err(programs::become_exercises(&words))
        }
        Some(("man", _)) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(usage).render(&mut page)?;
            io::stdout().write_all(&page).named("write(1)")?;
            Ok(HOLDS)
        }
        _ => greeting::greet(&lessons),
    }
}

fn usage(lessons: &[Entry]) -> clap::Command {
    let names: Vec<_> = lessons.iter().map(|lesson| lesson.name.clone()).collect();
    clap::Command::new("workbook")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Starting with Linux Containers: a workbook that your own kernel checks")
        .after_help("Without a command: the list of lessons, and what this host can run.")
        .subcommand(
            clap::Command::new("run")
                .about("Run lessons, one after the other")
                .arg(
                    Arg::new("lesson")
                        .value_name("LESSON")
                        .help("The lessons to run")
                        .action(ArgAction::Append)
                        .num_args(1..)
                        .required_unless_present("all")
                        .value_parser(names),
                )
                .arg(
                    Arg::new("all")
                        .long("all")
                        .help("Run every lesson: a line each, and a summary")
                        .conflicts_with("lesson")
                        .action(ArgAction::SetTrue),
                ),
        )
        .subcommand(
            clap::Command::new("claims")
                .about("Run every lesson and print the ledger: each claim, and whether it holds"),
        )
        .subcommand(
            clap::Command::new("doctor")
                .about("Say what this host can run, why not the rest, and what to do")
                .after_help("Exit codes: 0 every core lesson can run, 69 one cannot")
                .arg(
                    Arg::new("json")
                        .long("json")
                        .help("Print it as one line of JSON")
                        .action(ArgAction::SetTrue),
                )
                .arg(
                    Arg::new("causes")
                        .long("causes")
                        .help("Print every cause that the workbook knows, and what to do")
                        .conflicts_with("json")
                        .action(ArgAction::SetTrue),
                ),
        )
        .subcommand(
            clap::Command::new("completions")
                .about("Print the completions of `workbook` for a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
        )
        .subcommands(EXERCISES.map(|(name, _)| {
            programs::exercise(name).disable_help_flag(true).arg(
                Arg::new("words")
                    .value_name("ARGUMENTS")
                    .help("--help lists them")
                    .value_parser(value_parser!(OsString))
                    .num_args(0..)
                    .allow_hyphen_values(true)
                    .trailing_var_arg(true),
            )
        }))
        .subcommand(map::command(lessons))
        .subcommand(reset::command(lessons))
        .subcommand(clap::Command::new("man").about("Print the man page of `workbook`"))
}

/// What this host can run, why not the rest, what to do.
fn examine(lessons: &[Entry], arguments: &ArgMatches) -> Result<u8> {
    let found = Found::default();
    if arguments.get_flag("causes") {
        say!(io::stdout(), "{}", causes::list())?;
        return Ok(HOLDS);
    }
    match arguments.get_flag("json") {
        true => writeln!(io::stdout(), "{}", doctor::json(lessons, &found)),
        false => doctor::print(&mut anstream::stdout(), lessons, &found),
    }
    .named("write(1)")?;
    Ok(doctor::code(lessons, &found))
}

fn run(lessons: &[Entry], arguments: &ArgMatches) -> Result<u8> {
    programs::build(&["--bins"])?;
    if arguments.get_flag("all") {
        return run_all(lessons);
    }
    let mut code = HOLDS;
    let names: Vec<&String> = arguments.get_many("lesson").into_iter().flatten().collect();
    for (nth, name) in names.into_iter().enumerate() {
        if nth > 0 {
            say!(io::stdout(), "")?;
        }
        let status = programs::command(name)?.status().named(START)?;
        code = worse(code, status.code());
    }
    Ok(code)
}

fn run_all(lessons: &[Entry]) -> Result<u8> {
    let mut out = anstream::stdout();
    let (mut code, mut ran, mut held) = (HOLDS, 0, 0);
    for Entry { name, title, .. } in lessons {
        let report = Report::of(name)?;
        code = worse(code, report.code);
        let (style, verdict) = match report.code {
            Some(0) if report.open().next().is_some() => (GOOD, "partly"),
            Some(0) => (GOOD, "holds"),
            Some(69) => (BAD, "cannot"),
            _ => (BAD, "FAILS"),
        };
        say!(out, "{style}{verdict:<6}{style:#}  {name:<17} {title}")?;
        for (id, why) in report.open() {
            say!(out, "                          {id} stays open {why}")?;
        }
        if let Some(refused) = &report.refused {
            say!(out, "                          {refused}")?;
        }
        ran += usize::from(matches!(report.code, Some(0 | 1)));
        held += usize::from(report.code == Some(0));
    }
    say!(out, "\n{ran} of {} lessons ran, {held} hold, on {}.", lessons.len(), host::here())?;
    Ok(code)
}

/// The ledger: the claims of all lessons, the article's first, in the order of their numbers.
fn claims(lessons: &[Entry]) -> Result<u8> {
    programs::build(&["--bins"])?;
    let mut out = anstream::stdout();
    let (mut code, mut held, mut ledger, mut unchecked) = (HOLDS, 0, Vec::new(), Vec::new());
    for (nth, Entry { name, .. }) in lessons.iter().enumerate() {
        let report = Report::of(name)?;
        code = worse(code, report.code);
        for (id, sentence) in declared(name)? {
            let verdict = report.verdict(&id);
            held += usize::from(verdict == "holds");
            let article = id.strip_prefix('A').and_then(|number| number.parse::<u32>().ok());
            ledger.push((article.unwrap_or(u32::MAX), nth, id, verdict, name, sentence));
        }
        let open = report.open().map(|(id, why)| format!("{id} stays open {why}"));
        unchecked.extend(open);
        unchecked.extend(report.refused.map(|refused| format!("{name} was not run: {refused}")));
    }
    ledger.sort_by_key(|row| (row.0, row.1)); // stable: a lesson's own claims stay in its order
    for (_, _, id, verdict, name, sentence) in &ledger {
        let style = if *verdict == "holds" { GOOD } else { BAD };
        say!(out, "{id:<6} {style}{verdict:<7}{style:#}  {name:<17} {sentence}")?;
    }
    say!(out, "\n{held} of {} hold on {}.", ledger.len(), host::here())?;
    for reason in unchecked {
        say!(out, "{reason}")?;
    }
    Ok(code)
}

/// What came of running a lesson.
struct Report {
    code: Option<i32>,
    transcript: String,
    /// The call that this host refused, and its result.
    refused: Option<String>,
}

impl Report {
    fn of(name: &str) -> Result<Self> {
        let Output { status, stdout, stderr } =
            programs::command(name)?.stdin(Stdio::null()).output().named(START)?;
        let stderr = String::from_utf8_lossy(&stderr);
        let refused = stderr.lines().find_map(|line| line.strip_prefix("call    "));
        Ok(Self {
            code: status.code(),
            transcript: String::from_utf8_lossy(&stdout).into_owned(),
            refused: refused.map(str::to_string),
        })
    }

    /// What the lesson has said of each claim that it left open.
    fn open(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.transcript.lines();
        std::iter::from_fn(move || {
            let claim = lines.find_map(|line| line.strip_prefix("open "))?;
            let id = claim.split_whitespace().next()?;
            Some((id, lines.next()?.trim().trim_start_matches("not checked here ")))
        })
    }

    fn verdict(&self, id: &str) -> &'static str {
        let mut words = self.transcript.lines().map(str::split_whitespace);
        let first = words.find_map(|mut line| {
            let verdict = line.next()?;
            (line.next()? == id).then_some(verdict)
        });
        match first {
            Some("holds") => "holds",
            Some("open") => "open",
            None if self.code == Some(i32::from(REFUSED)) => "not run",
            _ => "FAILS",
        }
    }
}

/// The claims that a lesson declares: id and sentence.
fn declared(name: &str) -> Result<Vec<(String, String)>> {
    let list = programs::command(name)?.arg("--list").output().named(START)?.stdout;
    let list = String::from_utf8_lossy(&list).into_owned();
    let claims = list.lines().filter_map(|line| line.strip_prefix("claim"));
    let pairs = claims.filter_map(|claim| claim.trim().split_once(' '));
    Ok(pairs.map(|(id, sentence)| (id.to_string(), sentence.trim().to_string())).collect())
}

/// The worse of two outcomes: a claim that fails, then a host that refuses.
fn worse(so_far: u8, code: Option<i32>) -> u8 {
    match (so_far, code) {
        (_, Some(0)) => so_far,
        (HOLDS, Some(69)) => REFUSED,
        (REFUSED, Some(69)) => REFUSED,
        _ => FAILS,
    }
}
