//! What goes wrong in practice, by hand with the standard tools: the error texts that the chapters
//! show are what these commands print.

mod accepted;
mod host;
mod lessons;

use std::process::Command;

use host::User;
use nix::unistd::gethostname;

/// Chapter, name, command.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("uts-demo", "no-user-namespace", "unshare --uts hostname container"),
    ("uts-demo", "no-uts-namespace", "unshare --map-root-user hostname container"),
    (
        "uts-demo",
        "old-variable",
        "unshare --map-root-user --uts bash -c 'hostname container; echo $HOSTNAME'",
    ),
    (
        "pid-demo",
        "no-fork",
        "unshare --map-root-user --pid bash -c '/bin/true; /bin/true; echo reached'",
    ),
    ("ps-demo", "no-pid-namespace", "unshare --map-root-user --mount mount -t proc proc /proc"),
    (
        "ps-demo",
        "covered",
        "unshare --map-root-user --mount sh -c 'mount --bind /dev/null /proc/keys; \
         unshare --map-root-user --pid --fork --mount-proc true'",
    ),
];

/// Other versions of the tools word it otherwise, so the full text is held to in CI, on the system
/// that it was recorded on. Everywhere it must end in the same error.
#[test]
fn the_mistakes_in_the_book_give_the_errors_in_the_book() {
    let host_name = gethostname().expect("the host has a name");
    for (lesson, name, shown) in MISTAKES {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shown} 2>&1")]).env("LC_ALL", "C");
        let output = host::run_as(&mut command, User::Ordinary).output().expect("sh is there");
        let in_ci = std::env::var_os("CI").is_some();
        let printed = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(127) && !in_ci {
            eprintln!("not tried, a tool is not installed: {shown}: {printed}");
            continue;
        }
        let printed = printed.replace(&*host_name.to_string_lossy(), "laptop");
        let text = format!("$ {shown}\n{printed}");
        let snapshot = format!("{lesson}@mistake-{name}");
        let file = workbook::contents::root().join(format!("tests/snapshots/{snapshot}.snap"));
        match std::fs::read_to_string(file) {
            Ok(accepted) if !in_ci => {
                let accepted = accepted.lines().nth(4).unwrap_or_default();
                let error = accepted.rsplit(": ").next().unwrap_or_default();
                assert!(printed.contains(error), "{shown}: {printed}, not {error}");
            }
            _ => accepted::assert_accepted(&snapshot, &text),
        }
    }
}

#[test]
fn every_recorded_mistake_belongs_to_a_lesson() {
    let lessons = lessons::names();
    for (lesson, name, _) in MISTAKES {
        assert!(lessons.iter().any(|known| known == lesson), "{lesson}: {name}");
    }
}
