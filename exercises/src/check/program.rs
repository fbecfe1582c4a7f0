//! The program under test while it runs on the stage. It may do anything: nothing here waits for it
//! longer than until the deadline, or reads more than so much of it.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, setsid};
use workbook::host::{Named as _, Refusal};

use super::finding::{Miss, Trouble};
use super::probe::{self, PART};
use super::stage::{DEADLINE, Stage};

/// What it may print in all, on both streams.
const MOST_BYTES: usize = 1 << 20;
/// How many processes may be on the stage.
const MOST_PROCESSES: usize = 400;
/// Between two looks at what tells nobody that it has changed, in ms.
const A_WHILE: u16 = 20;
/// So much of its last words is kept.
const LAST_WORDS: usize = 2000;
/// What the probe is given to pass on: none of it may be split, lost or read by a shell.
const HARD_WORDS: [&str; 4] = ["two words", "", "*", "$HOME"];

/// The program, and the probe that it has started.
pub struct Program<'stage> {
    /// Where it runs.
    pub stage: &'stage Stage<'stage>,
    /// The program itself, our child.
    pub pid: Pid,
    its_end: OwnedFd,
    input: Option<PipeWriter>,
    /// Our copy of the end that it reads: without it we would get SIGPIPE.
    _its_input: PipeReader,
    streams: [Option<PipeReader>; 2],
    /// What it has printed and nobody has looked at yet.
    said: String,
    /// The last of what it has printed on standard error.
    last_words: String,
    printed: usize,
    /// Which lines are the probe's.
    pub token: String,
    /// How it has ended.
    pub ended: Option<WaitStatus>,
}

impl<'stage> Program<'stage> {
    /// Starts it with these words, the probe as the command, as the stage's user would.
    pub fn start(stage: &'stage Stage, words: &[String]) -> Result<Self, Trouble> {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let token = format!("token-{}-{}", stage.host, NTH.fetch_add(1, Ordering::Relaxed));
        let command = [&stage.target.probe, probe::NAME, &token].map(str::to_string);
        let rootfs = stage.rootfs.display().to_string();
        let words = words.iter().map(|word| word.replace(super::target::ROOTFS, &rootfs));
        let words = words.chain(command).chain(HARD_WORDS.map(str::to_string));
        let words: Vec<_> = words.collect();

        let pipes = || pipe().named("pipe2(O_CLOEXEC)");
        let ((its_input, input), (output, out), (errors, err)) = (pipes()?, pipes()?, pipes()?);
        for fd in [output.as_fd(), errors.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).named("fcntl(F_SETFL, O_NONBLOCK)")?;
        }
        let also_its_input = its_input.try_clone().named("fcntl(F_DUPFD_CLOEXEC)")?;
        let mounts = format!("/proc/{}/ns/mnt", stage.host);
        let mounts = fs::File::open(&mounts).named(format!("open({mounts:?})"))?;
        let folder = stage.target.folder.clone();
        let mut run = Command::new(&words[0]);
        run.args(&words[1..]).stdin(its_input).stdout(out).stderr(err);
        let most = threads_of_the_host().saturating_add(MOST_PROCESSES as u64 * 2);
        let as_from_a_shell = move || {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
            setrlimit(Resource::RLIMIT_NPROC, soft.min(most), hard.min(most))?;
            setns(&mounts, CloneFlags::CLONE_NEWNS)?; // this leads to its root, too
            chdir(&folder)?;
            setsid()?; // the reader's terminal is not its
            // SAFETY: takes three integers. What this process has open is not for the program.
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_ON_EXEC) };
            Ok(())
        };
        // SAFETY: between fork and exec it makes a few system calls.
        unsafe { run.pre_exec(as_from_a_shell) };
        let started = run.spawn();
        drop(run); // it holds our copies of the ends that the program has
        let pid = match started {
            Ok(child) => Pid::from_raw(child.id() as i32),
            Err(error) => return Err(not_started(&words[0], error).into()),
        };
        Ok(Self {
            stage,
            pid,
            its_end: pidfd(pid).named("pidfd_open(2)")?,
            input: Some(input),
            _its_input: also_its_input,
            streams: [Some(output), Some(errors)],
            said: String::new(),
            last_words: String::new(),
            printed: 0,
            token,
            ended: None,
        })
    }

    /// Waits until the probe says that it is there, with the words that it was given.
    /// Gives its getpid().
    pub fn hello(&mut self) -> Result<String, Trouble> {
        let hello = self.answer(&format!("to run {}", probe::NAME))?;
        let mut parts = hello.split(PART);
        let pid = parts.next().unwrap_or_default().to_string();
        let given: Vec<_> = parts.collect();
        let hard: Vec<_> = [&*self.token].into_iter().chain(HARD_WORDS).collect();
        if given != hard {
            let mistake = "The command did not get its arguments as they were given: pass them on \
                           one by one, not through a shell.";
            let miss = Miss::that(mistake).program("was given", format!("{hard:?}"));
            return Err(miss.inside("argv", format!("{given:?}")).into());
        }
        Ok(pid)
    }

    /// Tells the probe a word and waits for its answer.
    pub fn ask(&mut self, word: &str) -> Result<String, Trouble> {
        self.tell(word);
        self.answer(&format!("to answer {word:?}"))
    }

    /// Tells the probe a word.
    pub fn tell(&mut self, word: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{word}\n").as_bytes()); // or it has ended
        }
    }

    /// Waits for the next line of the probe's.
    pub fn answer(&mut self, purpose: &str) -> Result<String, Trouble> {
        loop {
            if let Some(answer) = self.next_answer() {
                return Ok(answer);
            }
            if self.streams[0].is_none() && self.ended.is_some() {
                return Err(self.ended_early(purpose).into());
            }
            self.watch(purpose)?;
        }
    }

    /// The next line of the probe's, if it is there. What the program prints is passed over.
    fn next_answer(&mut self) -> Option<String> {
        while let Some((line, rest)) = self.said.split_once('\n') {
            let answer = line.split_once(&*self.token).map(|(_, answer)| answer.trim().to_string());
            self.said = rest.to_string();
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// Waits this long for a line of the probe's that begins so: is there one?
    pub fn until_said(&mut self, time: Duration, start: &str) -> Result<bool, Trouble> {
        let end = Instant::now() + time;
        loop {
            match self.next_answer() {
                Some(answer) if answer.starts_with(start) => return Ok(true),
                Some(_) => {}
                None if Instant::now() > end => return Ok(false),
                None => self.watch("to pass it on")?,
            }
        }
    }

    /// Waits this long for something that is seen: is it?
    pub fn until(
        &mut self,
        time: Duration,
        mut is_so: impl FnMut() -> Result<bool, Refusal>,
    ) -> Result<bool, Trouble> {
        let end = Instant::now() + time;
        while !is_so()? {
            if Instant::now() > end {
                return Ok(false);
            }
            self.watch("to do it")?;
        }
        Ok(true)
    }

    /// Waits for its end. Gives its exit status as a shell would: 128 + n if signal n killed it.
    pub fn end(&mut self, purpose: &str) -> Result<i32, Trouble> {
        loop {
            match self.ended {
                Some(WaitStatus::Exited(_, status)) => return Ok(status),
                Some(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
                _ => self.watch(purpose)?,
            }
        }
    }

    /// Waits until something has happened, or for a while. Whoever does what no program should is
    /// told here, and the stage ends, and all on it.
    fn watch(&mut self, purpose: &str) -> Result<(), Trouble> {
        let mut fds: Vec<_> = self.streams.iter().flatten().map(|s| s.as_fd()).collect();
        fds.extend(self.ended.is_none().then(|| self.its_end.as_fd()));
        let mut fds: Vec<_> =
            fds.iter().map(|fd: &BorrowedFd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        poll(&mut fds, PollTimeout::from(A_WHILE)).named("poll(2)")?;
        self.read();
        self.reap();
        if self.printed > MOST_BYTES {
            let miss =
                Miss::that("It prints without end. It was stopped, and all that it had started.");
            return Err(miss.program("printed", format!("more than {MOST_BYTES} bytes")).into());
        }
        let processes = workbook::proc::pids()?.len();
        if processes > MOST_PROCESSES {
            let mistake = "It starts processes without end. All of them were stopped.";
            let miss = Miss::that(mistake).outside("ls -d /proc/[0-9]*", processes);
            return Err(miss.into());
        }
        if matches!(self.ended, Some(WaitStatus::Stopped(..)))
            || Instant::now() > self.stage.deadline
        {
            return Err(self.hangs(purpose).into());
        }
        Ok(())
    }

    fn read(&mut self) {
        let mut bytes = [0; 1 << 16];
        for nth in 0..2 {
            let Some(stream) = &mut self.streams[nth] else { continue };
            match stream.read(&mut bytes) {
                Ok(0) => self.streams[nth] = None,
                Ok(read) => {
                    self.printed += read;
                    let text = String::from_utf8_lossy(&bytes[..read]);
                    if nth == 0 { self.said += &text } else { self.last_words += &text }
                }
                Err(_) => {} // EAGAIN: nothing yet
            }
        }
        let start = self.last_words.len().saturating_sub(LAST_WORDS);
        self.last_words = self.last_words.chars().skip(start).collect();
    }

    /// waitpid(2) for the program, and for whoever has become our child: on the stage we are PID 1.
    fn reap(&mut self) {
        let how = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::__WALL;
        while let Ok(status) = waitpid(None, Some(how)) {
            match status.pid() {
                None => break,
                Some(pid) if pid == self.pid => self.ended = Some(status),
                Some(_) => {}
            }
        }
    }

    fn ended_early(&self, purpose: &str) -> Miss {
        let mistake = match self.ended {
            Some(WaitStatus::Signaled(_, signal, _)) => format!("{signal} killed it."),
            _ => String::new(),
        };
        let miss = Miss::that(mistake);
        self.with_last_words(miss.program(format!("was {purpose}"), self.how_ended()))
    }

    fn hangs(&self, purpose: &str) -> Miss {
        let stopped = matches!(self.ended, Some(WaitStatus::Stopped(..)));
        let mistake = match stopped {
            true => "It stands still: a signal has stopped it. It was ended, and all that it had started.".to_string(),
            false => format!(
                "It had {} seconds for this step. It was ended, and all that it had started.",
                DEADLINE.as_secs()
            ),
        };
        let miss = Miss::that(mistake).program(format!("was {purpose}"), self.how_ended());
        self.with_last_words(miss)
    }

    /// What the program did so far, and said last.
    pub fn how_ended(&self) -> String {
        match self.ended {
            None => "still runs".to_string(),
            Some(WaitStatus::Exited(_, status)) => format!("ended, exit status {status}"),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("ended, by {signal}"),
            Some(WaitStatus::Stopped(_, signal)) => format!("stopped, by {signal}"),
            Some(_) => "unknown".to_string(),
        }
    }

    /// Adds the last line that it has printed on standard error.
    pub fn with_last_words(&self, miss: Miss) -> Miss {
        match self.last_words.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => miss.program("said last", line.chars().take(200).collect::<String>()),
            None => miss,
        }
    }
}

/// All threads that there are: the fourth field of proc_loadavg(5). A limit on processes is on those of
/// the user, who may have others than these.
fn threads_of_the_host() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads = text.split([' ', '/']).nth(4);
    threads.and_then(|threads| threads.parse().ok()).unwrap_or(libc::RLIM_INFINITY)
}

/// linux/close_range.h
const CLOSE_ON_EXEC: u32 = 1 << 2;

/// A file descriptor of a process: it stays that process's when the number has become another's.
pub fn pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers and makes a file descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// kill(2) by a file descriptor.
pub fn send(fd: &OwnedFd, signal: Signal) -> nix::Result<()> {
    let (call, none) = (libc::SYS_pidfd_send_signal, std::ptr::null::<u8>());
    // SAFETY: the fd is open; without a siginfo_t the kernel makes the one of kill(2).
    Errno::result(unsafe { libc::syscall(call, fd.as_raw_fd(), signal as i32, none, 0) }).map(drop)
}

fn not_started(word: &str, error: io::Error) -> Miss {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let mistake = match errno {
        Errno::ENOENT => "There is no such program.",
        Errno::EACCES => "The file may not be run: chmod +x.",
        Errno::ENOEXEC => "The file is no program: a script begins with #! and its interpreter.",
        _ => "",
    };
    Miss::that(mistake).program(format!("execve({word:?})"), format!("-1 {errno:?}"))
}
