//! What a lesson declares, the options that all lessons share, and how a lesson ends.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::child;
use crate::host::{self, Named as _, Refusal};
use crate::progress::{self, Deed};
use crate::transcript::Transcript;

/// The exit code of a lesson whose every claim holds.
pub const HOLDS: u8 = 0;
/// The exit code of a lesson with a claim that does not hold.
pub const FAILS: u8 = 1;
/// The exit code of wrong usage, as clap has it.
pub const USAGE: u8 = 2;
/// The exit code of a lesson that this host cannot run: EX_UNAVAILABLE of sysexits(3).
pub const REFUSED: u8 = 69;

/// One lesson: one file, one program, one chapter.
pub struct Lesson {
    /// The lesson's one name: file stem, binary, chapter, snapshot.
    pub name: &'static str,
    /// The lesson's own source. Its first line is the lesson's title.
    pub source: &'static str,
    /// The sentences of the book that the run checks: a stable id and the sentence.
    pub claims: &'static [(&'static str, &'static str)],
    /// The control experiments: what `--without NAME` can leave out.
    pub controls: &'static [Control],
    /// Is there something to stand in: does the lesson end with [`crate::child::Inside::leave`]?
    pub shell: bool,
}

/// One ingredient that a lesson can leave out, to show what it is good for.
pub struct Control {
    /// What `--without` calls it.
    pub name: &'static str,
    /// What happens then, in a few words.
    pub what: &'static str,
    /// The ids of the claims that are false without it.
    pub breaks: &'static [&'static str],
}

/// What the reader asked for.
#[derive(Clone, Default)]
pub struct Options {
    /// The control experiment, or none.
    pub without: Option<String>,
    /// Stay inside with a shell when the observations are done.
    pub shell: bool,
    /// Wait for Enter before each observation.
    pub step: bool,
}

impl Options {
    /// Is this the ingredient that the reader left out?
    pub fn without(&self, control: &str) -> bool {
        self.without.as_deref() == Some(control)
    }
}

/// The title in a lesson's source: its first line, a `//!` comment, without the full stop.
pub fn title(source: &str) -> &str {
    let line = source.lines().next().unwrap_or_default();
    line.trim_start_matches("//!").trim().trim_end_matches('.')
}

impl Lesson {
    /// The sentence of the claim with this id.
    pub(crate) fn sentence(&self, id: &str) -> Option<&'static str> {
        self.claims.iter().find(|claim| claim.0 == id).map(|claim| claim.1)
    }

    /// The whole program: reads the arguments, runs `body`, prints, gives the exit code.
    pub fn run(&self, body: fn(&mut Transcript) -> Result<(), Refusal>) -> ExitCode {
        self.run_with(|| self.arguments().get_matches(), body)
    }

    /// The same, for a lesson that has added arguments of its own to [`Lesson::arguments`].
    pub fn run_with(
        &self,
        arguments: impl FnOnce() -> ArgMatches,
        body: fn(&mut Transcript) -> Result<(), Refusal>,
    ) -> ExitCode {
        // A reader who pipes us into `head` has seen enough: end as `cat` would.
        // SAFETY: installs no handler, and nothing else in this program sets one for SIGPIPE.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };

        let run = || self.lists_or_runs(&arguments(), body);
        match host::memory_is_there().and_then(|()| run()) {
            Ok(true) => ExitCode::from(HOLDS),
            Ok(false) => ExitCode::from(FAILS),
            Err(refusal) => {
                refusal.tell(self.name);
                ExitCode::from(REFUSED)
            }
        }
    }

    /// Does every claim hold?
    fn lists_or_runs(
        &self,
        arguments: &ArgMatches,
        body: fn(&mut Transcript) -> Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        if arguments.get_flag("list") {
            io::stdout().write_all(self.list().as_bytes()).named("write(1)")?;
            return Ok(true);
        }
        host::files_are_there()?;
        host::proc_is_ours()?;
        let options = Options {
            // A lesson without controls, or without a shell, has no such argument.
            without: arguments.try_get_one("without").ok().flatten().cloned(),
            shell: self.shell && arguments.get_flag("shell"),
            step: arguments.get_flag("step"),
        };
        let progress = progress::Place::of_user(); // who we are while nothing has happened yet
        let is_whole = options.without.is_none();
        let mut transcript = Transcript::new(self, options);
        if let Err(refusal) = body(&mut transcript) {
            child::nobody_was_killed()?; // or that is why
            return Err(refusal);
        }
        let holds = transcript.end()?;
        // Nobody has seen what was written to a file or into a pipe.
        if holds && is_whole && io::stdout().is_terminal() {
            progress.note(&[(Deed::Ran, self.name)]);
        }
        Ok(holds)
    }

    /// The arguments that all lessons have.
    pub fn arguments(&self) -> Command {
        let mut more = String::new();
        for (nth, control) in self.controls.iter().enumerate() {
            let title = if nth == 0 { "What can be left out:\n" } else { "" };
            let end = if nth + 1 == self.controls.len() { "\n" } else { "" };
            let _ = writeln!(more, "{title}  {:<10}  {}{end}", control.name, control.what);
        }
        let _ = write!(
            more,
            "Chapter: book/src/{}.md\n\
             Exit codes: 0 every claim holds, 1 a claim fails, 2 wrong usage,\n\
             69 this host cannot run the lesson",
            self.name
        ); // a String takes everything
        let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
        let controls: Vec<_> = self.controls.iter().map(|control| control.name).collect();
        let without = Arg::new("without")
            .long("without")
            .value_name("INGREDIENT")
            .help("Control experiment: leave this out")
            .hide_possible_values(true)
            .value_parser(controls);
        let shell = flag("shell", "Then stay inside with a shell, to look around");
        Command::new(self.name)
            .about(format!("{}: {}", self.name, title(self.source)))
            .after_help(more)
            .args((!self.controls.is_empty()).then_some(without))
            .args(self.shell.then_some(shell))
            .arg(flag("step", "Wait for Enter before each observation"))
            .arg(flag("list", "Print the claims and the controls, run nothing"))
    }

    fn list(&self) -> String {
        let mut list = String::new();
        for (id, sentence) in self.claims {
            let _ = writeln!(list, "claim    {id:<5}  {sentence}"); // a String takes everything
        }
        for control in self.controls {
            let _ = writeln!(list, "without  {}  {}", control.name, control.what);
        }
        list
    }
}
