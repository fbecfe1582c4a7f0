//! What `workbook` says without a command.

use std::error::Error;
use std::io::Write;

use crate::contents::Entry;
use crate::doctor;
use crate::host::{self, Named as _, Refusal};
use crate::lesson::HOLDS;
use crate::needs::Found;
use crate::progress::{Deed, Place, Progress};

/// The lessons in the book's order, what this host can run, how far the reader has come, what to
/// type next. Gives the exit code.
pub fn greet(lessons: &[Entry]) -> Result<u8, Box<dyn Error>> {
    let mut out = anstream::stdout();
    let (found, progress) = (Found::default(), Place::of_user().progress());
    let Some(next) = next(lessons, &found, &progress) else {
        return Err("book/src/SUMMARY.md names no lesson".into());
    };
    writeln!(out, "Starting with Linux Containers: a workbook that your own kernel checks\n")
        .named("write(1)")?;
    let done = progress.all(Deed::Ran);
    let refusals = doctor::print_lessons(&mut out, lessons, &found, &done).named("write(1)")?;
    for (nth, refusal) in refusals.into_iter().enumerate() {
        let line = if nth == 0 { "\n" } else { "" };
        writeln!(out, "{line}[{}] {refusal}", nth + 1).named("write(1)")?;
    }
    writeln!(out, "\nHere: {}.", host::here()).named("write(1)")?;
    if let Some(so_far) = so_far(&progress) {
        writeln!(out, "You: {so_far}.").named("write(1)")?;
    }
    offer(&mut out, next, &progress)?;
    Ok(HOLDS)
}

/// The first lesson that can run here and has not been run, or the first; and what it is good for.
fn next<'lessons>(
    lessons: &'lessons [Entry],
    found: &Found,
    progress: &Progress,
) -> Option<(&'lessons Entry, &'static str)> {
    let done = progress.all(Deed::Ran);
    let mut can = lessons.iter().filter(|lesson| found.verdict(&lesson.source).is_run()).peekable();
    let Some(first) = can.peek().copied() else {
        return Some((lessons.first()?, "says why not, and what to do"));
    };
    let new = can.find(|lesson| !done.contains(&*lesson.name));
    Some((new.unwrap_or(first), "with book/src/ open beside it"))
}

/// What there is to type.
fn offer(
    out: &mut impl Write,
    (next, meaning): (&Entry, &str),
    progress: &Progress,
) -> Result<(), Refusal> {
    let study = match progress.missed().len() {
        0 => "predict, run, compare".to_string(),
        missed => format!("{missed} that you missed come back"),
    };
    let build = match progress.all(Deed::Passed).len() {
        0 => ("start", "a container of your own; then: check"),
        _ => ("check", "your container: the step to do next"),
    };
    writeln!(out, "\nnext    cargo run --bin {:<17} {meaning}", next.name).named("write(1)")?;
    for (what, command, meaning) in [
        ("study", "study", &*study),
        ("build", build.0, build.1),
        ("all", "run --all", "every lesson, a line each"),
        ("claims", "claims", "every claim, and whether it holds"),
        ("doctor", "doctor", "what cannot run here, and what to do"),
    ] {
        writeln!(out, "{what:<7} cargo run -- {command:<20} {meaning}").named("write(1)")?;
    }
    writeln!(out, "book    cargo book                        the book, in your browser")
        .named("write(1)")
}

/// What the reader has done, if anything.
fn so_far(progress: &Progress) -> Option<String> {
    let (right, wrong) = (progress.all(Deed::Right), progress.all(Deed::Wrong));
    let answers = right.union(&wrong).count();
    let [ran, passed] = [Deed::Ran, Deed::Passed].map(|deed| progress.all(deed).len());
    let parts = [
        (ran > 0).then(|| format!("lessons run: {ran}")),
        (answers > 0).then(|| {
            format!("predictions right: {} of {answers}", answers - progress.missed().len())
        }),
        (passed > 0).then(|| format!("steps passed: {passed}")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
