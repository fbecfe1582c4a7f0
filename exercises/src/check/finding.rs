//! What came of a step: what was seen, and the mistake that it shows.

use std::fmt::Display;

use nix::errno::Errno;
use workbook::host::Refusal;

use super::steps::Step;

/// What came of a step.
pub struct Came {
    /// Which.
    pub step: &'static Step,
    /// And what.
    pub outcome: Outcome,
}

/// Is it reached?
pub enum Outcome {
    /// Yes.
    Passed,
    /// No, and why.
    NotYet(Miss),
    /// This host cannot check it.
    NotHere(Refusal),
}

/// Why a step is not passed, while it is checked.
#[derive(Debug)]
pub enum Trouble {
    /// The program does not do it yet.
    NotYet(Miss),
    /// This host cannot check it.
    NotHere(Refusal),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::NotHere(refusal)
    }
}

impl From<Miss> for Trouble {
    fn from(miss: Miss) -> Self {
        Self::NotYet(miss)
    }
}

/// What was seen, and what it most likely comes from.
#[derive(Debug, Default)]
pub struct Miss {
    /// In the order in which it is told.
    pub seen: Vec<Seen>,
    /// A sentence or two; empty if the evidence shows no mistake that we know.
    pub mistake: String,
}

/// One observation.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// `inside`, `outside`, or `program` for what the reader's program did and said.
    pub who: String,
    /// The call or file, as a shell or strace(1) would show it.
    pub what: String,
    /// What came of it.
    pub value: String,
}

impl Miss {
    /// A miss whose evidence shows this mistake.
    pub fn that(mistake: impl Display) -> Self {
        Self { seen: Vec::new(), mistake: mistake.to_string() }
    }

    /// What was seen in the container.
    pub fn inside(self, what: impl Display, value: impl Display) -> Self {
        self.saw("inside", what, value)
    }

    /// What was seen on the stage, which plays the host.
    pub fn outside(self, what: impl Display, value: impl Display) -> Self {
        self.saw("outside", what, value)
    }

    /// What the program did.
    pub fn program(self, what: impl Display, value: impl Display) -> Self {
        self.saw("program", what, value)
    }

    /// Has it seen this?
    pub fn tells(&self, value: &str) -> bool {
        self.seen.iter().any(|seen| seen.value == value)
    }

    fn saw(mut self, who: &str, what: impl Display, value: impl Display) -> Self {
        let (what, value) = (one_line(&what.to_string()), one_line(&value.to_string()));
        self.seen.push(Seen { who: who.to_string(), what, value });
        self
    }
}

/// A program may have printed anything.
fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Who has been seen ended before we had looked at it.
pub fn gone(errno: Errno) -> Trouble {
    let mistake = "The command in the container ended before it was told to.";
    Miss::that(mistake).outside("open(\"/proc/PID/...\")", format!("-1 {errno:?}")).into()
}
