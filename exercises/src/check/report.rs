//! How the outcome is told: as lines for a reader, or as JSON for an instructor.

use std::io::{self, IsTerminal as _, Write as _, stdout};

use anstream::AutoStream;
use anstyle::Style;
use serde_json::{Value, json};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::HOLDS;
use workbook::progress::Deed;
use workbook::transcript::{BAD, GOOD};

use crate::text::{COLUMNS, wrap};

use super::finding::{Came, Miss, Outcome, Seen};
use super::steps::STEPS;
use super::target::Target;
use super::words::{PAGE, Words};
use super::{code, kept};

/// Where texts begin.
const INDENT: usize = 9;
const QUIET: Style = Style::new().dimmed();

/// What the reader is told.
pub struct Report {
    out: AutoStream<io::Stdout>,
    name: String,
    is_own: bool,
    is_json: bool,
    /// What asks for a hint, and what for the worked program of a step.
    again: [String; 2],
}

impl Report {
    /// Begins it.
    pub fn new(target: &Target, is_json: bool) -> Result<Self, Refusal> {
        let (name, is_own) = (target.name.clone(), target.is_own);
        let again = ["--hint", "--solution"].map(|word| target.again(word));
        let mut report = Self { out: anstream::stdout(), name, is_own, is_json, again };
        let page = COLUMNS.saturating_sub(report.name.chars().count());
        match page > PAGE.len() {
            true => report.line(format!("{}{QUIET}{PAGE:>page$}{QUIET:#}\n", report.name))?,
            false => report.line(format!("{}\n", report.name))?, // as long as it was typed
        }
        Ok(report)
    }

    /// A step: a line.
    pub fn tell(&mut self, came: &Came) -> Result<(), Refusal> {
        let (style, verdict) = match came.outcome {
            Outcome::Passed => (GOOD, "passed"),
            Outcome::NotYet(_) => (BAD, "not yet"),
            Outcome::NotHere(_) => (QUIET, "not here"),
        };
        let (number, name, title) =
            (came.step.number(), came.step.name, Words::of(came.step).title);
        let gap = if title.is_empty() { 0 } else { 10 - verdict.len() };
        self.line(format!("{number:>2}  {name:<8}  {style}{verdict}{style:#}{:gap$}{title}", ""))
    }

    /// What follows the lines: what was seen of the step that is not reached, why steps cannot be
    /// checked here, and what to do next.
    pub fn end(&mut self, all: &[Came], hint: bool) -> Result<(), Refusal> {
        if self.is_json {
            return writeln!(stdout(), "{}", self.json(all)).named("write(1)");
        }
        let mut told: Vec<&Refusal> = Vec::new();
        for came in all {
            match &came.outcome {
                Outcome::NotHere(refusal) if !told.contains(&refusal) => {
                    told.push(refusal);
                    let name = came.step.name;
                    self.line(format!(
                        "\n{name} cannot be checked here\n{}",
                        refusal.explanation().trim_end()
                    ))?;
                }
                Outcome::NotYet(miss) => self.miss(came, miss, hint)?,
                _ => {}
            }
        }
        if all.len() == STEPS.len() && code(all) == HOLDS {
            self.line("\nEvery step is passed that this host can check.".to_string())?;
        }
        let is_passed = |came: &&Came| matches!(came.outcome, Outcome::Passed);
        let Some(last) = all.iter().rfind(is_passed).filter(|_| self.is_own) else { return Ok(()) };
        let (number, solution) = (last.step.number(), &self.again[1]);
        self.line(format!("\nStep {number} as another wrote it: {solution} {number}"))
    }

    fn miss(&mut self, came: &Came, miss: &Miss, hint: bool) -> Result<(), Refusal> {
        let words = Words::of(came.step);
        self.line(String::new())?;
        self.text("wants", &words.wanted)?;
        for seen in &miss.seen {
            self.seen(seen)?;
        }
        self.text("likely", &miss.mistake)?;
        self.text("read", &format!("book/src/{}.md", came.step.lesson))?;
        if !hint {
            return self.text("hint", &self.again[0].clone());
        }
        let nth = kept::ask(Deed::Hint, came.step.name).min(words.hints.len());
        let Some(hint) = words.hints.get(nth.saturating_sub(1)) else { return Ok(()) };
        self.text("hint", &format!("{hint} ({nth} of {})", words.hints.len()))
    }

    fn seen(&mut self, Seen { who, what, value }: &Seen) -> Result<(), Refusal> {
        let line = format!("{who:<7}  {what:<47} = {value}");
        match line.chars().count() <= COLUMNS {
            true => self.line(line),
            false => self.text(who, &format!("{what} = {value}")),
        }
    }

    /// A text with its name in front, broken into lines. Without a text nothing.
    fn text(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        for (nth, line) in wrap("", text, COLUMNS - INDENT).lines().enumerate() {
            let name = if nth == 0 { name } else { "" };
            self.line(format!("{QUIET}{name:<7}{QUIET:#}  {line}"))?;
        }
        Ok(())
    }

    fn line(&mut self, line: String) -> Result<(), Refusal> {
        if self.is_json {
            return Ok(());
        }
        writeln!(self.out, "{}", line.trim_end_matches(' ')).named("write(1)")
    }

    /// For a class: one line a program, so that the answers of all are a file of lines.
    fn json(&self, all: &[Came]) -> Value {
        let steps: Vec<_> = all.iter().map(step).collect();
        let passed = all.iter().filter(|came| matches!(came.outcome, Outcome::Passed)).count();
        json!({
            "program": self.name, "host": host::here(), "passed": passed, "of": STEPS.len(),
            "code": code(all), "steps": steps,
        })
    }
}

fn step(came: &Came) -> Value {
    let (number, name) = (came.step.number(), came.step.name);
    match &came.outcome {
        Outcome::Passed => json!({ "number": number, "step": name, "outcome": "passed" }),
        Outcome::NotHere(refusal) => json!({
            "number": number, "step": name, "outcome": "not here", "call": refusal.to_string(),
            "cause": refusal.explain().cause, "do": refusal.explain().cure,
        }),
        Outcome::NotYet(miss) => {
            let seen = miss.seen.iter();
            let seen = seen.map(|s| json!({ "who": s.who, "what": s.what, "value": s.value }));
            json!({
                "number": number, "step": name, "outcome": "not yet", "likely": miss.mistake,
                "seen": seen.collect::<Vec<_>>(),
            })
        }
    }
}

/// There is nothing to check, for a class: why.
pub fn not_ready_json(why: &str, code: u8) -> Result<u8, Refusal> {
    let answer = json!({
        "host": host::here(), "passed": 0, "of": STEPS.len(), "code": code, "steps": [], "why": why,
    });
    writeln!(stdout(), "{answer}").named("write(1)")?;
    Ok(code)
}

/// There is nothing to check: says why, and gives the exit code.
pub fn not_ready(why: &str, code: u8) -> Result<u8, Refusal> {
    let _ = writeln!(io::stderr(), "{why}"); // where that cannot be written there is nobody to tell
    Ok(code)
}

/// Before a check that is not the first: a clean screen, or a line.
pub fn again() -> Result<(), Refusal> {
    let clear = if stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "\n" };
    write!(stdout(), "{clear}").and_then(|()| stdout().flush()).named("write(1)")
}
