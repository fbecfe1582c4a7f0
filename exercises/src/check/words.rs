//! What the book says of a step: `book/src/your-turn.md` has the texts and the hints.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;

use workbook::contents;
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{FAILS, HOLDS};
use workbook::progress::Deed;

use crate::{solutions, text};

use super::kept;
use super::report::not_ready;
use super::steps::Step;

/// The page with all steps, from the workbook's folder.
pub const PAGE: &str = "book/src/your-turn.md";

/// A section of that page.
#[derive(Debug, Default, PartialEq)]
pub struct Words {
    /// Its heading, without the number and the name.
    pub title: String,
    /// What is wanted: its first paragraph.
    pub wanted: String,
    /// From a nudge to the lesson.
    pub hints: Vec<String>,
}

impl Words {
    /// Those of this step; empty where there is no page.
    pub fn of(step: &Step) -> Self {
        let page = fs::read_to_string(contents::root().join(PAGE)).unwrap_or_default();
        Self::in_page(&page, step.name).unwrap_or_default()
    }

    fn in_page(page: &str, name: &str) -> Option<Self> {
        let (_, section) = page.split_once(&format!("<!-- ANCHOR: {name} -->"))?;
        let (section, _) = section.split_once(&format!("<!-- ANCHOR_END: {name} -->"))?;
        let (text, hints) = section.split_once("<details>").unwrap_or((section, ""));
        let heading = text.lines().find(|line| line.starts_with('#')); // of any level
        let paragraphs = text.split("\n\n").map(str::trim);
        let wanted = paragraphs.filter(|text| !text.is_empty()).find(|text| !text.starts_with('#'));
        Some(Self {
            title: heading?.split_once(": ").map_or("", |(_, title)| title).to_string(),
            wanted: plain(wanted.unwrap_or_default()),
            hints: items(hints),
        })
    }
}

/// Prints the worked program of a step, in the language of the program in this folder: after the
/// step is passed, or when it is asked for twice. Gives the exit code.
pub fn solution(step: &Step, folder: &Path) -> Result<u8, Refusal> {
    if !kept::is_passed(step.name) && kept::ask(Deed::Solution, step.name) < 2 {
        let why = format!("step {} is not passed yet: ask again to see it all the same", step.name);
        return not_ready(&why, FAILS);
    }
    let script = fs::read_to_string(folder.join("run")).unwrap_or_default();
    // In a language that is compiled `run` is a script all the same.
    let is_compiled = ["my-container.c", "main.go"].iter().any(|file| folder.join(file).is_file());
    let language = match script.lines().next().unwrap_or_default() {
        _ if is_compiled => "rust", // C and Go have no worked program
        line if line.contains("python") => "python",
        line if line.ends_with("sh") => "shell",
        _ => "rust",
    };
    let program = solutions::cut(language, step.number());
    stdout().write_all(program.as_bytes()).named("write(1)")?;
    Ok(HOLDS)
}

/// The items of a Markdown list. A line that is not the start of one goes on with the one before.
fn items(list: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in list.lines().filter(|line| !line.trim_start().starts_with('<')) {
        match (line.strip_prefix("- "), items.last_mut()) {
            (Some(start), _) => items.push(start.to_string()),
            (None, Some(item)) => *item += &format!(" {}", line.trim()),
            (None, None) => {}
        }
    }
    items.iter().map(|item| plain(item)).collect()
}

/// Markdown as a terminal shows it, on one line.
fn plain(markdown: &str) -> String {
    let text = text::plain(markdown).replace('`', "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::Words;

    const PAGE: &str = "\
# Your turn

<!-- ANCHOR: pid -->
### 3 pid: PID 1 inside

The command is in a *new* [PID namespace](glossary.md#pid),
and `getpid()` gives 1.

How you see it: more.

<details>
<summary>Hints</summary>

- Who is born first?
- `clone(2)`, with
  CLONE_NEWPID.
- [pid-demo](pid-demo.md) does it.

</details>
<!-- ANCHOR_END: pid -->
";

    #[test]
    fn a_section_gives_its_title_what_it_wants_and_its_hints() {
        let words = Words::in_page(PAGE, "pid").expect("a section");
        assert_eq!(words.title, "PID 1 inside");
        assert_eq!(words.wanted, "The command is in a new PID namespace, and getpid() gives 1.");
        let hints = ["Who is born first?", "clone(2), with CLONE_NEWPID.", "pid-demo does it."];
        assert_eq!(words.hints, hints);
        assert_eq!(Words::in_page(PAGE, "net"), None);
    }
}
