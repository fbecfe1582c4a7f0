//! What a run must leave as it found it, and the processes it must not leave at all.
//!
//! The test process is the reaper of its descendants: whatever a run leaves behind becomes its
//! child, no matter what it did to its environment, group or session. So waitpid(2) says when
//! nothing is left, and what other programs of the host do meanwhile does not disturb.
//!
//! A namespace lives while it has a member, an open fd, a bind mount or a child namespace:
//! namespaces(7). With no process and no mount left, no namespace is left either.

#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, ptr};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::lessons;

const A_MOMENT: Duration = Duration::from_millis(10);

/// One test's turn, for all that it starts: no run must be blamed for the traces of another.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
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
        for file in ["/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"] {
            facts.insert(format!("{file} {}", text(file)));
        }
        facts.extend(text("/proc/self/mountinfo").lines().map(|mount| format!("mount {mount}")));
        facts.extend(namespaces(getpid()));
        // What outlives its maker, or is the whole host's: ipc-demo's key 42 and names, veth-demo's
        // interfaces.
        let queues = text("/proc/sysvipc/msg");
        let queues = queues.lines().filter(|line| line.trim_start().starts_with("42 "));
        facts.extend(queues.map(|queue| format!("queue {queue}")));
        let objects = ["/dev/mqueue/queue", "/dev/shm/memory"].into_iter().map(Path::new);
        facts.extend(objects.filter(|f| f.exists()).map(|f| format!("file {}", f.display())));
        let network = text("/proc/net/dev");
        let names = network.lines().filter_map(|line| line.trim_start().split_once(':'));
        let names = names.map(|(name, _)| name).filter(|name| ["br0", "vA", "vB"].contains(name));
        facts.extend(names.map(|name| format!("interface {name}")));
        let temporary = entries(env::temp_dir()).filter(|file| is_ours(file));
        let files = temporary.chain(entries(folder));
        facts.extend(files.map(|file| format!("file {}", file.display())));
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

/// Would a lesson, or the workbook, call a temporary file so?
fn is_ours(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("workbook") || lessons::names().iter().any(|lesson| name.starts_with(lesson))
}

/// The namespaces of a process that we may look into: `uts:[4026531838]`.
fn namespaces(pid: Pid) -> BTreeSet<String> {
    let targets = entries(format!("/proc/{pid}/ns")).flat_map(fs::read_link);
    targets.map(|target| target.display().to_string()).collect()
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
