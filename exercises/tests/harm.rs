//! The checker against programs that do what no program should: each is stopped, and told so, and
//! the host is as it was.
//!
//! The programs are lines for sh(1). The command that they are given is in "$@".

mod checker;
#[path = "../../tests/host/mod.rs"]
mod host;

use std::env;
use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use checker::{
    USERS, assert_told, check, checker, facts, folder, mark, said, turn, until_nothing_is_left,
};
use host::{Host, User};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};

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

/// Threads are counted, and root's, too, where there is no cgroup to count them.
#[test]
fn who_starts_threads_without_end_is_stopped() {
    if !host::has("python3") {
        return;
    }
    let line = "exec python3 -c 'import threading, time
while True: threading.Thread(target=time.sleep, args=(100,)).start()'";
    assert_told("run", line, "processes without end");
    let _others_wait = turn();
    let mut command = checker(&["--step", "run", "--", "sh", "-c", line, "sh"]);
    let run_on = if geteuid().is_root() { host::run_on_as_root } else { host::run_on };
    let output = run_on(&mut command, Host::NoCgroup).output().expect("it starts");
    assert!(said(&output).contains("processes without end"), "{}", said(&output));
}

#[test]
fn who_takes_memory_without_end_is_stopped() {
    let wanted = "takes memory without end";
    assert_told("run", "tail /dev/zero", wanted);
    // Each of them has no more than a program may.
    let several = "for nth in 1 2 3 4 5 6 7 8; do perl -e '$x = 1 x 1e8; sleep 100' & done; wait";
    assert_told("run", several, wanted);
}

/// After fork(2) all have the same pages: these are counted once.
#[test]
fn who_shares_memory_takes_it_once() {
    let line = "exec perl -e '$x = 1 x 3e7; for (1..20) { fork or do { sleep 100; exit } }
        exec @ARGV' -- \"$@\"";
    let _others_wait = turn();
    for user in USERS {
        let (code, said) = check(user, "run", line);
        assert_eq!(code, 0, "{user:?}: {said}");
    }
}

/// A file in memory is no process's. A cgroup counts it.
#[test]
fn who_fills_a_file_system_in_memory_is_stopped() {
    let _others_wait = turn();
    let Some(_may) = host::Cgroup::of(20).filter(|_| geteuid().is_root()) else { return };
    let line = "mount -t tmpfs -o size=4g tmpfs /mnt; cat /dev/zero >/mnt/file; exit 3";
    let (code, said) = check(User::Root, "run", line);
    assert!(code == 1 && said.contains("takes memory without end"), "{said}");
}

/// What has no namespace is the host's. Each of these would leave it as it is, if it were allowed.
const FOR_ROOT_OF_THE_HOST: [&str; 7] = [
    "date --set \"$(date)\"",
    "v=$(cat /proc/sys/kernel/core_pattern) && echo \"$v\" >/proc/sys/kernel/core_pattern",
    "v=$(cat /proc/sys/vm/swappiness) && echo \"$v\" >/proc/sys/vm/swappiness",
    "unshare --mount --pid --fork --mount-proc \
        sh -c 'v=$(cat /proc/sys/vm/swappiness) && echo \"$v\" >/proc/sys/vm/swappiness'",
    "unshare --user --map-root-user \
        sh -c 'v=$(cat /proc/sys/vm/swappiness) && echo \"$v\" >/proc/sys/vm/swappiness'",
    "busybox reboot -f",
    "mknod /dev/shm/disk b 8 0",
];

#[test]
fn what_only_root_of_the_host_may_is_refused() {
    let _others_wait = turn();
    for attempt in FOR_ROOT_OF_THE_HOST {
        let line = format!("if {attempt}; then echo harmed >&2; else echo refused >&2; fi; exit 3");
        let (_, said) = check(User::Root, "run", &line);
        assert!(said.contains("said last = refused"), "{attempt}: {said}");
    }
}

/// Without MS_BIND the options of a mount are those of its file system, wherever it is mounted.
#[test]
fn the_file_systems_of_the_host_keep_their_options() {
    let _others_wait = turn();
    let host = "mount -t tmpfs tmpfs /mnt; \"$@\"; touch /mnt/file && echo writable";
    let line = "if mount -o remount,ro /mnt; then echo harmed; else echo refused; fi >&2; exit 3";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", host, "sh", env!("CARGO_BIN_EXE_exercises"), "check"]);
    command.args(["--step", "run", "--", "sh", "-c", line, "sh"]).stdin(Stdio::null());
    command.env("XDG_STATE_HOME", folder("state")).env(mark(), "1");
    let output = host::run_as(&mut command, User::Root).output().expect("it starts");
    assert!(said(&output).contains("said last = refused"), "{}", said(&output));
    assert!(said(&output).ends_with("writable"), "{}", said(&output));
}
