//! The keeper of a terminal: the process between the server and what runs there. However a terminal
//! ends, also by the server's sudden death, its keeper ends all that was started in it.
//!
//! It leads the terminal's session and is what orphans there get as their parent: PR_SET_CHILD_SUBREAPER
//! of prctl(2). So whoever leaves the session, or starts a child and ends, still descends from it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use workbook::proc;
use workbook::programs::START;

/// Asks the keeper to end what it keeps.
pub const END: Signal = Signal::SIGTERM;
/// How long who is told that its terminal is gone may take. A lesson removes its cgroup then.
const GRACE: Duration = Duration::from_secs(1);
/// After this there is no grace for those that come to light only when their parent is gone.
const PATIENCE: Duration = Duration::from_secs(3);
/// What cannot be killed, as another user's process, is left to its end.
const DEADLINE: Duration = Duration::from_secs(6);
/// Between two looks at who is left.
const A_MOMENT: u16 = 20; // ms

/// Runs a command, then ends whatever it has left behind. Gives its exit code; of who was killed 128
/// and the signal's number, as shells do.
pub fn keep(words: &[OsString]) -> Result<ExitCode> {
    // What is typed, and what ends the terminal, is for the command. We only read what has come.
    let all = SigSet::all();
    all.thread_block()?;
    let mut signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let (program, arguments) = words.split_first().context("keep: no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    // What we block would stay blocked: execve(2) keeps that.
    let every_signal = || Ok(SigSet::empty().thread_set_mask()?);
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(every_signal) };
    let child = command.spawn().context(START)?;
    let mut kept = Kept { command: Pid::from_raw(child.id() as i32), code: None };
    let mut is_over = false;
    while kept.code.is_none() && !is_over {
        wait(&signals, PollTimeout::NONE)?;
        while let Some(signal) = signals.read_signal()? {
            let signal = Signal::try_from(signal.ssi_signo as i32);
            is_over |= matches!(signal, Ok(Signal::SIGHUP | END));
        }
        kept.reap();
    }
    kept.end(&mut signals)?;
    Ok(ExitCode::from(kept.code.unwrap_or(128 + Signal::SIGKILL as u8)))
}

fn wait(signals: &SignalFd, time: PollTimeout) -> nix::Result<()> {
    poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], time).map(drop)
}

struct Kept {
    command: Pid,
    code: Option<u8>,
}

impl Kept {
    /// Waits for those that have ended.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let code = match status {
                WaitStatus::Exited(pid, code) if pid == self.command => code as u8,
                WaitStatus::Signaled(pid, signal, _) if pid == self.command => 128 + signal as u8,
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            self.code = Some(code);
        }
    }

    /// Ends our children, and theirs, who become ours. Each is told once that its terminal is gone,
    /// and killed when it has had its time. Nobody but us waits for them, so a PID stays theirs.
    fn end(&mut self, signals: &mut SignalFd) -> Result<()> {
        let start = Instant::now();
        let mut told = HashMap::new();
        loop {
            self.reap();
            let children = proc::children(getpid())?;
            if children.is_empty() || start.elapsed() > DEADLINE {
                return Ok(());
            }
            for child in children {
                let pid = Pid::from_raw(child as i32);
                let since = *told.entry(child).or_insert_with(|| {
                    // Who is stopped hears it only when it goes on. Both may come too late.
                    let _ = kill(pid, Signal::SIGHUP).and_then(|()| kill(pid, Signal::SIGCONT));
                    Instant::now()
                });
                if since.elapsed() > GRACE || start.elapsed() > PATIENCE {
                    let _ = kill(pid, Signal::SIGKILL); // refused if it is another user's
                }
            }
            wait(signals, PollTimeout::from(A_MOMENT))?;
            while signals.read_signal()?.is_some() {}
        }
    }
}
