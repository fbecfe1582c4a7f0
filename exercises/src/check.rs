//! Takes a program through the steps.
//!
//! - [`steps`]: what it has to do, and how the kernel is asked
//! - [`stage`]: a disposable host, for one step
//! - [`watcher`]: who makes it, and who watches there
//! - [`cgroups`]: its cgroups
//! - [`bounds`]: what the program may take
//! - [`program`]: the program while it runs there
//! - [`launch`]: how it is started
//! - [`probe`]: the command that it is given to run
//! - [`view`]: what is seen of a process
//! - [`target`]: what is checked, built if it is the reader's own
//! - [`finding`]: what came of a step
//! - [`report`]: how that is told
//! - [`words`]: what the book says of a step
//! - [`kept`]: what is remembered from one time to the next
//! - [`watch`]: again, whenever a file is saved

pub mod bounds;
pub mod cgroups;
pub mod finding;
pub mod kept;
pub mod launch;
pub mod probe;
pub mod program;
pub mod report;
pub mod stage;
pub mod steps;
pub mod target;
pub mod view;
pub mod watch;
pub mod watcher;
pub mod words;

use std::env;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use workbook::host::Refusal;
use workbook::lesson::{FAILS, HOLDS, REFUSED};
use workbook::programs::exercise;

use finding::{Came, Outcome};
use report::Report;
use steps::{STEPS, Step};
use target::{NotReady, Target};

/// Its arguments.
pub fn command() -> Command {
    let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    let step = |name, help| {
        let step = Arg::new(name).long(name).value_name("STEP").help(help);
        step.value_parser(|word: &str| Step::find(word).ok_or("no step has this number or name"))
    };
    let dir = Arg::new("dir").long("dir").value_name("DIR").value_parser(value_parser!(PathBuf));
    let enter = Arg::new("enter").long("enter").value_name("WORDS").requires("command");
    let command = Arg::new("command").value_name("COMMAND").num_args(1..).last(true);
    exercise("check")
        .after_help(after_help())
        .arg(dir.help("Your package [default: my-container]").conflicts_with("command"))
        .arg(step("step", "Check this step alone, by its number or name"))
        .arg(flag("hint", "Give the next hint for the step that is not reached"))
        .arg(step("solution", "Print the worked program of this step"))
        .arg(flag("watch", "Check again whenever a file is saved").conflicts_with("command"))
        .arg(flag("json", "Print it as one line of JSON").conflicts_with_all(["watch", "hint"]))
        .arg(enter.help("How COMMAND enters: {pid} is a process of the container"))
        .arg(
            command.value_parser(NonEmptyStringValueParser::new()).help(
                "Any program: the command to run is put behind; {rootfs} is a folder for its /",
            ),
        )
}

fn after_help() -> String {
    let names: Vec<_> =
        STEPS.iter().map(|step| format!("{} {}", step.number(), step.name)).collect();
    let (first, second) = names.split_at(7);
    format!(
        "Steps: {},\n       {}\nPage: book/src/your-turn.md\nExit codes: 0 passed, 1 not yet, \
         2 wrong usage, 69 this host cannot check it",
        first.join(", "),
        second.join(", ")
    )
}

/// Gives the exit code.
pub fn run(arguments: &ArgMatches) -> Result<u8, Refusal> {
    // Who writes `--` means a COMMAND, and not their own package. To clap it is nothing.
    let ends_so = env::args_os().next_back().is_some_and(|last| last == "--");
    if ends_so && !arguments.contains_id("command") {
        let missing = "COMMAND is missing: say after the -- which program, with its arguments";
        let mut usage = command().bin_name("workbook check");
        usage.error(ErrorKind::MissingRequiredArgument, missing).exit();
    }
    let folder = Target::folder(arguments.get_one("dir"));
    if let Some(step) = arguments.get_one::<&Step>("solution") {
        return words::solution(step, &folder);
    }
    if !arguments.get_flag("watch") || !folder.is_dir() {
        return once(arguments);
    }
    let changes = watch::Changes::of(vec![folder])?;
    loop {
        changes.begin()?; // what is saved while it is checked counts, too
        report::again()?;
        once(arguments)?;
        changes.wait()?;
    }
}

fn once(arguments: &ArgMatches) -> Result<u8, Refusal> {
    let is_json = arguments.get_flag("json");
    let words: Option<Vec<String>> = arguments.get_many("command").map(|w| w.cloned().collect());
    let target = match words {
        Some(words) => Target::of_words(words, arguments.get_one("enter"))?,
        None => match Target::own(&Target::folder(arguments.get_one("dir")))? {
            Ok(target) => target,
            Err(NotReady { why, code }) if is_json => return report::not_ready_json(&why, code),
            Err(NotReady { why, code }) => return report::not_ready(&why, code),
        },
    };
    let mut report = Report::new(&target, is_json)?;
    let only = arguments.get_one::<&Step>("step").map(|step| step.name);
    let came = check(&target, only, |came| report.tell(came))?;
    if target.is_own {
        kept::passed(&came);
    }
    report.end(&came, arguments.get_flag("hint"))?;
    Ok(code(&came))
}

/// Takes it through all steps, to the first that is not reached; or through this one only.
fn check(
    target: &Target,
    only: Option<&str>,
    mut tell: impl FnMut(&Came) -> Result<(), Refusal>,
) -> Result<Vec<Came>, Refusal> {
    let mut all = Vec::new();
    for step in STEPS.iter().filter(|step| only.is_none_or(|only| step.name == only)) {
        let group = cgroups::group();
        let outcome = match watcher::on_a_stage(target, group.as_ref(), step.check) {
            Ok(Ok(())) => Outcome::Passed,
            // Whoever was ended for it may have been seen to end, and no more.
            _ if group.as_ref().is_some_and(cgroups::was_too_much) => {
                Outcome::NotYet(bounds::eats())
            }
            Ok(Err(miss)) => Outcome::NotYet(miss),
            Err(refusal) => Outcome::NotHere(refusal),
        };
        let is_end = matches!(outcome, Outcome::NotYet(_));
        let came = Came { step, outcome };
        tell(&came)?;
        all.push(came);
        if is_end {
            break;
        }
    }
    Ok(all)
}

fn code(came: &[Came]) -> u8 {
    let is = |what: fn(&Outcome) -> bool| came.iter().any(|came| what(&came.outcome));
    if is(|outcome| matches!(outcome, Outcome::NotYet(_))) {
        FAILS
    } else if is(|outcome| matches!(outcome, Outcome::Passed)) {
        HOLDS
    } else {
        REFUSED
    }
}
