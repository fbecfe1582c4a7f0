//! Takes a program through the steps.
//!
//! - [`steps`]: what it has to do, and how the kernel is asked
//! - [`stage`]: a disposable host, for one step
//! - [`program`]: the program while it runs there
//! - [`probe`]: the command that it is given to run
//! - [`view`]: what is seen of a process
//! - [`target`]: the words that start it
//! - [`finding`]: what came of a step

pub mod finding;
pub mod probe;
pub mod program;
pub mod stage;
pub mod steps;
pub mod target;
pub mod view;

use clap::{Arg, ArgMatches, Command};
use workbook::cgroups::Group;
use workbook::host::Refusal;
use workbook::lesson::{FAILS, HOLDS};

use steps::STEPS;
use target::Target;

/// Its arguments.
pub fn command() -> Command {
    Command::new("check")
        .about("Take your program through the steps, to the first that is not reached")
        .arg(Arg::new("enter").long("enter"))
        .arg(Arg::new("command").num_args(1..).last(true))
}

/// Gives the exit code.
pub fn run(arguments: &ArgMatches) -> Result<u8, Refusal> {
    let words: Vec<String> = arguments.get_many("command").into_iter().flatten().cloned().collect();
    let target = Target::of_words(words, arguments.get_one("enter"))?;
    let group = Group::make("workbook-check", &["pids"]);
    for (nth, step) in STEPS.iter().enumerate() {
        match stage::on_a_stage(&target, group.as_ref().ok(), step.check) {
            Ok(Ok(())) => println!("{:>2} {:<9} passed", nth + 1, step.name),
            Err(refusal) => println!("{:>2} {:<9} not here {refusal}", nth + 1, step.name),
            Ok(Err(miss)) => {
                println!("{:>2} {:<9} not yet {miss:#?}", nth + 1, step.name);
                return Ok(FAILS);
            }
        }
    }
    Ok(HOLDS)
}
