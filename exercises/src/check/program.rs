//! The program under test while it runs on the stage. It may do anything: nothing here waits for it
//! longer than until the deadline, or reads more than so much of it.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use workbook::host::{Named as _, Refusal};

use super::bounds;
use super::finding::{Miss, Trouble};
use super::launch::{Launched, launch};
use super::probe::{self, PART};
use super::stage::{DEADLINE, Stage};
use super::target::ROOTFS;

/// Between two looks at what tells nobody that it has changed, in ms.
const A_WHILE: u16 = 20;
/// So much of its last words is kept, in characters.
const LAST_WORDS: usize = 2000;
/// What the probe is given to pass on: none of it may be split, lost or read by a shell.
const HARD_WORDS: [&str; 4] = ["two words", "", "*", "$HOME"];

/// The program, and the probe that it has started.
pub struct Program<'stage> {
    /// Where it runs.
    pub stage: &'stage Stage<'stage>,
    its: Launched,
    /// What it has printed and nobody has looked at yet.
    said: String,
    /// The last of what it has printed on standard error.
    last_words: String,
    printed: usize,
    /// Which lines are the probe's.
    pub token: String,
    /// How it has ended, or that it was stopped.
    pub ended: Option<ExitStatus>,
}

impl<'stage> Program<'stage> {
    /// Starts it with these words, and the probe as the command.
    pub fn start(stage: &'stage Stage, words: &[String]) -> Result<Self, Trouble> {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let token = format!("token-{}", NTH.fetch_add(1, Ordering::Relaxed));
        let command = [&*stage.probe, probe::NAME, &token].map(str::to_string);
        let rootfs = stage.rootfs.display().to_string();
        let words = words.iter().map(|word| word.replace(ROOTFS, &rootfs));
        let words = words.chain(command).chain(HARD_WORDS.map(str::to_string));
        Ok(Self {
            stage,
            its: launch(stage, &words.collect::<Vec<_>>())?,
            said: String::new(),
            last_words: String::new(),
            printed: 0,
            token,
            ended: None,
        })
    }

    /// Its PID: our child's, until its end was asked for.
    pub fn pid(&self) -> Pid {
        self.its.pid
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
        let _ = self.its.input.write_all(format!("{word}\n").as_bytes()); // or it has ended
    }

    /// Waits for the next line of the probe's.
    pub fn answer(&mut self, purpose: &str) -> Result<String, Trouble> {
        loop {
            if let Some(answer) = self.next_answer() {
                return Ok(answer);
            }
            if self.its.streams[0].is_none() && self.ended.is_some() {
                return Err(self.ended_early(purpose).into());
            }
            self.watch(purpose)?;
        }
    }

    /// The next line of the probe's, if it is there. What the program prints is passed over.
    fn next_answer(&mut self) -> Option<String> {
        let end = self.said.rfind('\n')? + 1;
        let (mut read, mut answer) = (0, None);
        for line in self.said[..end].split_inclusive('\n') {
            read += line.len();
            if let Some((_, words)) = line.split_once(&*self.token) {
                answer = Some(words.trim().to_string());
                break;
            }
        }
        self.said.drain(..read);
        answer
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
            let as_in_a_shell =
                |ended: ExitStatus| ended.code().or(ended.signal().map(|signal| 128 + signal));
            match self.ended.and_then(as_in_a_shell) {
                Some(status) => return Ok(status),
                None => self.watch(purpose)?,
            }
        }
    }

    /// Waits until something has happened, or for a while. Whoever does what no program should is
    /// told here; and the stage ends, and all on it.
    fn watch(&mut self, purpose: &str) -> Result<(), Trouble> {
        let streams = self.its.streams.iter().flatten().map(|stream| stream.as_fd());
        let its_end = self.ended.is_none().then(|| self.its.fd.as_fd());
        let fds = streams.chain(its_end).map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut fds: Vec<_> = fds.collect();
        poll(&mut fds, PollTimeout::from(A_WHILE)).named("poll(2)")?;
        self.read();
        self.reap();
        let miss = if let Some(miss) = bounds::prints(self.printed) {
            miss
        } else if let Some(miss) = bounds::takes()? {
            miss
        } else if self.ended.and_then(|ended| ended.stopped_signal()).is_some() {
            self.hangs(purpose, "It stands still: a signal has stopped it.")
        } else if Instant::now() > self.stage.deadline {
            let had = format!("It had {} seconds for this step.", DEADLINE.as_secs());
            self.hangs(purpose, &had)
        } else {
            return Ok(());
        };
        Err(miss.into())
    }

    fn read(&mut self) {
        let mut bytes = [0; 1 << 16];
        for nth in 0..2 {
            let Some(stream) = &mut self.its.streams[nth] else { continue };
            match stream.read(&mut bytes) {
                Ok(0) => self.its.streams[nth] = None,
                Ok(read) => {
                    self.printed += read;
                    let text = String::from_utf8_lossy(&bytes[..read]);
                    if nth == 0 { self.said += &text } else { self.last_words += &text }
                }
                Err(_) => {} // EAGAIN: nothing yet
            }
        }
        let start = self.last_words.chars().count().saturating_sub(LAST_WORDS);
        self.last_words = self.last_words.chars().skip(start).collect();
    }

    /// waitpid(2) for the program, and for whoever has become our child: on the stage we are PID 1.
    /// Not nix's, which has no names for real-time signals, and gives EINVAL for a death by one.
    fn reap(&mut self) {
        let (mut status, how) = (0, libc::WNOHANG | libc::WUNTRACED | libc::__WALL);
        loop {
            // SAFETY: the kernel writes a number.
            match unsafe { libc::waitpid(-1, &raw mut status, how) } {
                pid if pid == self.its.pid.as_raw() => {
                    self.ended = Some(ExitStatus::from_raw(status));
                }
                ..=0 => break,
                _ => {}
            }
        }
    }

    fn ended_early(&self, purpose: &str) -> Miss {
        let end = self.ended.map(|ended| (ended.signal(), ended.code()));
        let mistake = match end {
            Some((Some(signal), _)) => format!("{} killed it.", name(signal)),
            // So a shell ends, and the dynamic loader.
            Some((_, Some(127))) => "127 says: a program, or its library, was not found.".into(),
            _ => String::new(),
        };
        let miss = Miss::that(mistake);
        self.with_last_words(miss.program(format!("was {purpose}"), self.how_ended()))
    }

    fn hangs(&self, purpose: &str, how: &str) -> Miss {
        let miss = Miss::that(format!("{how} It was ended, and all that it had started."));
        self.with_last_words(miss.program(format!("was {purpose}"), self.how_ended()))
    }

    /// What the program did so far.
    pub fn how_ended(&self) -> String {
        let Some(ended) = self.ended else { return "still runs".to_string() };
        match (ended.code(), ended.signal(), ended.stopped_signal()) {
            (Some(status), ..) => format!("ended, exit status {status}"),
            (_, Some(signal), _) => format!("ended, by {}", name(signal)),
            (_, _, Some(signal)) => format!("stopped, by {}", name(signal)),
            _ => "unknown".to_string(),
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

/// A signal's: signal(7). The real-time ones are counted from the first that libc leaves to others.
fn name(signal: i32) -> String {
    match (Signal::try_from(signal), signal - libc::SIGRTMIN()) {
        (Ok(signal), _) => signal.to_string(),
        (_, nth @ 0..) => format!("SIGRTMIN+{nth}"),
        _ => format!("signal {signal}"),
    }
}
