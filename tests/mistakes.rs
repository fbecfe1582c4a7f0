//! What goes wrong in practice, by hand with the standard tools: the error texts that the chapters
//! show are what these commands print.
//!
//! An accepted mistake, tests/snapshots/NAME@mistake-WHAT.snap, begins with its command. To accept
//! another, write the header and the line with the command, and run
//! `INSTA_UPDATE=always CI=true cargo test --test mistakes`.

mod accepted;
mod host;
mod lessons;

use std::process::Command;
use std::{env, fs};

use host::User;
use nix::unistd::gethostname;
use workbook::contents;

/// Other versions of the tools word it otherwise, so the full text is held to in CI, on the system
/// that it was recorded on. Everywhere it must end in the same error.
#[test]
fn the_mistakes_in_the_book_give_the_errors_in_the_book() {
    let host_name = gethostname().expect("the host has a name");
    let in_ci = env::var_os("CI").is_some();
    let folder = contents::root().join("tests/snapshots");
    for file in fs::read_dir(folder).expect("tests/snapshots is a folder") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let Some((lesson, _)) = name.split_once("@mistake-") else { continue };
        assert!(lessons::all().iter().any(|known| known == lesson), "{name}: which lesson?");
        let accepted = fs::read_to_string(&path).expect("UTF-8");
        let shown = accepted.lines().find_map(|line| line.strip_prefix("$ ")).expect("a command");

        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shown} 2>&1")]).env("LC_ALL", "C");
        let output = host::run_as(&mut command, User::Ordinary).output().expect("sh is there");
        let printed = String::from_utf8_lossy(&output.stdout);
        let missing = [&output.stdout, &output.stderr].map(|text| lessons::lacks_a_tool(text));
        if missing.contains(&true) && !in_ci {
            eprintln!("not tried, a tool is not installed: {shown}: {printed}");
            continue;
        }
        // Whole words only: on a host called `vm` there is still `kvm`.
        let words = printed.split_inclusive([' ', '\n']);
        let named = |word: &str| Some(word.trim_end()) == host_name.to_str();
        let printed: String =
            words
                .map(|word| {
                    if named(word) { word.replace(word.trim_end(), "laptop") } else { word.into() }
                })
                .collect();
        if in_ci {
            accepted::assert_accepted(&name, &format!("$ {shown}\n{printed}"));
        } else {
            let error = accepted.lines().nth(4).unwrap_or_default().rsplit(": ").next();
            let error = error.unwrap_or_default();
            assert!(printed.contains(error), "{shown}: {printed}, not {error}");
        }
    }
}
