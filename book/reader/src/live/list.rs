//! What may be run: the lessons of the book, as the book shows them, and the reader's own steps.

use std::env;
use std::ffi::OsString;

use exercises::check::steps::Step;
use serde::{Deserialize, Serialize};
use workbook::contents;

/// What a page asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    lesson: Option<String>,
    run: Option<String>,
    step: Option<String>,
    /// The page that has the terminal.
    pub page: String,
    pub cols: u16,
    pub rows: u16,
}

/// A run of a lesson, or a step of the reader's own container.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum What {
    Lesson { lesson: String, run: String },
    Step { step: String },
}

impl Wanted {
    /// `None` if it is both or neither.
    pub fn what(&self) -> Option<What> {
        match (self.lesson.clone(), self.run.clone(), self.step.clone()) {
            (Some(lesson), Some(run), None) => Some(What::Lesson { lesson, run }),
            (None, None, Some(step)) => Some(What::Step { step }),
            _ => None,
        }
    }
}

impl What {
    /// What is said to cargo, or `None` if this is not on the list.
    pub fn arguments(&self) -> Option<Vec<&str>> {
        match self {
            Self::Lesson { lesson, run } => {
                let lessons = contents::lessons().ok()?;
                lessons.iter().find(|known| known.name == *lesson)?;
                let mut arguments = vec!["run", "--bin", lesson, "--"];
                arguments.extend(options(lesson, run)?);
                Some(arguments)
            }
            Self::Step { step } => {
                let step = Step::find(step)?;
                Some(vec!["run", "--", "check", "--step", step.name])
            }
        }
    }
}

/// What is said to the lesson. Of what can be left out, and of the shell, the book shows a run that
/// a test keeps: what has none is not offered.
fn options<'run>(lesson: &str, run: &'run str) -> Option<Vec<&'run str>> {
    let is_shown = |kind: &str| {
        let file = format!("tests/snapshots/{lesson}@{kind}.snap");
        contents::root().join(file).is_file()
    };
    match run.split_once(' ') {
        None if run == "plain" => Some(vec![]),
        None if run == "step" => Some(vec!["--step"]),
        None if run == "shell" && is_shown("shell") => Some(vec!["--shell"]),
        Some(("without", name)) if is_name(name) && is_shown(&format!("without-{name}")) => {
            Some(vec!["--without", name])
        }
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The environment of what is run: what cargo, a shell and guest-demo need, and nothing that a page
/// could set.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let needed = env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            let starts = ["CARGO_", "RUSTUP_", "XDG_"];
            let names = ["PATH", "HOME", "USER", "SHELL", "LANG", "TMPDIR", "GUEST_KERNEL"];
            names.contains(&name) || starts.iter().any(|start| name.starts_with(start))
        })
    });
    needed.chain([("TERM".into(), "xterm-256color".into())])
}
