//! What is seen of a process from the stage: the kernel's word, not the process's.

use std::fs::{self, File};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlink};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, stat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use workbook::host::{Named as _, Refusal, errno};
use workbook::proc::{self, pidfd};
use workbook::roots::identity;

use super::finding::{Trouble, gone};
use super::stage::Stage;

/// A process of the container, by its PID on the stage.
pub struct View {
    /// Its PID on the stage.
    pub pid: Pid,
    /// Stays its own when the number has become another's.
    pub fd: OwnedFd,
}

impl View {
    /// The probe with this token that says that its PID is this: found by its file, which is ours,
    /// and by what the kernel says of its PIDs.
    pub fn of_probe(stage: &Stage, token: &str, says: &str) -> Result<Option<Self>, Refusal> {
        let is_it = |pid: &u32| {
            let file = format!("/proc/{pid}/exe");
            let is_ours = identity(&file).is_ok_and(|file| stage.probes.contains(&file));
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let has_token = words.split(|byte| *byte == 0).any(|word| word == token.as_bytes());
            let is_named = proc::nspid(pid).is_ok_and(|pids| pids.rsplit(' ').next() == Some(says));
            is_ours && has_token && is_named
        };
        // First the file descriptor, and then the look: what it is of may have ended between them,
        // but it is no other process.
        let view = |pid: u32| {
            let its = Pid::from_raw(pid as i32);
            let view = Self { pid: its, fd: pidfd(its).ok()? };
            is_it(&pid).then_some(view)
        };
        Ok(proc::pids()?.into_iter().find_map(view))
    }

    /// Its namespace of this kind, such as `uts:[4026531838]`.
    pub fn namespace(&self, kind: &str) -> Result<String, Trouble> {
        self.link(&format!("ns/{kind}"))
    }

    /// Its /: the device, and the inode.
    pub fn root(&self) -> Result<(u64, u64), Trouble> {
        let root = stat(&*format!("/proc/{}/root/", self.pid)).map_err(gone)?;
        Ok((root.st_dev, root.st_ino))
    }

    /// Where a link in its folder of `/proc` leads.
    pub fn link(&self, link: &str) -> Result<String, Trouble> {
        let file = format!("/proc/{}/{link}", self.pid);
        let target = readlink(&*file).map_err(gone)?;
        Ok(target.display().to_string())
    }

    /// A file in its folder of `/proc`.
    pub fn file(&self, name: &str) -> Result<String, Trouble> {
        let text = fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        text.map_err(|error| gone(errno(error)))
    }

    /// A field of its status, such as `NSpid`: proc_pid_status(5). Blanks are single.
    pub fn status(&self, field: &str) -> Result<String, Trouble> {
        let status = self.file("status")?;
        Ok(proc::field(&status, field).unwrap_or_default())
    }

    /// Does something in this process's namespace of one kind. What the process itself may do does
    /// not matter. Gives what came of it.
    pub fn visit(
        &self,
        kind: &str,
        work: impl FnOnce() -> nix::Result<String>,
    ) -> Result<nix::Result<String>, Trouble> {
        let file = File::open(format!("/proc/{}/ns/{kind}", self.pid));
        Ok(visit(&file.map_err(|_| gone(Errno::ESRCH))?, work)?)
    }

    /// The mounts in its mount namespace, a line each: those that can be seen from the root of it,
    /// wherever the process's own may be.
    pub fn mounts(&self) -> Result<Vec<String>, Trouble> {
        let file = File::open(format!("/proc/{}/ns/mnt", self.pid));
        Ok(mounts_in(&file.map_err(|_| gone(Errno::ESRCH))?)?)
    }
}

/// Does something in a namespace, in a child that joins it: the watcher may, for what is in its
/// user namespace or below it is its own.
fn visit(
    namespace: &File,
    work: impl FnOnce() -> nix::Result<String>,
) -> Result<nix::Result<String>, Refusal> {
    let (mut told, mut tell) = pipe().named("pipe2(O_CLOEXEC)")?;
    // SAFETY: the checker has one thread.
    let child = match unsafe { fork() }.named("fork()")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let joined = setns(namespace, CloneFlags::empty()); // the file says which
            let came = joined.and_then(|()| work());
            let _ = tell.write_all(came.as_deref().unwrap_or_default().as_bytes());
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(came.err().map_or(0, |errno| errno as i32)) }
        }
    };
    drop(tell);
    let mut text = String::new();
    told.read_to_string(&mut text).named("read(2)")?;
    Ok(match waitpid(child, None).named("waitpid(2)")? {
        WaitStatus::Exited(_, 0) => Ok(text),
        WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
        _ => Err(Errno::ECHILD),
    })
}

/// The mounts in a mount namespace, a line each: proc_pid_mountinfo(5), read in our own `/proc`.
/// There may be none, or anything, in that namespace.
pub fn mounts_in(namespace: &File) -> Result<Vec<String>, Refusal> {
    let proc = open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let proc = proc.named("open(\"/proc\")")?;
    let text = visit(namespace, || {
        let mut text = String::new();
        let file = openat(&proc, "self/mountinfo", OFlag::O_RDONLY, Mode::empty())?;
        let read = File::from(file).read_to_string(&mut text);
        read.map(|_| text).map_err(|_| Errno::EIO)
    })?;
    Ok(text.named("open(\"/proc/self/mountinfo\")")?.lines().map(str::to_string).collect())
}

/// The mount point in such a line: its fifth field.
pub fn mount_point(line: &str) -> &str {
    line.split(' ').nth(4).unwrap_or_default()
}

/// kill(2) by such a file descriptor.
pub fn send(pidfd: &OwnedFd, signal: Signal) -> nix::Result<()> {
    let (call, fd, none) = (libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), ptr::null::<u8>());
    // SAFETY: the fd is open; without a siginfo_t the kernel makes the one of kill(2).
    Errno::result(unsafe { libc::syscall(call, fd, signal as i32, none, 0) }).map(drop)
}
