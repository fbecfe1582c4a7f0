//! A pseudoterminal with a program in it: pty(7).

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::setsid;

/// Only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(10);

pub struct Pty {
    ours: File,
    program: Child,
    /// What nobody has asked for yet.
    printed: Vec<u8>,
}

impl Pty {
    /// Starts the program as the leader of a session whose terminal this is. It does not echo.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut ptmx = File::options();
        let ours = ptmx.read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx")?;
        let theirs = other_end(&ours)?;
        let mut modes = tcgetattr(&theirs)?;
        modes.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&theirs, SetArg::TCSANOW, &modes)?;
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        let take_the_terminal = || {
            setsid()?;
            // SAFETY: the argument is a number.
            Ok(Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop)?)
        };
        // SAFETY: between fork and exec it makes two system calls.
        unsafe { command.pre_exec(take_the_terminal) };
        // The command goes here, and our copies of the other end with it: they would keep it open.
        Ok(Self { ours, program: command.spawn()?, printed: Vec::new() })
    }

    pub fn send(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("a terminal takes what is typed");
    }

    /// What is printed before this text.
    pub fn until(&mut self, text: &str) -> String {
        let is_here =
            |printed: &[u8]| printed.windows(text.len()).position(|w| w == text.as_bytes());
        loop {
            if let Some(at) = is_here(&self.printed) {
                let rest = self.printed.split_off(at + text.len());
                let printed = std::mem::replace(&mut self.printed, rest);
                return shown(&printed[..at]);
            }
            assert!(self.read(), "no {text:?}, it ended: {}", shown(&self.printed));
        }
    }

    /// Waits for its end and gives the rest.
    pub fn end(mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.program.wait().expect("its status"), shown(&self.printed))
    }

    /// Reads what there is. `false` when nobody has the other end open any more: EIO.
    fn read(&mut self) -> bool {
        let start = Instant::now();
        let mut ready = [PollFd::new(self.ours.as_fd(), PollFlags::POLLIN)];
        let deadline = PollTimeout::try_from(DEADLINE).expect("a few seconds");
        let came = poll(&mut ready, deadline).expect("poll(2)");
        assert!(came > 0, "nothing in {:?} after {}", start.elapsed(), shown(&self.printed));
        let mut bytes = [0; 4096];
        let read = self.ours.read(&mut bytes).unwrap_or(0);
        // A terminal ends a line with CR, LF.
        self.printed.extend(bytes[..read].iter().filter(|byte| **byte != b'\r'));
        read > 0
    }
}

/// The end that a program uses: ioctl_tty(2), TIOCGPTPEER since Linux 4.13.
fn other_end(ours: &File) -> io::Result<OwnedFd> {
    let unlocked: c_int = 0;
    // SAFETY: the kernel reads the number, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) })?;
    let (call, flags) = (libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
    // SAFETY: the argument is a number.
    let theirs = Errno::result(unsafe { libc::ioctl(ours.as_raw_fd(), call, flags) })?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(theirs) })
}

fn shown(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}
