//! The checker as the tests run it: a process of its own, after which the host must be as before.

#![allow(dead_code)] // each test file uses its own part

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::host::{self, User};

/// Both kinds of user.
pub const USERS: [User; 2] = [User::Ordinary, User::Root];
/// Every process that we start has it in its environment, and passes it on. Other runs of the tests
/// have another.
pub fn mark() -> String {
    format!("CHECK_TEST_{}", process::id())
}

/// For what takes a moment.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// One test at a time: no run must be blamed for the traces of another.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of this name, empty, that everybody may use.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder); // of the run before
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("our own");
    folder
}

pub fn checker(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exercises"));
    command.arg("check").args(words).env(mark(), "1").stdin(Stdio::null());
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    fs::create_dir_all(&state).expect("a folder");
    fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("our own");
    command.env("XDG_STATE_HOME", state);
    command
}

/// What the checker says of this line for sh(1), as this user, for one step: its exit code, its
/// words. The host must be as before.
pub fn check(user: User, step: &str, line: &str) -> (i32, String) {
    let before = facts();
    let mut command = checker(&["--step", step, "--", "sh", "-c", line, "sh"]);
    let output = host::run_as(&mut command, user).output().expect("it starts");
    assert_eq!(left(), Vec::<String>::new(), "{user:?}: {line}: left running");
    assert_eq!(facts(), before, "{user:?}: {line}: the host changed");
    (output.status.code().expect("not killed"), said(&output))
}

/// On one line, with single blanks.
pub fn said(output: &Output) -> String {
    let text = [&*output.stdout, &output.stderr].concat();
    String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a program on the stage may have changed.
pub fn facts() -> Vec<String> {
    let files = ["/proc/sys/kernel/hostname", "/proc/self/mountinfo", "/proc/self/cgroup"];
    let mut facts: Vec<_> = files.iter().flat_map(fs::read_to_string).collect();
    let interfaces = fs::read_to_string("/proc/self/net/dev").expect("proc(5)");
    facts.extend(interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.to_string())));
    facts.extend(entries("/dev/shm"));
    let hierarchies = entries("/sys/fs/cgroup").into_iter().chain(["/sys/fs/cgroup".to_string()]);
    facts.extend(hierarchies.flat_map(cgroups));
    facts
}

/// Those of ours in a hierarchy. Somebody else may check something just now: then we wait for it.
pub fn cgroups(hierarchy: String) -> Vec<String> {
    let folder = File::open(&hierarchy).expect("our list has it");
    let _locked = Flock::lock(folder, FlockArg::LockExclusive).expect("flock(2)");
    entries(hierarchy).into_iter().filter(|name| name.contains("workbook-check")).collect()
}

pub fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.map(|entry| entry.path().display().to_string()).collect();
    entries.sort();
    entries
}

/// The processes of a run that are still there.
pub fn left() -> Vec<String> {
    let mark = format!("{}=1", mark());
    let is_one = |pid: &String| {
        let environment = fs::read(format!("{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    entries("/proc").into_iter().filter(is_one).collect()
}

/// What is killed goes in its own time.
pub fn until_nothing_is_left() {
    let end = Instant::now() + DEADLINE;
    while !left().is_empty() && Instant::now() < end {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[track_caller]
pub fn assert_told(step: &str, line: &str, wanted: &str) {
    let _others_wait = turn();
    for user in USERS {
        let (code, said) = check(user, step, line);
        assert_eq!(code, 1, "{user:?}: {line}: {said}");
        assert!(said.contains(wanted), "{user:?}: {line}: {said}");
    }
}
