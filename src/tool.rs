//! The tools that some lessons look at: qemu, lxc and others. They run with a deadline, and die with
//! the lesson.

use std::env;
use std::io::{self, PipeReader, Read as _, Write as _, pipe};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
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

/// A running tool. What it prints, on either stream, is read here.
pub struct Tool {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: PipeReader,
    said: String,
    time: Duration,
}

impl Tool {
    /// Starts it. It has `time` for each answer, and dies with this process.
    pub fn start(command: &mut Command, time: Duration) -> Result<Self, Refusal> {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_string();
        let (output, theirs) = pipe().named("pipe2(O_CLOEXEC)")?;
        let also_theirs = theirs.try_clone().named("fcntl(F_DUPFD_CLOEXEC)")?;
        command.stdin(Stdio::piped()).stdout(theirs).stderr(also_theirs);
        let parent = getpid();
        // SAFETY: between fork and exec it makes two system calls.
        unsafe { command.pre_exec(move || die_with(parent)) };
        let child = command.spawn();
        // The command holds our copies of the ends that the tool writes to: while they are open
        // there is no end of the file.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.named(format!("execve({name:?})"))?;
        let input = child.stdin.take();
        Ok(Self { name, child, input, output, said: String::new(), time })
    }

    /// Its PID.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Reads on until it has printed this text; gives all that it has printed so far.
    pub fn until(&mut self, text: &str) -> Result<&str, Refusal> {
        let deadline = Instant::now() + self.time;
        while !self.said.contains(text) {
            if !self.read(deadline)? {
                return Err(Refusal::of_tool(&self.name, "ended early", &self.said));
            }
        }
        Ok(&self.said)
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
        let deadline = Instant::now() + self.time;
        while self.read(deadline)? {}
        let status = self.child.wait().named("waitpid(2)")?;
        Ok((status, std::mem::take(&mut self.said)))
    }

    /// Reads what there is. `false` at the end of the file.
    fn read(&mut self, deadline: Instant) -> Result<bool, Refusal> {
        let left = deadline.saturating_duration_since(Instant::now());
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

/// The new process dies with its parent: PR_SET_PDEATHSIG(2const). If that died before the call, it
/// has another parent by now, and does not start. (A parent in another PID namespace shows as 0.)
fn die_with(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let is_there = [parent, Pid::from_raw(0)].contains(&getppid());
    if is_there { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

impl Drop for Tool {
    /// Also when a lesson gives up halfway, the tool does not go on.
    fn drop(&mut self) {
        let _: io::Result<()> = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
