//! The tools that some lessons look at: qemu, lxc and others. They run with a deadline, and die
//! with the lesson.

use std::env;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid};

use crate::host::{Named as _, Refusal};

/// Where a program is: the first in `PATH` that can be run, or in the folders for administrators,
/// which ordinary users may lack in theirs. A missing one is the refusal of its execve(2).
pub fn find(program: &str) -> Result<PathBuf, Refusal> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut files = folders.map(|folder| folder.join(program));
    let found = files.find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok());
    found.ok_or(Errno::ENOENT).named(format!("execve({program:?})"))
}

/// What a program printed that has ended by itself.
pub fn printed(name: &str, output: &Output) -> Result<String, Refusal> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    not_killed(name, output.status, &said).map(|_| said)
}

fn not_killed(name: &str, status: ExitStatus, said: &str) -> Result<ExitStatus, Refusal> {
    match status.signal().map(Signal::try_from) {
        None => Ok(status),
        Some(Ok(Signal::SIGKILL)) => Err(Refusal::of_killed_tool(name)),
        Some(_) => Err(Refusal::of_tool(name, &status.to_string(), said)),
    }
}

/// A running tool. What it prints, on either stream, is read here.
pub struct Tool {
    name: String,
    child: Child,
    input: Option<PipeWriter>,
    /// Our copy of the end that it reads. A pipe that nobody could read any more would give us
    /// SIGPIPE: pipe(7).
    _its_input: PipeReader,
    output: PipeReader,
    said: String,
    /// How much of that has been waited for.
    heard: usize,
    /// How long we wait for it, each time. Only one that hangs needs so long.
    time: Duration,
    deadline: Instant,
}

impl Tool {
    /// Starts it. Each time that we wait for it, it has `time`: as much as it would take on a busy
    /// host, and far more. It dies with this process.
    pub fn start(command: &mut Command, time: Duration) -> Result<Self, Refusal> {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_string();
        let (output, theirs) = pipe().named("pipe2(O_CLOEXEC)")?;
        let also_theirs = theirs.try_clone().named("fcntl(F_DUPFD_CLOEXEC)")?;
        let (its_input, input) = pipe().named("pipe2(O_CLOEXEC)")?;
        let also_its_input = its_input.try_clone().named("fcntl(F_DUPFD_CLOEXEC)")?;
        command.stdin(also_its_input).stdout(theirs).stderr(also_theirs);
        let us = getpid();
        let dies_with_us = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // If we died before that, the tool has another parent by now. In a new PID namespace
            // its parent is nobody: 0.
            let parent = getppid();
            if parent == us || parent.as_raw() == 0 { Ok(()) } else { Err(Errno::ESRCH.into()) }
        };
        // SAFETY: between fork and exec it makes two system calls.
        unsafe { command.pre_exec(dies_with_us) };
        let child = command.spawn();
        // The command holds our copies of the ends that the tool writes to: while they are open
        // there is no end of the file.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.named(format!("execve({name:?})"))?;
        Ok(Self {
            name,
            child,
            input: Some(input),
            _its_input: its_input,
            output,
            said: String::new(),
            heard: 0,
            time,
            deadline: Instant::now() + time,
        })
    }

    /// Its PID.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Reads on until it has printed this text, after what was last waited for; gives all that it
    /// has printed so far.
    pub fn until(&mut self, text: &str) -> Result<&str, Refusal> {
        if !self.prints(text)? {
            self.wait()?;
            return Err(Refusal::of_tool(&self.name, "ended early", &self.said));
        }
        Ok(&self.said)
    }

    /// The same, but who ends without it is no refusal: then this is `false`.
    pub fn prints(&mut self, text: &str) -> Result<bool, Refusal> {
        self.deadline = Instant::now() + self.time;
        loop {
            if let Some(at) = self.said[self.heard..].find(text) {
                self.heard += at + text.len();
                return Ok(true);
            }
            if !self.read()? {
                return Ok(false);
            }
        }
    }

    /// What it has printed so far.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Writes to its standard input.
    pub fn send(&mut self, text: &str) {
        if let Some(input) = &mut self.input {
            // When it is gone already, the next read says so.
            let _ = input.write_all(text.as_bytes());
        }
    }

    /// Closes its input and waits for its end. Gives its exit status and all that it has printed.
    pub fn end(mut self) -> Result<(ExitStatus, String), Refusal> {
        self.input = None;
        self.deadline = Instant::now() + self.time;
        while self.read()? {}
        Ok((self.wait()?, std::mem::take(&mut self.said)))
    }

    /// Waits for its end, which must be a success. Gives all that it has printed.
    pub fn succeed(self) -> Result<String, Refusal> {
        let name = self.name.clone();
        match self.end()? {
            (status, said) if status.success() => Ok(said),
            (status, said) => Err(Refusal::of_tool(&name, &status.to_string(), &said)),
        }
    }

    fn wait(&mut self) -> Result<ExitStatus, Refusal> {
        let status = self.child.wait().named("waitpid(2)")?;
        not_killed(&self.name, status, &self.said)
    }

    /// Reads what there is. `false` at the end of the file.
    fn read(&mut self) -> Result<bool, Refusal> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let time = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, time).named("poll(2)")? == 0 {
            return Err(Refusal::of_tool(&self.name, "no answer in time", &self.said));
        }
        let mut bytes = [0; 4096];
        let read = self.output.read(&mut bytes).named("read(2)")?;
        self.said += &String::from_utf8_lossy(&bytes[..read]).replace('\r', "");
        Ok(read > 0)
    }
}

impl Drop for Tool {
    /// Also when a lesson gives up halfway, the tool does not go on.
    fn drop(&mut self) {
        let _: io::Result<()> = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
