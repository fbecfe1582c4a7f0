//! How a lesson speaks. Four parts, always in this order: the title with its chapter; what
//! happened, an observation a line; the claims that were just checked; the same by hand.

use std::fmt::Display;
use std::io::{self, Stdout, Write as _, stdin};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use crate::child;
use crate::host::{Named as _, Refusal};
use crate::lesson::{Lesson, Options, title};
use crate::text::COLUMNS;

const OUTSIDE: Style = AnsiColor::Blue.on_default();
const INSIDE: Style = AnsiColor::Magenta.on_default();
/// What is as it should be, on a terminal.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// What `--step` prints where it waits for Enter, on standard error.
pub(crate) const PROMPT: &str = "[Enter] ";

#[derive(PartialEq)]
enum Part {
    Nothing,
    Observations,
    Claims,
    ByHand,
}

/// What a lesson has printed so far, and whether its claims hold.
pub struct Transcript<'lesson> {
    lesson: &'lesson Lesson,
    options: Options,
    out: AutoStream<Stdout>,
    part: Part,
    checked: Vec<&'static str>,
    failed: bool,
    /// The lines of the verdict, until it is sure that nobody was killed.
    held: Vec<String>,
    unwritten: Option<io::Error>,
}

impl<'lesson> Transcript<'lesson> {
    pub(crate) fn new(lesson: &'lesson Lesson, options: Options) -> Self {
        Self {
            lesson,
            options,
            out: anstream::stdout(),
            part: Part::Nothing,
            checked: Vec::new(),
            failed: false,
            held: Vec::new(),
            unwritten: None,
        }
    }

    /// Is this the ingredient that the reader left out?
    pub fn without(&self, control: &str) -> bool {
        self.options.without(control)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn lesson(&self) -> &'static str {
        self.lesson.name
    }

    /// Prints what the process outside saw: a call as strace(1) or a shell would show it, and
    /// its result.
    pub fn outside(&mut self, call: impl Display, result: impl Display) {
        self.observe(OUTSIDE, "outside", call, result);
    }

    /// Prints that this call, outside, gave 0; or the lesson is refused.
    pub fn did(&mut self, call: &str, result: nix::Result<()>) -> Result<(), Refusal> {
        result.named(call)?;
        self.outside(call, 0);
        Ok(())
    }

    /// Prints what somebody else saw, such as the process inside: [`crate::child::Inside::hear`]
    /// does that for it.
    pub fn inside(&mut self, who: &str, call: impl Display, result: impl Display) {
        self.observe(INSIDE, who, call, result);
    }

    fn observe(&mut self, style: Style, who: &str, call: impl Display, result: impl Display) {
        self.begin(Part::Observations);
        if self.options.step {
            self.wait_for_enter();
        }
        self.line(format!(
            "{style}{who:<7}{style:#}  {call:<47} = {result}",
            call = call.to_string() // `Display` values need not honour a width
        ));
    }

    /// Checks one of the lesson's declared claims: `truth` is what the run has shown.
    ///
    /// A control that breaks the claim turns the expectation round: the claim must be false.
    pub fn claim(&mut self, id: &'static str, truth: bool) {
        let mut controls = self.lesson.controls.iter();
        let broken = controls.any(|c| self.without(c.name) && c.breaks.contains(&id));
        let (style, verdict) = match (truth, broken) {
            (true, false) if self.lesson.sentence(id).is_some() => (GOOD, "holds"),
            (false, true) => (QUIET, "false"),
            _ => (BAD, "FAILS"),
        };
        self.failed |= verdict == "FAILS";
        self.verdict(style, verdict, id, None);
    }

    /// Leaves one of the lesson's declared claims open: this host could not check it for want of
    /// something, as [`crate::needs`] calls it. That is no failure.
    pub fn open(&mut self, id: &'static str, want: &str) {
        self.verdict(QUIET, "open", id, Some(want));
    }

    fn verdict(&mut self, style: Style, verdict: &str, id: &'static str, want: Option<&str>) {
        self.begin(Part::Claims);
        self.checked.push(id);
        let unknown = "this claim is not among the lesson's claims";
        let sentence = self.lesson.sentence(id).unwrap_or(unknown);
        self.line(format!("{style}{verdict:<5}{style:#}  {id:<5}  {sentence}"));
        if let Some(want) = want {
            self.line(format!("       not checked here for want of {want}"));
        }
        let last = self.checked.len() == self.lesson.claims.len();
        if let Some(control) = self.options.without.as_ref().filter(|_| last) {
            let outcome = if self.failed { "not as expected" } else { "as expected" };
            self.line(format!("       {outcome} without {control}"));
        }
    }

    /// Prints a command for the reader's own shell, and what it prints there. A control
    /// experiment is this program's alone: it shows no such lines.
    pub fn by_hand(&mut self, command: &str, output: impl Display) {
        if self.options.without.is_some() {
            return;
        }
        self.begin(Part::ByHand);
        self.line(format!("{QUIET}by hand{QUIET:#}  {command}"));
        for line in output.to_string().lines() {
            self.line(format!("         {line}"));
        }
    }

    /// Prints a line that belongs to no part: what the reader should know before a shell.
    pub(crate) fn note(&mut self, text: impl Display) -> Result<(), Refusal> {
        self.give_the_verdict()?;
        self.write("");
        self.write(&text.to_string());
        Ok(())
    }

    /// Prints the claims and what follows; or the lesson is refused, for what was seen of a process
    /// that was killed meanwhile says nothing.
    fn give_the_verdict(&mut self) -> Result<(), Refusal> {
        child::nobody_was_killed()?;
        let held = std::mem::take(&mut self.held);
        held.iter().for_each(|line| self.write(line));
        Ok(())
    }

    /// Ends the transcript: did every declared claim get checked, and does every one hold?
    pub(crate) fn end(mut self) -> Result<bool, Refusal> {
        let declared = self.lesson.claims.iter().map(|claim| claim.0);
        for id in declared.collect::<Vec<_>>() {
            if !self.checked.contains(&id) {
                self.claim(id, false);
            }
        }
        self.give_the_verdict()?;
        let flushed = self.out.flush();
        match self.unwritten.take() {
            Some(error) => Err(error),
            None => flushed,
        }
        .named("write(1)")?;
        Ok(!self.failed)
    }

    /// Opens the next part with an empty line; the first one with the title.
    fn begin(&mut self, part: Part) {
        if self.part == part {
            return;
        }
        if self.part == Part::Nothing {
            let left = format!("{}: {}", self.lesson.name, title(self.lesson.source));
            let right = format!("book/src/{}.md", self.lesson.name);
            let gap = COLUMNS.saturating_sub(left.len() + right.len()).max(2);
            self.line(format!("{left}{:gap$}{QUIET}{right}{QUIET:#}", ""));
            let mut controls = self.lesson.controls.iter();
            if let Some(control) = controls.find(|control| self.options.without(control.name)) {
                self.line(format!("without {}: {}", control.name, control.what));
            }
        }
        self.part = part;
        self.line(String::new());
    }

    fn line(&mut self, text: String) {
        match self.part {
            Part::Claims | Part::ByHand => self.held.push(text),
            Part::Nothing | Part::Observations => self.write(&text),
        }
    }

    /// Writes a whole line, so that a fork can never copy half of one. A full disk is
    /// remembered and told at the end: the lesson still runs to its end and leaves nothing.
    fn write(&mut self, text: &str) {
        if self.unwritten.is_none() {
            self.unwritten = writeln!(self.out, "{}", text.trim_end()).err();
        }
    }

    /// Waits until the reader wants the next line. When there is nobody left to ask, goes on.
    fn wait_for_enter(&mut self) {
        // Also over a pipe, for `workbook map`. Who has sent standard error elsewhere knows what we
        // wait for.
        let _ = write!(anstream::stderr(), "{QUIET}{PROMPT}{QUIET:#}");
        let mut line = String::new();
        if !matches!(stdin().read_line(&mut line), Ok(1..)) {
            self.options.step = false;
        }
    }
}

/// A result as strace(1) shows it: `0`, or `-1` and the name of the errno.
pub fn result(result: nix::Result<()>) -> String {
    match result {
        Ok(()) => "0".to_string(),
        Err(errno) => format!("-1 {errno:?}"),
    }
}

/// The same for a call that gives something: that, or `-1` and the name of the errno.
pub fn value(result: nix::Result<impl Display>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(errno) => format!("-1 {errno:?}"),
    }
}
