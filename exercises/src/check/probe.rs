//! The command that the program under test is given: an interpreter of a few words. It is there to
//! be looked at, so it does little, and what it says counts only where nobody else can know.
//!
//! It reads a word a line from standard input, and answers each with a line on standard output. Its
//! lines begin with a token, which is also among its arguments: so they are told from what the
//! program prints, and it is found from outside.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _, stdin};
use std::mem::zeroed;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use workbook::host::errno;

/// Its name among the commands of this program, which no reader types.
pub const NAME: &str = "probe";
/// Between the parts of an answer that has several.
pub const PART: char = '\u{1f}';
/// What an answer begins with that no word has asked for: the name of the signal follows.
pub const SIGNAL: &str = "signal";

/// The calls that make a namespace.
pub const UNSHARE: &str = "unshare";
/// This one has its flags in a register, beside the signal of its end.
pub const CLONE: &str = "clone";
/// And this one in memory.
pub const CLONE3: &str = "clone3";

/// The whole life of the probe. Gives its exit status.
pub fn run(arguments: &[String]) -> nix::Result<u8> {
    let token = arguments.first().cloned().unwrap_or_default();
    // SIGTERM is taken as a message: PID 1 of a container gets no signal that it has not asked for.
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
    say(&token, &format!("{}{PART}{}", getpid(), arguments.join(&PART.to_string())))?;
    let mut words = BufReader::with_capacity(1, stdin()); // poll(2) knows nothing of a buffer
    loop {
        let (input, asked) = (stdin(), PollFlags::POLLIN);
        let mut fds = [PollFd::new(input.as_fd(), asked), PollFd::new(signals.as_fd(), asked)];
        poll(&mut fds, PollTimeout::NONE)?;
        if fds[1].any() == Some(true) {
            signals.read_signal()?;
            say(&token, &format!("{SIGNAL} SIGTERM"))?;
            continue;
        }
        let mut word = String::new();
        words.read_line(&mut word).map_err(errno)?;
        match word.trim_end().split_once(' ').unwrap_or((word.trim_end(), "")) {
            ("", _) => return Ok(0), // the end of the file
            ("exit", status) => return Ok(status.parse().unwrap_or(1)),
            ("fork", _) => say(&token, &result(forks(1)))?,
            ("forks", most) => say(&token, &result(forks(most.parse().unwrap_or(1))))?,
            ("orphan", _) => say(&token, &orphan())?,
            ("namespaces", how) => say(&token, &in_a_child(|| namespaces(how)))?,
            (other, _) => say(&token, &format!("no word of mine: {other}"))?,
        }
    }
}

/// A whole line in one write(2).
fn say(token: &str, answer: &str) -> nix::Result<()> {
    let answer = answer.replace('\n', " ");
    io::stdout().write_all(format!("{token} {answer}\n").as_bytes()).map_err(errno)?;
    io::stdout().flush().map_err(errno)
}

/// How often it went well, and the errno of the first that did not.
fn result((times, last): (usize, nix::Result<()>)) -> String {
    format!("{times} {}", last.err().map_or("0".to_string(), |errno| format!("{errno:?}")))
}

/// fork(2), until it is refused or as often as this. The children wait until all are there.
fn forks(most: usize) -> (usize, nix::Result<()>) {
    let Ok((mut wait, go)) = io::pipe() else { return (0, Err(Errno::EMFILE)) };
    let (mut children, mut last, mut go) = (Vec::new(), Ok(()), Some(go));
    while children.len() < most && last.is_ok() {
        // SAFETY: the probe has one thread.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(go.take()); // our copy, or there would be no end of the file
                let _ = wait.read(&mut [0]);
                exit(0);
            }
            Ok(ForkResult::Parent { child }) => children.push(child),
            Err(errno) => last = Err(errno),
        }
    }
    drop(go);
    for child in &children {
        let _ = waitpid(*child, None); // our own, and nobody else waits for it
    }
    (children.len(), last)
}

/// A child that makes a child and ends. The orphan becomes the child of this namespace's PID 1, or
/// of a subreaper: getppid() says when. Then it ends, too, and we see that: the end of a file.
fn orphan() -> String {
    let Ok((mut ended, orphans)) = io::pipe() else { return shown(Errno::EMFILE) };
    let made = in_a_child(|| {
        let parent = getpid();
        // SAFETY: as above.
        if let ForkResult::Child = unsafe { fork() }? {
            while getppid() == parent {
                std::thread::yield_now();
            }
            exit(0);
        }
        Ok(())
    });
    drop(orphans);
    let _ = ended.read(&mut [0]);
    made
}

/// Asks the kernel for new namespaces, by one of the three calls.
fn namespaces(words: &str) -> nix::Result<()> {
    let (call, flags) = words.split_once(' ').ok_or(Errno::ENOSYS)?;
    let flags: u64 = flags.parse().map_err(|_| Errno::ENOSYS)?;
    let exit_signal = libc::SIGCHLD as u64;
    let came = match call {
        // SAFETY: takes a number.
        UNSHARE => unsafe { libc::syscall(libc::SYS_unshare, flags) },
        // SAFETY: without CLONE_VM, and without a stack, the child has a copy of ours, as after
        // fork(2).
        CLONE => unsafe { libc::syscall(libc::SYS_clone, flags | exit_signal, 0, 0, 0, 0) },
        _ => {
            // SAFETY: numbers and addresses, all of which may be 0.
            let args = libc::clone_args { flags, exit_signal, ..unsafe { zeroed() } };
            // SAFETY: as for clone(2).
            unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) }
        }
    };
    match Errno::result(came)? {
        0 => Ok(()), // a child, too
        child => waitpid(Pid::from_raw(child as i32), None).map(drop),
    }
}

/// In a child, so that nothing of it lasts. What came of it, as strace(1) shows it: the child's exit
/// status is the errno. A filter may also kill who calls.
fn in_a_child(work: impl FnOnce() -> nix::Result<()>) -> String {
    // SAFETY: as above.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => exit(work().err().map_or(0, |errno| errno as i32)),
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => "0".to_string(),
            Ok(WaitStatus::Exited(_, errno)) => shown(Errno::from_raw(errno)),
            Ok(WaitStatus::Signaled(_, signal, _)) => signal.to_string(),
            _ => shown(Errno::ECHILD),
        },
        Err(errno) => shown(errno),
    }
}

/// What a call gave that was refused.
fn shown(errno: Errno) -> String {
    format!("-1 {errno:?}")
}

fn exit(status: i32) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(status) }
}
