//! What in a page the live book can do once more: the run that a transcript is of, and the check of
//! a step. The static page shows nothing of these marks.

use mdbook_driver::book::{Book, Chapter};
use workbook::contents;

/// Marks the transcripts and the steps of every chapter. An include is still a directive then.
pub fn mark(book: &mut Book) {
    book.for_each_chapter_mut(mark_chapter);
}

fn mark_chapter(chapter: &mut Chapter) {
    let lines: Vec<_> = chapter.content.lines().collect();
    let mut page = String::new();
    for (at, &line) in lines.iter().enumerate() {
        let next = lines.get(at + 1).and_then(|next| transcript(next));
        let last = at.checked_sub(1).and_then(|last| transcript(lines[last]));
        if let (Some((lesson, run)), "```text") = (next, line) {
            page += &format!("<div class=\"run\" data-lesson=\"{lesson}\" data-run=\"{run}\">\n\n");
            page += "```text\n";
        } else if let (Some(_), "```") = (last, line) {
            page += "```\n\n</div>\n";
        } else if let Some(step) = between(line, "{{#include your-turn.md:", "}}") {
            page += &format!("{}{line}\n\n</div>\n", turn(step));
        } else if let Some(step) = between(line, "<!-- ANCHOR: ", " -->") {
            page += &turn(step);
        } else if between(line, "<!-- ANCHOR_END: ", " -->").is_some() {
            page += "\n</div>\n";
        } else {
            page += &format!("{line}\n");
        }
    }
    chapter.content = page;
}

fn turn(step: &str) -> String {
    format!("<div class=\"turn\" data-step=\"{step}\">\n\n")
}

/// The lesson and the run that a line includes the accepted transcript of. Of a mistake there is
/// no run: it is a command of its own.
fn transcript(line: &str) -> Option<(&str, String)> {
    let name = between(line, "{{#include ../../tests/snapshots/", ".snap:4:}}")?;
    let (lesson, kind) = name.split_once('@').unwrap_or((name, "plain"));
    let run = match kind.strip_prefix("without-") {
        Some(ingredient) => format!("without {ingredient}"),
        None if ["plain", "shell"].contains(&kind) => kind.to_string(),
        None => return None,
    };
    let source = contents::root().join("lessons").join(lesson).with_extension("rs");
    source.exists().then_some((lesson, run))
}

fn between<'line>(line: &'line str, start: &str, end: &str) -> Option<&'line str> {
    line.strip_prefix(start)?.strip_suffix(end)
}
