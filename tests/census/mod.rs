//! What a run must leave as it found it, and the processes it must not leave at all.
//!
//! The test process is the reaper of its descendants: whatever a run leaves behind becomes its
//! child, no matter what it did to its environment, group or session. So waitpid(2) says when
//! nothing is left, and what other programs of the host do meanwhile does not disturb.
//!
//! A namespace lives while it has a member, an open fd, a bind mount or a child namespace:
//! namespaces(7). With no process and no mount left, no namespace is left either.
//!
//! On a host of our own, see [`on_a_host_of_our_own`], every list must be the same as before. On the
//! real one other programs change them, so there only what a lesson would leave counts.

#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, ptr};

use nix::errno::Errno;
use nix::libc;
use nix::pty::openpty;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::termios::tcgetattr;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setsid, tcgetpgrp};

use crate::lessons;

const A_MOMENT: Duration = Duration::from_millis(10);

/// The program that a test looks at on a host of its own. Set for a test that runs there.
pub const WORKER: &str = "TRACES_WORKER";

/// Files that are the same, line by line.
const FILES: [&str; 9] = [
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/self/mountinfo",
    "/proc/self/net/fib_trie", // addresses and routes
    "/proc/self/net/if_inet6",
    "/proc/self/net/ip_tables_names",
    "/proc/sysvipc/msg",
    "/proc/sysvipc/sem",
    "/proc/sysvipc/shm",
];
/// Of each line the words that are no counters.
const TABLES: [(&str, usize); 2] = [("/proc/self/net/dev", 1), ("/proc/self/net/ipv6_route", 5)];
/// Folders whose files are objects of the whole host.
const OBJECTS: [&str; 2] = ["/dev/mqueue", "/dev/shm"];

/// How the facts begin that are a run's doing also where others are: what nobody else changes, then
/// ipc-demo's key 42 and its names, veth-demo's interfaces.
const OURS: [&str; 8] = [
    "/proc/sys/",
    "/proc/self/mountinfo",
    "/proc/sysvipc/msg: 42 ",
    "/dev/mqueue/queue",
    "/dev/shm/memory",
    "/proc/self/net/dev: br0:",
    "/proc/self/net/dev: vA:",
    "/proc/self/net/dev: vB:",
];

/// The programs that show what no file does: rules of the firewall and of the routes.
const RULES: [&str; 3] = ["nft list ruleset", "ip rule", "ip -6 rule"];

/// One test's turn, for all that it starts: no run must be blamed for the traces of another.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does nobody but us change anything here?
pub fn on_a_host_of_our_own() -> bool {
    env::var_os(WORKER).is_some()
}

/// What can be seen of the host, a fact a line.
pub struct Census {
    folder: PathBuf,
    facts: BTreeSet<String>,
}

impl Census {
    /// Looks at the host, and at the folder that the run works in.
    pub fn take(folder: &Path) -> Self {
        set_child_subreaper(true).expect("PR_SET_CHILD_SUBREAPER, since Linux 3.4");
        let mut facts = BTreeSet::new();
        for (file, words) in FILES.map(|file| (file, usize::MAX)).into_iter().chain(TABLES) {
            for line in text(file).lines() {
                let line: Vec<_> = line.split_whitespace().take(words).collect();
                facts.insert(format!("{file}: {}", line.join(" ")));
            }
        }
        let objects = OBJECTS.into_iter().flat_map(entries);
        facts.extend(objects.chain(cgroups()).map(|file| file.display().to_string()));
        if !on_a_host_of_our_own() {
            facts.retain(|fact| OURS.iter().any(|ours| fact.starts_with(ours)));
        }
        facts.extend(namespaces(getpid()));
        let temporary = entries(env::temp_dir()).filter(|file| is_ours(file));
        let files = temporary.chain(entries(folder));
        facts.extend(files.map(|file| format!("file {}", file.display())));
        facts.extend(terminal());
        Self { folder: folder.to_path_buf(), facts }
    }

    /// Is all as it was, and no process left? What was killed has until the deadline to go. With
    /// a deadline of zero there may be nothing to wait for, not even a zombie.
    pub fn assert_same_within(&self, deadline: Duration, run: &str) {
        let left = processes_left(deadline);
        assert!(left.is_empty(), "{run}: left running\n  {}", left.join("\n  "));
        let now = Self::take(&self.folder).facts;
        let gone = self.facts.difference(&now).map(|fact| format!("- {fact}"));
        let new = now.difference(&self.facts).map(|fact| format!("+ {fact}"));
        let changed = gone.chain(new).collect::<Vec<_>>().join("\n  ");
        assert!(changed.is_empty(), "{run}: the host changed\n  {changed}");
    }
}

/// A file of /proc; or why not, for a mount over /proc is one of the things to be found.
fn text(file: &str) -> String {
    let text = fs::read_to_string(file);
    text.map_or_else(|error| error.to_string(), |text| text.trim_end().to_string())
}

fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Would a lesson call a file of the whole host so? Or doctor? Or LXC, for the two containers of
/// lxc-demo? A worker has one program, for others have workers at the same time.
fn is_ours(file: &Path) -> bool {
    // Asked of every file of a census, thousands of times.
    static PROGRAMS: OnceLock<Vec<String>> = OnceLock::new();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let all = || [lessons::names(), vec!["workbook".to_string()]].concat();
    let programs = || env::var(WORKER).map_or_else(|_| all(), |program| vec![program]);
    let programs = PROGRAMS.get_or_init(programs);
    let is_lxcs = name.starts_with("lxc.") && (name.ends_with(".sys") || name.ends_with(".app"));
    is_lxcs || programs.iter().any(|program| name.starts_with(program))
}

/// The cgroups at the top of each hierarchy, and those below our own, that are called as ours would
/// be: all programs of the host may make some.
fn cgroups() -> BTreeSet<PathBuf> {
    let (mounts, ours) = (text("/proc/self/mountinfo"), text("/proc/self/cgroup"));
    let hierarchies = mounts.lines().filter(|mount| mount.contains(" - cgroup"));
    let ours: Vec<_> = ours.lines().filter_map(|line| line.split(":/").nth(1)).collect();
    let mut cgroups = BTreeSet::new();
    for top in hierarchies.filter_map(|mount| mount.split(' ').nth(4)).map(Path::new) {
        let folders = ours.iter().flat_map(|path| entries(top.join(path)));
        cgroups.extend(entries(top).chain(folders).filter(|folder| is_ours(folder)));
    }
    cgroups
}

/// The namespaces of a process that we may look into: `uts:[4026531838]`.
fn namespaces(pid: Pid) -> BTreeSet<String> {
    let targets = entries(format!("/proc/{pid}/ns")).flat_map(fs::read_link);
    targets.map(|target| target.display().to_string()).collect()
}

/// The modes of our own terminal, and the group in its foreground: termios(3), tcgetpgrp(3).
fn terminal() -> Option<String> {
    let terminal = File::open("/dev/tty").ok().filter(|_| on_a_host_of_our_own())?;
    Some(format!("terminal {:?} {:?}", tcgetpgrp(&terminal), tcgetattr(&terminal)))
}

/// What these programs show, of those that are installed.
pub fn rules() -> String {
    let run = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap_or_default()).args(words).output();
        output.map_or(String::new(), |shown| String::from_utf8_lossy(&shown.stdout).into_owned())
    };
    RULES.map(run).concat()
}

/// Makes us what a reader's shell is: the leader of a session that has a terminal, this one. What
/// is written here is typed there. To set its foreground does not stop us, and its end does not
/// end us: tcsetpgrp(3), setsid(2).
pub fn terminal_of_our_own() -> File {
    for ignored in [Signal::SIGTTOU, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }.expect("a signal");
    }
    let pty = openpty(None, None).expect("a terminal");
    setsid().expect("nobody's leader");
    // SAFETY: takes an open file and a number.
    let controls = unsafe { libc::ioctl(pty.slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(controls).expect("ioctl(TIOCSCTTY)");
    pty.master.into()
}

/// All below a process, zombies too.
pub fn descendants_of(pid: Pid) -> Vec<Pid> {
    let children = children_of(pid);
    let others = children.iter().flat_map(|child| descendants_of(*child));
    others.chain(children.iter().copied()).collect()
}

/// The children of a process, zombies too: proc_pid_task(5), CONFIG_PROC_CHILDREN.
pub fn children_of(pid: Pid) -> Vec<Pid> {
    let lists = entries(format!("/proc/{pid}/task")).map(|task| task.join("children"));
    let lists: String = lists.flat_map(fs::read_to_string).collect();
    lists.split_whitespace().flat_map(str::parse).map(Pid::from_raw).collect()
}

/// Reaps what a run left to us. What is there at the deadline is described, and killed, so that
/// the next test starts with nothing.
pub fn processes_left(deadline: Duration) -> Vec<String> {
    let end = Instant::now() + deadline;
    let mut left = Vec::new();
    loop {
        let children = children_of(getpid());
        if Instant::now() >= end && left.is_empty() {
            left.extend(children.iter().map(|pid| describe(*pid)));
        }
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return left,
            Ok(WaitStatus::StillAlive) => {}
            ended => {
                ended.expect("waitpid(2)");
                continue;
            }
        }
        let hidden = children.is_empty() && end.elapsed() > Duration::from_secs(5);
        assert!(!hidden, "a process is left that /proc does not show");
        for child in children.into_iter().filter_map(Pidfd::open) {
            if !left.is_empty() {
                child.send(Signal::SIGKILL);
            }
            // One after the other, but not for long: PID 1 of a namespace ends only when whoever
            // else was there has been reaped, and that may be for us to do.
            child.ended_within(end.saturating_duration_since(Instant::now()).min(A_MOMENT));
        }
    }
}

/// Number, name and state, and the namespaces that are not ours.
fn describe(pid: Pid) -> String {
    let stat = text(&format!("/proc/{pid}/stat"));
    let its = &namespaces(pid) - &namespaces(getpid());
    format!("{} in {its:?}", stat.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// A process, whoever gets its number later: pidfd_open(2), since Linux 5.3.
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// `None` when there is no such process any more.
    pub fn open(pid: Pid) -> Option<Self> {
        // SAFETY: takes two integers and makes a file descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        match Errno::result(fd) {
            // SAFETY: the kernel just made it, and nobody else has it.
            Ok(fd) => Some(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
            Err(Errno::ESRCH) => None,
            Err(errno) => panic!("pidfd_open({pid}): {errno}"),
        }
    }

    /// Sends a signal, unless the process has ended.
    pub fn send(&self, signal: Signal) {
        let (call, fd) = (libc::SYS_pidfd_send_signal, self.0.as_raw_fd());
        // SAFETY: the fd is open; without a siginfo_t the kernel makes the one of kill(2).
        let sent = unsafe { libc::syscall(call, fd, signal as i32, ptr::null::<u8>(), 0) };
        let sent = Errno::result(sent);
        assert!(matches!(sent, Ok(_) | Err(Errno::ESRCH)), "{signal}: {sent:?}");
    }

    /// Waits for its end: a zombie has ended, too.
    pub fn ended_within(&self, time: Duration) -> bool {
        ready_within(&self.0, time)
    }
}

/// Waits until a read would not block: ppoll(2).
pub fn ready_within(file: &impl AsFd, time: Duration) -> bool {
    let fd = file.as_fd().as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let (tv_sec, tv_nsec) = (time.as_secs() as _, time.subsec_nanos() as _);
    let time = libc::timespec { tv_sec, tv_nsec };
    // SAFETY: both structs live until it returns, and NULL leaves the signal mask as it is.
    let ready = unsafe { libc::ppoll(&mut poll, 1, &time, ptr::null()) };
    Errno::result(ready).expect("ppoll(2)") > 0
}
