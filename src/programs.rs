//! The programs of the workbook: they stand beside each other, and cargo builds what is not built.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::contents;
use crate::host::Named as _;

/// What std does to run a program.
pub const START: &str = "fork() and execve()";

/// A lesson, ready to run: its program stands beside this one.
pub fn command(name: &str) -> Result<Command, Box<dyn Error>> {
    let program = env::current_exe()?.with_file_name(name);
    if program.exists() {
        return Ok(Command::new(program));
    }
    Err(format!("{name} is not built: run `cargo build` first").into())
}

/// What `workbook` hands over to the program `exercises`, which is built for those who ask for it:
/// the name and what it does.
pub const EXERCISES: [(&str, &str); 3] = [
    ("study", "Go through a lesson: say what will happen, run it, compare"),
    ("start", "Make a package of your own, to build a container in"),
    ("check", "Take your program through the steps, to the first that is not reached"),
];

/// A command of `exercises`, with what it does.
pub fn exercise(name: &'static str) -> clap::Command {
    let about = EXERCISES.iter().find(|(known, _)| *known == name).map(|(_, about)| *about);
    clap::Command::new(name).about(about.unwrap_or_default())
}

/// Becomes `exercises`, with these words. Its terminal, signals and exit code are ours then.
pub fn become_exercises(words: &[OsString]) -> Box<dyn Error> {
    let exercises = build(&["--package", "exercises"]).and_then(|()| command("exercises"));
    match exercises {
        Ok(mut exercises) => exercises.args(words).exec().into(),
        Err(error) => error,
    }
}

/// Under `cargo run` only one program was built: has cargo build others beside it, those that these
/// arguments name. Without cargo the programs are taken as they are.
pub fn build(which: &[&str]) -> Result<(), Box<dyn Error>> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let exe = env::current_exe()?;
    let mut folders = exe.ancestors().skip(1); // target/debug, target
    let profile = folders.next().and_then(|folder| folder.file_name()).unwrap_or_default();
    let built = Command::new(cargo)
        .args(["build", "--quiet"])
        .args(which)
        .arg("--manifest-path")
        .arg(contents::root().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folders.next().unwrap_or(contents::root()))
        .arg("--profile")
        .arg(if profile == "debug" { "dev".as_ref() } else { profile })
        .status()
        .named(START)?;
    if built.success() { Ok(()) } else { Err("the lessons could not be built".into()) }
}
