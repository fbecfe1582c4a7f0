//! The worked program of the last step of "Your turn", as a reader gets it: start, check, cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::lessons;

/// Has it made and built. Gives the program.
pub fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("worked");
    let _ = fs::remove_dir_all(&folder); // of the run before
    let path = folder.to_string_lossy();
    succeed(lessons::command("exercises").args(["start", &path]));
    let asked = ["check", "--dir", &path, "--solution", "enter"];
    let _ = lessons::command("exercises").args(asked).output(); // who has not passed it asks twice
    let worked = succeed(lessons::command("exercises").args(asked));
    fs::write(folder.join("src/main.rs"), worked.stdout).expect("a file of ours");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--locked"]).current_dir(&folder);
    succeed(cargo.env("CARGO_TARGET_DIR", folder.join("target")));
    folder.join("target/debug/my-container")
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
