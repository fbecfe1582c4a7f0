//! `--shell`: the process inside becomes a shell, and the terminal is as it was afterwards.

use std::env;
use std::ffi::OsString;
use std::io::{Write as _, stderr, stdin};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, setpgid, tcsetpgrp};

use crate::host::{Named as _, Refusal};

/// Becomes the reader's `$SHELL`, or `/bin/sh`: execve(2). Returns only if neither can be run.
pub(crate) fn exec(lesson: &str) -> Refusal {
    take_the_foreground();
    let wanted = env::var_os("SHELL").filter(|shell| !shell.is_empty());
    if let Some(shell) = wanted {
        let error = command(&shell, lesson).exec();
        let why = Errno::from_raw(error.raw_os_error().unwrap_or_default()).desc();
        let shell = Path::new(&shell).display();
        // Where that cannot be written there is nobody to tell.
        let _ =
            writeln!(stderr(), "SHELL is {shell}, which cannot be run ({why}): here is /bin/sh");
    }
    let error = command(&"/bin/sh".into(), lesson).exec();
    match Err::<(), _>(error).named("execve(\"/bin/sh\")") {
        Err(refusal) => refusal,
        Ok(()) => unreachable!("an error stays an error"),
    }
}

/// Makes this process the one that the terminal talks to: setpgid(2), tcsetpgrp(3). A shell expects
/// that. The group that the terminal had has no number in a new PID namespace, so when the shell
/// ends it could not put that back, and would complain.
pub fn take_the_foreground() {
    // All three fail only where there is no terminal.
    let this = Pid::from_raw(0);
    let _ = setpgid(this, this);
    // A background process that sets the foreground group gets SIGTTOU.
    // SAFETY: neither installs a handler.
    let before = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
    let _ = tcsetpgrp(stdin(), getpgrp());
    if let Ok(before) = before {
        // SAFETY: as above: this program has no handlers.
        let _ = unsafe { signal(Signal::SIGTTOU, before) };
    }
}

/// The shell with a prompt that says where it stands. Start-up files would set the prompt again,
/// so they are left out; a history file would be a trace, so it is not written.
fn command(shell: &OsString, lesson: &str) -> Command {
    let mut command = Command::new(shell);
    let name = Path::new(shell).file_name().unwrap_or_default();
    let prompt = format!("[inside {lesson}] ");
    match name.to_str() {
        Some("bash") => {
            command.args(["--noprofile", "--norc"]).env("PS1", prompt + "\\w \\$ ");
        }
        Some("zsh") => {
            command.arg("-f").env("PS1", prompt + "%~ %# ");
        }
        Some("fish") => {
            let say =
                format!("function fish_prompt; echo -n '{prompt}'; prompt_pwd; echo '> '; end");
            command.args(["--no-config", "--private", "--init-command", &say]);
        }
        _ => {
            command.env("PS1", prompt + "$ ");
        }
    }
    command.env_remove("ENV").env_remove("PROMPT_COMMAND").env("HISTFILE", "");
    command
}

/// The terminal while a shell has it: termios(3) and tcsetpgrp(3).
pub struct Terminal {
    modes: Option<Termios>,
}

impl Terminal {
    /// Remembers the terminal's modes. From here on Ctrl-C and Ctrl-\ are meant for the shell.
    pub(crate) fn lend() -> Self {
        for key in [Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: ignoring a signal installs no handler.
            let _ = unsafe { signal(key, SigHandler::SigIgn) };
        }
        Self::remember()
    }

    /// Remembers the terminal's modes, if there is one.
    pub fn remember() -> Self {
        Self { modes: tcgetattr(stdin()).ok() }
    }

    /// Puts the modes back and this process in the foreground again: a shell that had a PID
    /// namespace of its own cannot, for it has no number for a process group outside.
    pub fn take_back(self) {
        let Some(modes) = self.modes else { return };
        // A background process that sets the foreground group gets SIGTTOU.
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
        // Both fail only when the terminal is gone, and then there is nothing to put back.
        let _ = tcsetpgrp(stdin(), getpgrp());
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &modes);
    }
}
