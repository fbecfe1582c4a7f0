//! The checker against programs that do what no program should: each is stopped, and told so, and
//! the host is as it was. And how the checker is asked, and how it ends.
//!
//! The programs are lines for sh(1). The command that they are given is in "$@".

#[path = "../../tests/host/mod.rs"]
mod host;

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use host::{Host, User};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use serde_json::Value;

/// Both kinds of user.
const USERS: [User; 2] = [User::Ordinary, User::Root];
/// Every process of a run has it in its environment, and passes it on.
const MARK: &str = "CHECK_TEST";
/// For what takes a moment.
const DEADLINE: Duration = Duration::from_secs(5);

/// One test at a time: no run must be blamed for the traces of another.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of this name, empty, that everybody may use.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder); // of the run before
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("our own");
    folder
}

fn checker(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exercises"));
    command.arg("check").args(words).env(MARK, "1").stdin(Stdio::null());
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    fs::create_dir_all(&state).expect("a folder");
    fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("our own");
    command.env("XDG_STATE_HOME", state);
    command
}

/// What the checker says of this line for sh(1), as this user, for one step: its exit code, its
/// words. The host must be as before.
fn check(user: User, step: &str, line: &str) -> (i32, String) {
    let before = facts();
    let mut command = checker(&["--step", step, "--", "sh", "-c", line, "sh"]);
    let output = host::run_as(&mut command, user).output().expect("it starts");
    assert_eq!(left(), Vec::<String>::new(), "{user:?}: {line}: left running");
    assert_eq!(facts(), before, "{user:?}: {line}: the host changed");
    (output.status.code().expect("not killed"), said(&output))
}

/// On one line, with single blanks.
fn said(output: &Output) -> String {
    let text = [&*output.stdout, &output.stderr].concat();
    String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a program on the stage may have changed.
fn facts() -> Vec<String> {
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
fn cgroups(hierarchy: String) -> Vec<String> {
    let folder = File::open(&hierarchy).expect("our list has it");
    let _locked = Flock::lock(folder, FlockArg::LockExclusive).expect("flock(2)");
    entries(hierarchy).into_iter().filter(|name| name.contains("workbook-check")).collect()
}

fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.map(|entry| entry.path().display().to_string()).collect();
    entries.sort();
    entries
}

/// The processes of a run that are still there.
fn left() -> Vec<String> {
    let is_one = |pid: &String| {
        let environment = fs::read(format!("{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|word| word == format!("{MARK}=1").as_bytes())
    };
    entries("/proc").into_iter().filter(is_one).collect()
}

/// What is killed goes in its own time.
fn until_nothing_is_left() {
    let end = Instant::now() + DEADLINE;
    while !left().is_empty() && Instant::now() < end {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[track_caller]
fn assert_told(step: &str, line: &str, wanted: &str) {
    let _others_wait = turn();
    for user in USERS {
        let (code, said) = check(user, step, line);
        assert_eq!(code, 1, "{user:?}: {line}: {said}");
        assert!(said.contains(wanted), "{user:?}: {line}: {said}");
    }
}

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
fn who_hangs_is_stopped_whatever_it_ignores_and_closes() {
    assert_told("run", "trap '' TERM HUP INT; exec >&- 2>&- <&-; sleep 100", "It had 10 seconds");
}

#[test]
fn who_forks_without_end_is_stopped() {
    assert_told("run", "b() { b | b & }; b; sleep 100", "processes without end");
    assert_told("run", "while :; do setsid sleep 100 & done", "processes without end");
}

#[test]
fn who_prints_without_end_is_stopped() {
    assert_told("run", "cat /dev/zero", "prints without end");
    assert_told("run", "yes >&2", "prints without end");
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

/// Root may rename the stage and mount on it: an ordinary user may not, as on a real host.
#[test]
fn what_reaches_the_host_is_told_and_undone() {
    let _others_wait = turn();
    let (code, said) = check(User::Root, "hostname", "hostname evil; \"$@\"; exit $?");
    assert!(code == 1 && said.contains("This name reached the host"), "{said}");
    let (code, said) =
        check(User::Root, "pid", "hostname evil; mount -t tmpfs x /mnt; \"$@\"; exit $?");
    assert!(code == 1 && said.contains("hostname, undone with the host = evil"), "{said}");
    assert!(said.contains("mounted on the host, undone with it = /mnt"), "{said}");
    // The stage's / is shared, as systemd makes it.
    let line = "unshare --mount --propagation unchanged \"$@\"; exit $?";
    let (code, said) = check(User::Root, "mounts", line);
    assert!(code == 1 && said.contains("This mount reached the host"), "{said}");
    assert_eq!(check(User::Root, "mounts", "unshare --mount \"$@\"; exit $?").0, 0);
    let (code, said) = check(User::Ordinary, "hostname", "hostname evil; \"$@\"; exit $?");
    assert!(code == 1 && said.contains("CLONE_NEWUTS is missing"), "{said}");
}

/// Where root may make cgroups it is the program's own to make one, below that of the stage.
#[test]
fn a_cgroup_that_is_left_goes_with_the_stage() {
    let _others_wait = turn();
    let Some(_may) = host::Cgroup::of(20).filter(|_| geteuid().is_root()) else { return };
    let line = "pids=/sys/fs/cgroup; [ -d $pids/pids ] && pids=$pids/pids
        mkdir -p $pids/box/below; echo +pids > $pids/cgroup.subtree_control
        echo 20 > $pids/box/pids.max; echo $$ > $pids/box/cgroup.procs; exec \"$@\"";
    let (code, said) = check(User::Root, "limits", line);
    assert_eq!(code, 0, "{said}");
    let (code, said) = check(User::Root, "limits", "exec \"$@\"");
    assert!(code == 1 && said.contains("pids.max = none"), "{said}");
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
fn nothing_is_left_when_the_checker_is_killed() {
    let _others_wait = turn();
    for user in USERS {
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
            let before = facts();
            let fifo = folder("killed").join("fifo");
            mkfifo(&fifo, Mode::from_bits_truncate(0o666)).expect("a fifo");
            fs::set_permissions(&fifo, Permissions::from_mode(0o666)).expect("our own");
            let line =
                format!("trap '' TERM INT; echo > {}; sleep 100 & sleep 100", fifo.display());
            let mut command = checker(&["--", "sh", "-c", &line, "sh"]);
            let mut run = host::run_as(&mut command, user).spawn().expect("it starts");
            let mut word = String::new();
            File::open(&fifo).expect("it opens it, too").read_to_string(&mut word).expect("text");
            kill(Pid::from_raw(run.id() as i32), signal).expect("our child");
            run.wait().expect("our child");
            until_nothing_is_left();
            assert_eq!(facts(), before, "{user:?}: {signal}");
        }
    }
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
    let saved = Instant::now();
    watch.until("hostname  not yet");
    assert!(saved.elapsed() < Duration::from_secs(1), "{:?}", saved.elapsed());
    watch.until("--solution 1\n");
    // SAFETY: sends a signal to our child.
    unsafe { libc::kill(watch.0.id() as i32, libc::SIGINT) };
    watch.0.wait().expect("our child");
    until_nothing_is_left();
}

/// All steps of a built program in less than 2 s.
#[test]
fn a_check_takes_no_time() {
    if let Err(refusal) = workbook::tool::find("ip") {
        assert!(std::env::var_os("CI").is_none(), "{refusal}");
        return eprintln!("not tried here: {refusal}");
    }
    let _others_wait = turn();
    let line =
        "unshare -rmpfuin --mount-proc sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"; exit $?";
    let start = Instant::now();
    let mut command = checker(&["--", "sh", "-c", line, "sh"]);
    let output = host::run_as(&mut command, User::Ordinary).output().expect("it starts");
    let took = start.elapsed();
    assert!(said(&output).contains("8 net passed"), "{}", said(&output));
    assert!(took < Duration::from_secs(2), "{took:?}");
}
