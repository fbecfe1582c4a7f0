//! Two processes that take turns. Outside prints; inside acts and tells over a pipe what it saw.
//!
//! ```text
//! outside                                inside
//! Inside::start  ------- go on ------->  Outside::live
//! Inside::hear   <--- call, result ----  Outside::tell
//! Inside::leave  ------- the end ----->  exits, or becomes a shell
//! ```
//!
//! Nobody sleeps: each waits in read(2) for the other. When either is gone, the other reads the
//! end of the file and ends too.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdout, fork, pipe2};

use crate::host::{Named as _, Refusal};
use crate::lesson::Options;
use crate::shell::{self, Terminal};
use crate::transcript::Transcript;

const GO_ON: u8 = b'g';
const SHELL: u8 = b's';
const END: u8 = b'e';

/// The exit status of a process inside that misses one. It is no errno.
const ONE_WAS_KILLED: i32 = 255;

/// Has one of our processes inside been killed? Then what was seen of it says nothing.
static KILLED: AtomicBool = AtomicBool::new(false);

/// Refuses to go on if a process inside was killed from elsewhere, whether somebody has waited for
/// it or nobody has yet. A lesson that kills one itself waits for it itself.
pub(crate) fn nobody_was_killed() -> Result<(), Refusal> {
    let look =
        WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    let not_waited_for = waitid(Id::All, look).is_ok_and(was_killed);
    match not_waited_for || KILLED.load(Ordering::Relaxed) {
        true => Err(Refusal::ended_early()),
        false => Ok(()),
    }
}

/// The end of a process that ends by itself; or the refusal, for it was killed from elsewhere.
pub fn not_killed(status: WaitStatus) -> Result<WaitStatus, Refusal> {
    if was_killed(status) { Err(Refusal::ended_early()) } else { Ok(status) }
}

/// Killed, or it gave up because one of its own was: [`not_killed`].
fn was_killed(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(..) | WaitStatus::Exited(_, ONE_WAS_KILLED))
}

/// The process inside, as the process outside holds it.
pub struct Inside {
    who: &'static str,
    pid: Option<Pid>,
    said: BufReader<File>,
    word: File,
    /// Our copy of the end that it reads. A pipe that nobody could read any more would give us
    /// SIGPIPE: pipe(7). So when it is gone our word goes nowhere, and the next read says why.
    its_word: Option<File>,
}

/// The process outside, as the process inside holds it.
pub struct Outside {
    lesson: &'static str,
    options: Options,
    say: File,
    word: File,
    /// The other's ends, which the process inside has copies of and must close, lest it wait for
    /// itself.
    theirs: [RawFd; 2],
}

/// Two pipes, one each way: pipe(2). The ends close on exec, so that a shell does not get them.
pub fn ends(t: &Transcript) -> Result<(Inside, Outside), Refusal> {
    ends_of("inside", t)
}

/// The same for a process with a name of its own, such as `A`: at most seven letters.
pub fn ends_of(who: &'static str, t: &Transcript) -> Result<(Inside, Outside), Refusal> {
    ends_for(who, t.lesson(), t.options().clone())
}

/// fork(2), and the child lives this life under this name. The lessons that come first do it
/// themselves: uts-demo.
pub fn forked(
    who: &'static str,
    t: &Transcript,
    life: impl FnOnce(&mut Outside) -> Result<(), Refusal>,
) -> Result<(Pid, Inside), Refusal> {
    let (mut from_it, mut to_outside) = ends_of(who, t)?;
    // SAFETY: a lesson has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(life),
        ForkResult::Parent { child } => {
            from_it.start(child, to_outside);
            Ok((child, from_it))
        }
    }
}

/// clone(2) with these flags and SIGCHLD, and the child lives this life under this name. The lessons
/// that come first do it themselves: visible-demo, pid-demo, clone-demo.
pub fn cloned(
    who: &'static str,
    flags: CloneFlags,
    t: &mut Transcript,
    life: impl Fn(&mut Outside) -> Result<(), Refusal>,
) -> Result<(Pid, Inside), Refusal> {
    let names: String = flags.iter_names().map(|(name, _)| format!("{name}|")).collect();
    let call = format!("clone({names}SIGCHLD)");
    let (mut from_it, mut to_outside) = ends_of(who, t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(&life));
    // SAFETY: a lesson has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(libc::SIGCHLD)) }.named(&*call)?;
    t.outside(call, pid);
    from_it.start(pid, to_outside);
    Ok((pid, from_it))
}

/// The same for who prints nothing.
pub fn ends_for(
    who: &'static str,
    lesson: &'static str,
    options: Options,
) -> Result<(Inside, Outside), Refusal> {
    let (said, say) = pipe2(OFlag::O_CLOEXEC).named("pipe2(O_CLOEXEC)")?;
    let (heard, word) = pipe2(OFlag::O_CLOEXEC).named("pipe2(O_CLOEXEC)")?;
    let theirs = [said.as_raw_fd(), word.as_raw_fd()];
    let said = BufReader::new(File::from(said));
    let inside = Inside { who, pid: None, said, word: File::from(word), its_word: None };
    let outside =
        Outside { lesson, options, say: File::from(say), word: File::from(heard), theirs };
    Ok((inside, outside))
}

impl Inside {
    /// Lets the new process go on. Gives up our copy of the end that it writes to, so that we
    /// read the end of the file when it is gone.
    pub fn start(&mut self, pid: Pid, its_ends: Outside) {
        self.pid = Some(pid);
        let Outside { say, word, .. } = its_ends;
        drop(say);
        self.its_word = Some(word);
        self.send(GO_ON);
    }

    /// Lets it go on from [`Outside::wait`].
    pub fn go_on(&mut self) {
        self.send(GO_ON);
    }

    /// Waits for its next observations, prints each and gives their results.
    pub fn hear<const N: usize>(&mut self, t: &mut Transcript) -> Result<[String; N], Refusal> {
        let mut results = [const { String::new() }; N];
        for heard in &mut results {
            let (call, result) = self.told()?;
            t.inside(self.who, call, &result);
            *heard = result;
        }
        Ok(results)
    }

    /// The same for one, and nothing is printed: the call and its result.
    pub fn told(&mut self) -> Result<(String, String), Refusal> {
        let line = self.read_line()?;
        let (call, result) = line.split_once('\t').ok_or_else(Refusal::ended_early)?;
        Ok((call.to_string(), result.to_string()))
    }

    /// Ends it. With `--shell` it first becomes a shell, and we wait until the reader leaves.
    pub fn leave(mut self, t: &mut Transcript) -> Result<(), Refusal> {
        if t.options().shell {
            t.note("A shell, inside. Leave it with exit or Ctrl-D.")?;
            let terminal = Terminal::lend();
            self.send(SHELL);
            let refused = self.read_line().err().filter(|refusal| !refusal.is_end());
            self.wait_for_its_end();
            terminal.take_back();
            refused.map_or(Ok(()), Err)
        } else {
            self.wait_for_its_end();
            Ok(())
        }
    }

    /// Checks that it got as far as it should without a refusal, then ends it.
    pub fn leave_quietly(mut self) -> Result<(), Refusal> {
        self.send(END);
        let refused = self.read_line().err().filter(|refusal| !refusal.is_end());
        refused.map_or(Ok(()), Err)
    }

    fn read_line(&mut self) -> Result<String, Refusal> {
        let mut line = String::new();
        self.said.read_line(&mut line).named("read(2) from the process inside")?;
        if line.is_empty() {
            return Err(Refusal::ended_early());
        }
        match line.trim_end().strip_prefix('!') {
            Some(refusal) => Err(Refusal::received(refusal)),
            None => Ok(line.trim_end().to_string()),
        }
    }

    fn send(&mut self, word: u8) {
        let _ = self.word.write_all(&[word]); // cannot fail: see `its_word`
    }

    /// Says that this was all. To close the pipe would not be enough: a process that was made
    /// later has a copy of our end of it.
    fn wait_for_its_end(&mut self) {
        if let Some(pid) = self.pid.take() {
            self.send(END);
            // __WALL: also for a child that clone(2) gave another exit signal than SIGCHLD.
            let wait = || waitpid(pid, Some(WaitPidFlag::__WALL));
            let mut ended = wait();
            while ended == Err(Errno::EINTR) {
                ended = wait();
            }
            if ended.is_ok_and(was_killed) {
                KILLED.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Inside {
    /// Also when a lesson gives up halfway, nothing of it is left: not even a zombie.
    fn drop(&mut self) {
        self.wait_for_its_end();
    }
}

impl Outside {
    /// Is this the ingredient that the reader left out?
    pub fn without(&self, control: &str) -> bool {
        self.options.without(control)
    }

    /// Tells the process outside what was called and what came of it.
    pub fn tell(&mut self, call: impl Display, result: impl Display) {
        self.write_line(format!("{call}\t{result}\n"));
    }

    /// Tells that this call gave 0; or ends this process, and the lesson is refused.
    pub fn did(&mut self, call: &str, result: nix::Result<()>) -> Result<(), Refusal> {
        result.named(call)?;
        self.tell(call, 0);
        Ok(())
    }

    /// Waits until the process outside has looked.
    pub fn wait(&mut self) {
        if self.read_word() != Some(GO_ON) {
            exit(1);
        }
    }

    /// From here on we die when the process outside does, however it ends: PR_SET_PDEATHSIG(2const).
    /// Who becomes another user has to ask again.
    pub fn die_with_it(&self) -> Result<(), Refusal> {
        set_pdeathsig(Signal::SIGKILL).named("prctl(PR_SET_PDEATHSIG, SIGKILL)")?;
        let mut its_end = [PollFd::new(self.word.as_fd(), PollFlags::empty())];
        match poll(&mut its_end, PollTimeout::ZERO).named("poll(2)")? {
            0 => Ok(()),
            _ => exit(1), // POLLHUP: it had ended before that call
        }
    }

    /// Lets standard output be what it hears: dup2(2). Who is executed then tells as we do.
    pub fn tell_by_stdout(&self) -> Result<(), Refusal> {
        dup2_stdout(&self.say).named("dup2(2)")
    }

    // ANCHOR: live
    /// The whole life of the process inside: start, `body`, end. It never returns into the code
    /// of the process that it is a copy of.
    pub fn live(&mut self, body: impl FnOnce(&mut Outside) -> Result<(), Refusal>) -> ! {
        for fd in self.theirs {
            // SAFETY: after the fork this number is our own copy, and the values that own it
            // belong to the other process: here nothing uses or drops them again.
            unsafe { libc::close(fd) };
        }
        // We die with our parent, also when it is killed: PR_SET_PDEATHSIG(2const). If it died
        // before this line and was the process outside, `wait` reads the end of the file instead.
        let died = set_pdeathsig(Signal::SIGKILL).named("prctl(PR_SET_PDEATHSIG, SIGKILL)");
        self.wait();
        if let Err(refusal) = died.and_then(|()| body(self)) {
            self.write_line(refusal.to_send());
            exit(if refusal.is_end() { ONE_WAS_KILLED } else { 1 });
        }
        if self.read_word() == Some(SHELL) {
            let refusal = shell::exec(self.lesson);
            self.write_line(refusal.to_send());
        }
        exit(0);
    }
    // ANCHOR_END: live

    /// For a process that was forked inside and has ends of its own: closes its copies of these. With
    /// them it would seem to outside that the process inside is still there when it is gone.
    pub fn give_up(&mut self) {
        for fd in [self.say.as_raw_fd(), self.word.as_raw_fd()] {
            // SAFETY: as in `live`: from here on nothing uses or drops the values that own it.
            unsafe { libc::close(fd) };
        }
    }

    /// _exit(2): ends a process that was forked inside, without the buffers and exit handlers
    /// that it has copies of.
    pub fn exit(&self) -> ! {
        self.exit_with(0)
    }

    /// The same with a status, 0 to 255, for waitpid(2).
    pub fn exit_with(&self, status: i32) -> ! {
        exit(status)
    }

    fn write_line(&mut self, line: String) {
        if self.say.write_all(line.as_bytes()).is_err() {
            exit(1);
        }
    }

    /// The next word from outside; `None` when it is gone.
    fn read_word(&mut self) -> Option<u8> {
        let mut word = [0];
        self.word.read_exact(&mut word).ok().map(|()| word[0])
    }
}

fn exit(status: i32) -> ! {
    // SAFETY: ends the process at once; there is no state to keep sound after it.
    unsafe { libc::_exit(status) }
}
