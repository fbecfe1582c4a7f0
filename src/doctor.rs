//! `workbook doctor`: what comes of each lesson on this host, and why.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::contents::Entry;
use crate::host::{self, Refusal};
use crate::lesson::{HOLDS, REFUSED};
use crate::needs::{self, Found, Verdict};
use crate::transcript::{BAD, GOOD};

/// The exit code: can every core lesson run? A core lesson needs nothing but a Linux kernel.
pub fn code(lessons: &[Entry], found: &Found) -> u8 {
    let (can, all) = core(lessons, found);
    if can == all { HOLDS } else { REFUSED }
}

/// How many of the core lessons can run, of how many.
fn core(lessons: &[Entry], found: &Found) -> (usize, usize) {
    let core = lessons.iter().filter(|lesson| needs::is_core(&lesson.source));
    let can = |lesson: &&Entry| found.verdict(&lesson.source).is_run();
    (core.clone().filter(can).count(), core.count())
}

/// A line a lesson, and which were done. Gives the refusals, each once, in the order of the numbers
/// that the lines have.
pub fn print_lessons<'found>(
    out: &mut impl Write,
    lessons: &[Entry],
    found: &'found Found,
    done: &BTreeSet<&str>,
) -> io::Result<Vec<&'found Refusal>> {
    let mut refusals: Vec<&Refusal> = Vec::new();
    for Entry { name, title, source } in lessons {
        let unless_done = |verdict| if done.contains(&**name) { "done" } else { verdict };
        match found.verdict(source) {
            Verdict::Runs => {
                let verdict = unless_done("runs");
                writeln!(out, "{GOOD}{verdict}{GOOD:#}    {name:<17} {title}")?;
            }
            Verdict::Partly(open) => {
                let verdict = unless_done("partly");
                writeln!(out, "{GOOD}{verdict:<6}{GOOD:#}  {name:<17} {title}")?;
                for (id, want) in open {
                    writeln!(out, "{:26}{id} stays open for want of {want}", "")?;
                }
            }
            Verdict::Cannot(refusal) => {
                if !refusals.contains(&refusal) {
                    refusals.push(refusal);
                }
                let number = refusals.iter().position(|known| *known == refusal).unwrap_or(0) + 1;
                writeln!(out, "{BAD}cannot{BAD:#}  {name:<17} {title} [{number}]")?;
            }
        }
    }
    Ok(refusals)
}

/// For a reader: the lessons, what refuses them, the tools.
pub fn print(out: &mut impl Write, lessons: &[Entry], found: &Found) -> io::Result<()> {
    writeln!(out, "What runs on {}\n", host::here())?;
    let refusals = print_lessons(out, lessons, found, &BTreeSet::new())?;
    for (nth, refusal) in refusals.into_iter().enumerate() {
        write!(out, "\n[{}]\n{}", nth + 1, refusal.explanation())?;
    }
    writeln!(out)?;
    for (program, place) in found.tools() {
        match place {
            Ok(path) => writeln!(out, "{GOOD}found{GOOD:#}   {program:<18}  {}", path.display())?,
            Err(missing) => {
                writeln!(out, "{BAD}lacks{BAD:#}   {program}")?;
                writeln!(out, "        {}", missing.explain().cure)?;
            }
        }
    }
    let (can, all) = core(lessons, found);
    writeln!(
        out,
        "\nOf the {all} core lessons, which need nothing but a Linux kernel, {can} can run."
    )
}

/// For an instructor: the same as JSON, on one line, so that a class's answers are a file of lines.
pub fn json(lessons: &[Entry], found: &Found) -> String {
    let mut text = String::new();
    let mut doctor = write_json::object(&mut text);
    doctor.string("host", &host::here()).string("architecture", std::env::consts::ARCH);
    doctor.bool("core", code(lessons, found) == HOLDS);
    let mut list = doctor.array("lessons");
    for Entry { name, source, .. } in lessons {
        let mut lesson = list.object();
        lesson.string("lesson", name).bool("core", needs::is_core(source));
        match found.verdict(source) {
            Verdict::Runs => {
                lesson.string("verdict", "runs");
            }
            Verdict::Partly(open) => {
                let mut claims = lesson.string("verdict", "partly").array("open");
                for (id, want) in open {
                    claims.object().string("claim", &id).string("want", &want);
                }
            }
            Verdict::Cannot(refusal) => {
                explain(&mut lesson.string("verdict", "cannot").object("refusal"), refusal);
            }
        }
    }
    drop(list);
    let mut list = doctor.array("tools");
    for (program, place) in found.tools() {
        let mut tool = list.object();
        tool.string("tool", program);
        match place {
            Ok(path) => {
                tool.string("path", &path.display().to_string());
            }
            Err(refusal) => explain(&mut tool, &refusal),
        }
    }
    drop(list);
    drop(doctor);
    text
}

fn explain(object: &mut write_json::Object, refusal: &Refusal) {
    let row = refusal.explain();
    object.string("call", &refusal.to_string());
    object.string("errno", &refusal.errno().map_or(String::new(), |errno| format!("{errno:?}")));
    object.string("cause", row.cause).string("do", row.cure).string("means", row.means);
}
