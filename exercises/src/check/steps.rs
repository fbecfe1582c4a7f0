//! The steps: what a program has to do, and how the kernel is asked whether it does. The texts and
//! the hints of each are in `book/src/your-turn.md`.
//!
//! They are cumulative: who has reached a later one still passes those before. So no step asks for
//! more than its own effect, and an effect can be had in several ways.

use super::finding::{Miss, Trouble};
use super::program::Program;
use super::stage::Stage;
use super::view::View;

mod enter;
mod hostname;
mod init;
mod ipc;
mod limits;
mod mounts;
mod net;
mod pid;
mod powers;
mod proc_inside;
mod root;
mod rootfs;
mod run;

/// One step.
pub struct Step {
    /// Its name, which never changes. Its number is its place.
    pub name: &'static str,
    /// The lesson to read again.
    pub lesson: &'static str,
    /// Does a program do it? On a stage of its own.
    pub check: fn(&Stage) -> Result<(), Trouble>,
}

/// All of them.
pub const STEPS: [Step; 13] = [
    Step { name: "run", lesson: "clone-demo", check: run::check },
    Step { name: "hostname", lesson: "uts-demo", check: hostname::check },
    Step { name: "pid", lesson: "pid-demo", check: pid::check },
    Step { name: "proc", lesson: "ps-demo", check: proc_inside::check },
    Step { name: "mounts", lesson: "propagation-demo", check: mounts::check },
    Step { name: "root", lesson: "user-demo", check: root::check },
    Step { name: "ipc", lesson: "ipc-demo", check: ipc::check },
    Step { name: "net", lesson: "net-demo", check: net::check },
    Step { name: "rootfs", lesson: "rootfs-demo", check: rootfs::check },
    Step { name: "init", lesson: "init-demo", check: init::check },
    Step { name: "limits", lesson: "limits-demo", check: limits::check },
    Step { name: "powers", lesson: "capabilities-demo", check: powers::check },
    Step { name: "enter", lesson: "setns-demo", check: enter::check },
];

impl Step {
    /// Its number, from 1.
    pub fn number(&self) -> usize {
        STEPS.iter().position(|step| step.name == self.name).unwrap_or_default() + 1
    }

    /// The step with this name or number.
    pub fn find(word: &str) -> Option<&'static Self> {
        STEPS.iter().find(|step| step.name == word || step.number().to_string() == word)
    }
}

/// A container with the probe in it.
struct Container<'stage> {
    program: Program<'stage>,
    probe: View,
}

impl<'stage> Container<'stage> {
    fn start(stage: &'stage Stage) -> Result<Self, Trouble> {
        Self::of(stage, &stage.target.words)
    }

    /// With the folder as its `/`.
    fn with_rootfs(stage: &'stage Stage) -> Result<Self, Trouble> {
        if !stage.target.wants_rootfs() {
            let miss = Miss::that(
                "Say where the folder goes that shall become /: the checker writes its path where \
                 a word has {rootfs}, as in --rootfs {rootfs}.",
            );
            return Err(miss.program("words with {rootfs}", "none").into());
        }
        Self::of(stage, &stage.target.with_rootfs)
    }

    fn of(stage: &'stage Stage, words: &[String]) -> Result<Self, Trouble> {
        let mut program = Program::start(stage, words)?;
        let says = program.hello()?;
        match View::of_probe(stage, &program.token, &says)? {
            Some(probe) => Ok(Self { program, probe }),
            None => {
                let miss = Miss::that(
                    "The command answered, and had ended before it was told to: it has to have \
                     your program's standard input. Or it was not run at all, but something else \
                     was.",
                );
                Err(program.with_last_words(miss).into())
            }
        }
    }

    /// What was seen if it is in the host's namespace of this kind, and why that may be.
    fn shares(&self, kind: &str, flag: &str) -> Result<Option<Miss>, Trouble> {
        let its = self.probe.namespace(kind)?;
        let ours = self.program.stage.namespace(kind)?;
        let link = format!("readlink(\"/proc/self/ns/{kind}\")");
        let miss = || {
            let mistake =
                format!("It is in the host's namespace: {flag} is missing, or was refused.");
            let miss = Miss::that(mistake).inside(&link, &its).outside(&link, &ours);
            self.program.with_last_words(miss)
        };
        Ok((its == ours).then(miss))
    }

    /// The miss, if it is in the host's namespace of this kind.
    fn must_not_share(&self, kind: &str, flag: &str) -> Result<(), Trouble> {
        self.shares(kind, flag)?.map_or(Ok(()), |miss| Err(miss.into()))
    }
}
