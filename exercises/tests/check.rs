//! What the checker says of small programs, how it is asked, and how it ends.
//!
//! The programs are lines for sh(1). The command that they are given is in "$@".

mod checker;
#[path = "../../tests/host/mod.rs"]
mod host;

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use checker::{
    DEADLINE, USERS, assert_told, check, checker, folder, said, turn, until_nothing_is_left,
};
use host::{Host, User};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

#[test]
fn who_runs_the_command_passes_the_first_step_and_not_the_second() {
    let _others_wait = turn();
    for user in USERS {
        assert_eq!(check(user, "run", "exec \"$@\"").0, 0);
        assert_eq!(check(user, "1", "\"$@\"").0, 0);
        let (code, said) = check(user, "hostname", "exec \"$@\"");
        assert_eq!(code, 1);
        assert!(said.contains("CLONE_NEWUTS is missing"), "{said}");
    }
}

#[test]
fn who_stops_or_kills_itself_is_told() {
    assert_told("run", "kill -STOP $$", "stopped, by SIGSTOP");
    assert_told("run", "kill -KILL $$", "ended, by SIGKILL");
    assert_told("run", "kill -KILL -1; kill -KILL $$", "ended, by SIGKILL");
    let real_time = format!("kill -{} $$", libc::SIGRTMIN() + 3);
    assert_told("run", &real_time, "ended, by SIGRTMIN+3");
}

#[test]
fn who_ends_at_once_is_told_its_status_and_its_last_words() {
    assert_told("run", "exit 3", "ended, exit status 3");
    assert_told("run", "no-such-compiler", "a program, or its library, was not found");
    assert_told("run", "echo alas >&2; exit 0", "said last = alas");
}

#[test]
fn who_cannot_be_started_is_told() {
    let _others_wait = turn();
    let output = checker(&["--", "./no-such-program"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("There is no such program."));
}

#[test]
fn who_leaves_the_command_behind_is_told() {
    assert_told("run", "exec 3<&0; setsid \"$@\" <&3 & exit 0", "exit status");
}

#[test]
fn who_kills_the_command_is_told() {
    assert_told(
        "run",
        "exec 3<&0; \"$@\" <&3 & kill -KILL $!; wait; exit 0",
        "ended, exit status 0",
    );
}

#[test]
fn the_arguments_must_arrive_as_they_were_given() {
    assert_told("run", "eval \"$@\"", "did not get its arguments");
}

#[test]
fn the_exit_status_must_come_out() {
    assert_told("run", "\"$@\"; exit 0", "exit status of the command");
    // Only that the command was killed gets lost.
    let line = "\"$@\"; s=$?; [ $s -gt 128 ] && s=0; exit $s";
    assert_told("run", line, "looks like a success");
}

#[test]
fn who_speaks_for_the_command_is_not_believed() {
    let line = "printf '%s '$$'\\037%s\\037two words\\037\\037*\\037$HOME\\n' $3 $3; sleep 100";
    assert_told("run", line, "something else was");
}

#[test]
fn on_the_stage_an_ordinary_user_is_that_user_without_capabilities() {
    let _others_wait = turn();
    let line = "id -u >&2; grep -c 'CapEff:.0000000000000000' /proc/self/status >&2; exit 3";
    let (_, said) = check(User::Ordinary, "run", line);
    assert!(said.contains("said last = 1 "), "{said}");
    let (_, said) = check(User::Ordinary, "run", "unshare -r id -u >&2; exit 3");
    assert!(said.contains("said last = 0 "), "{said}");
    let (_, said) = check(User::Root, "run", "id -u >&2; exit 3");
    assert!(said.contains("said last = 0 "), "{said}");
}

#[test]
fn the_exit_code_tells_passed_not_yet_wrong_usage_and_not_here() {
    let _others_wait = turn();
    let code = |mut command: Command| command.output().expect("it starts").status.code();
    assert_eq!(code(checker(&["--step", "run", "--", "env"])), Some(0));
    assert_eq!(code(checker(&["--step", "run", "--", "env", "--"])), Some(0));
    assert_eq!(code(checker(&["--", "env"])), Some(1));
    assert_eq!(code(checker(&["--step", "14", "--", "env"])), Some(2));
    assert_eq!(code(checker(&["--dir", "/no/such/folder"])), Some(2));
    for words in [&["--"][..], &["--json", "--step", "pid", "--"]] {
        let output = checker(words).output().expect("it starts");
        let is_usage = output.status.code() == Some(2) && output.stdout.is_empty();
        assert!(is_usage && said(&output).contains("COMMAND is missing"), "{}", said(&output));
    }
    let mut refused = checker(&["--", "env"]);
    let output = host::run_on(&mut refused, Host::NoUserNamespaces).output().expect("it starts");
    assert_eq!(output.status.code(), Some(69));
    assert!(said(&output).contains("user.max_user_namespaces is 0"), "{}", said(&output));
}

/// On the stage root is another user outside, to whom a folder of root's may be closed, as /root is.
#[test]
fn the_workbook_may_be_in_a_folder_that_is_closed_to_others() {
    let _others_wait = turn();
    let (closed, name) = (folder("closed"), "exercises");
    fs::copy(env!("CARGO_BIN_EXE_exercises"), closed.join(name)).expect("a copy");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("our own");
    let mut command = Command::new(closed.join(name));
    command.args(["check", "--step", "root", "--", "unshare", "--map-root-user"]);
    let output = command.env("XDG_STATE_HOME", folder("state")).output().expect("it starts");
    assert!(said(&output).contains("root passed"), "{}", said(&output));
}

#[test]
fn json_is_one_line_for_a_class() {
    let _others_wait = turn();
    let words = ["--json", "--", "sh", "-c", "echo noise; \"$@\"; exit $?", "sh"];
    let output = checker(&words).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&answer["passed"], &answer["of"], &answer["code"]),
        (&1.into(), &13.into(), &1.into())
    );
    let [run, hostname] = [0, 1].map(|nth| &answer["steps"][nth]);
    assert_eq!((&run["step"], &run["outcome"]), (&"run".into(), &"passed".into()));
    assert_eq!((&hostname["number"], &hostname["outcome"]), (&2.into(), &"not yet".into()));
    assert_eq!(hostname["seen"][0]["who"], "inside");
}

/// The reader's own package in a language that is not built.
fn package(name: &str, line: &str) -> PathBuf {
    let package = folder(name);
    save(&package, line);
    package
}

fn save(package: &Path, line: &str) {
    let new = package.join("new");
    fs::write(&new, format!("#!/bin/sh\n{line}\n")).expect("our own");
    fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("our own");
    fs::rename(new, package.join("run")).expect("our own"); // as editors do
}

#[test]
fn the_readers_own_program_has_to_choose_a_name() {
    let _others_wait = turn();
    for (line, code) in [
        ("exec unshare -ru \"$@\"", 1),
        ("exec unshare -ru sh -c 'hostname box; exec \"$@\"' sh \"$@\"", 0),
    ] {
        let package = package("own", line);
        let words = ["--step", "hostname", "--dir", package.to_str().expect("text")];
        let output = checker(&words).output().expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{line}: {}", said(&output));
    }
}

struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watch {
    /// Reads on until it has said this.
    fn until(&mut self, text: &str) {
        let (end, mut said) = (Instant::now() + DEADLINE, Vec::new());
        let output = self.0.stdout.as_mut().expect("a pipe");
        while !String::from_utf8_lossy(&said).contains(text) {
            let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            let left = end.saturating_duration_since(Instant::now());
            let ready = poll(&mut fds, PollTimeout::try_from(left).expect("seconds"));
            assert_eq!(ready, Ok(1), "{}", String::from_utf8_lossy(&said));
            let mut byte = [0];
            output.read_exact(&mut byte).expect("it goes on");
            said.extend(byte);
        }
    }
}

#[test]
fn watch_checks_again_when_a_file_is_saved_and_ctrl_c_ends_it() {
    let _others_wait = turn();
    let package = package("watched", "exit 3");
    let mut command = checker(&["--watch", "--dir", package.to_str().expect("text")]);
    let mut watch = Watch(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    watch.until("ended, exit status 3");
    watch.until("--hint\n");
    save(&package, "exec \"$@\"");
    watch.until("hostname  not yet");
    watch.until("--solution 1\n");
    // SAFETY: sends a signal to our child.
    unsafe { libc::kill(watch.0.id() as i32, libc::SIGINT) };
    watch.0.wait().expect("our child");
    until_nothing_is_left();
}

#[test]
fn a_program_is_taken_to_the_first_step_that_it_has_not_reached() {
    if !host::has("ip") {
        return;
    }
    let _others_wait = turn();
    let line =
        "unshare -rmpfuin --mount-proc sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"; exit $?";
    let mut command = checker(&["--", "sh", "-c", line, "sh"]);
    let output = host::run_as(&mut command, User::Ordinary).output().expect("it starts");
    let said = said(&output);
    assert!(said.contains("8 net passed") && said.contains("9 rootfs not yet"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
