//! The questions in a page: which option is right, for the reader's eyes and for the script that
//! lets them choose.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use exercises::questions::{Question, Run, questions};
use mdbook_driver::book::{Book, Chapter};
use workbook::contents;

/// Marks the questions of every chapter.
pub fn mark(book: &mut Book) -> Result<()> {
    let mut marked = Ok(());
    book.for_each_chapter_mut(|chapter| {
        if marked.is_ok() {
            marked = mark_chapter(chapter);
        }
    });
    marked
}

fn mark_chapter(chapter: &mut Chapter) -> Result<()> {
    let Some(path) = &chapter.path else { return Ok(()) };
    let name = path.display().to_string();
    let questions = questions(&name, &chapter.content).map_err(|fault| anyhow!("{fault}"))?;
    if questions.is_empty() {
        return Ok(());
    }
    let run = run(path)?;
    let lines: Vec<_> = chapter.content.lines().collect();
    let (mut page, mut done) = (String::new(), 0);
    for (number, question) in (1..).zip(questions) {
        let right = question.right(&run);
        let right = right.map_err(|_| anyhow!("{name}: {}: which is right?", question.title))?;
        page.extend(lines[done..question.lines.start].iter().flat_map(|line| [line, "\n"]));
        let id = format!("{}/{number}", path.with_extension("").display());
        page += &section(&id, &question, &lines[question.lines.clone()], right);
        done = question.lines.end;
    }
    page.extend(lines[done..].iter().flat_map(|line| [line, "\n"]));
    chapter.content = page;
    Ok(())
}

/// The run of a lesson that the book shows.
fn run(lesson: &Path) -> Result<Run> {
    let snapshot = contents::root().join("tests/snapshots").join(lesson).with_extension("snap");
    let transcript = fs::read_to_string(&snapshot).context(snapshot.display().to_string())?;
    Ok(Run::of(&transcript))
}

/// Which option of a question such as `pid-demo/1` is right, counted from 0; `None` where the book
/// has no such question.
pub fn right(id: &str) -> Option<usize> {
    let (lesson, number) = id.split_once('/')?;
    contents::lessons().ok()?.iter().find(|known| known.name == lesson)?;
    let chapter = contents::root().join("book/src").join(lesson).with_extension("md");
    let questions = questions(lesson, &fs::read_to_string(chapter).ok()?).ok()?;
    let number: usize = number.parse().ok()?;
    questions.get(number.checked_sub(1)?)?.right(&run(lesson.as_ref()).ok()?).ok()
}

/// A question's lines without the comments, with its name in the reader's progress and the number
/// of the right option, and a word at its explanation.
fn section(id: &str, question: &Question, lines: &[&str], right: usize) -> String {
    let marks = format!("data-question=\"{id}\" data-right=\"{}\"", right + 1);
    let mut section = format!("<section class=\"question\" {marks}>\n\n");
    let mut items = 0;
    for line in lines {
        let line = line.split("<!--").next().unwrap_or_default().trim_end();
        match line.strip_prefix("- ") {
            Some(why) if items == question.options.len() + right => {
                section += &format!("- **Right.** {why}\n");
            }
            _ => section += &format!("{line}\n"),
        }
        items += usize::from(line.starts_with("- "));
    }
    section + "\n</section>\n"
}
