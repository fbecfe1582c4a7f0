//! How the program is started: in the stage's mounts, with pipes for its standard streams.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, chdir, setsid};
use workbook::cgroups::enter;
use workbook::host::{Named as _, errno};
use workbook::proc::pidfd;

use super::bounds::MOST_PROCESSES;
use super::finding::{Miss, Trouble};
use super::stage::Stage;

/// A program that has just been started.
pub struct Launched {
    /// Our child.
    pub pid: Pid,
    /// A file descriptor of it.
    pub fd: OwnedFd,
    /// What it reads.
    pub input: PipeWriter,
    /// Our copy of the end that it reads: without it we would get SIGPIPE.
    pub its_input: PipeReader,
    /// What it prints: standard output and standard error. A read does not wait.
    pub streams: [Option<PipeReader>; 2],
}

/// Starts a program as a shell would on the stage.
pub fn launch(stage: &Stage, words: &[String]) -> Result<Launched, Trouble> {
    let pipes = || pipe().named("pipe2(O_CLOEXEC)");
    let ((its_input, input), (output, out), (errors, err)) = (pipes()?, pipes()?, pipes()?);
    for fd in [output.as_fd(), errors.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).named("fcntl(F_SETFL, O_NONBLOCK)")?;
    }
    let also_its_input = its_input.try_clone().named("fcntl(F_DUPFD_CLOEXEC)")?;
    let mut run = Command::new(&words[0]);
    run.args(&words[1..]).stdin(also_its_input).stdout(out).stderr(err);
    let copy = |file: &File| file.try_clone().named("fcntl(F_DUPFD_CLOEXEC)");
    let (mounts, cgroups) = (copy(&stage.host)?, copy(&stage.cgroup.namespace)?);
    let doors = stage.cgroup.doors.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
    let (folder, most) = (stage.target.folder.clone(), most_processes());
    let as_from_a_shell = move || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
        setrlimit(Resource::RLIMIT_NPROC, soft.min(most), hard.min(most))?;
        // Should memory be short, then rather the program than the watcher, or others of the host.
        let _ = fs::write("/proc/self/oom_score_adj", "1000"); // or the kernel chooses
        // On the stage root may reboot(2): that would end the watcher. SAFETY: takes two integers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_BOOT) };
        enter(&doors)?;
        setns(&cgroups, CloneFlags::CLONE_NEWCGROUP)?;
        setns(&mounts, CloneFlags::CLONE_NEWNS)?; // this leads to their root, too
        chdir(&folder)?;
        setsid()?; // the reader's terminal is not its
        // SAFETY: takes three integers. What this process has open is not for the program. Before
        // Linux 5.11 there is no such flag, and what is open closes on exec anyway.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_ON_EXEC) };
        Ok(())
    };
    // SAFETY: the checker has one thread, so nobody else can hold a lock that the child might need.
    unsafe { run.pre_exec(as_from_a_shell) };
    let child = run.spawn().map_err(|error| not_started(&words[0], error))?;
    let pid = Pid::from_raw(child.id() as i32);
    let fd = pidfd(pid).named("pidfd_open(2)")?;
    Ok(Launched { pid, fd, input, its_input, streams: [Some(output), Some(errors)] })
}

/// linux/capability.h
const CAP_SYS_BOOT: libc::c_ulong = 22;
/// linux/close_range.h
const CLOSE_ON_EXEC: u32 = 1 << 2;

/// For RLIMIT_NPROC, which counts the threads of a user, who may have others: all threads that
/// there are, the fourth field of proc_loadavg(5), and as many more as no program needs.
fn most_processes() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads = text.split([' ', '/']).nth(4).and_then(|threads| threads.parse().ok());
    threads.map_or(libc::RLIM_INFINITY, |threads: u64| threads + 2 * MOST_PROCESSES as u64)
}

fn not_started(word: &str, error: io::Error) -> Miss {
    let errno = errno(error);
    let mistake = match errno {
        Errno::ENOENT => "There is no such program.",
        Errno::EACCES => "The file may not be run: chmod +x.",
        Errno::ENOEXEC => "The file is no program: a script begins with #! and its interpreter.",
        _ => "",
    };
    Miss::that(mistake).program(format!("execve({word:?})"), format!("-1 {errno:?}"))
}
