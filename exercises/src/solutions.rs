//! The worked program of each step. A language has one source, from which those of all its steps
//! are cut.
//!
//! The marks in it are comments, a line each. What follows `//[5` is there from step 5 on, what
//! follows `//[5-8` in the steps from 5 to 8, both until their `//]`. One may be within another.
//! Where comments begin with `#` the marks are `#[5` and `#]`.

/// The languages that have one: as `start --lang` calls it, its source, and how its comments begin.
const SOURCES: [(&str, &str, &str); 3] = [
    ("rust", include_str!("../solutions/rust.rs"), "//"),
    ("python", include_str!("../solutions/python.py"), "#"),
    ("shell", include_str!("../solutions/shell.sh"), "#"),
];

/// The program that takes the steps from 1 to this, in this language; in Rust where it has none.
pub fn cut(language: &str, step: usize) -> String {
    let found = SOURCES.iter().find(|source| source.0 == language);
    let (_, source, comment) = found.unwrap_or(&SOURCES[0]);
    let (mut program, mut marks) = (String::new(), Vec::new());
    for line in source.split_inclusive('\n') {
        match line.trim().strip_prefix(comment) {
            Some("]") => drop(marks.pop()),
            Some(mark) if mark.starts_with('[') => marks.push(holds(&mark[1..], step)),
            _ if marks.iter().all(|holds| *holds) => program += line,
            _ => {}
        }
    }
    program
}

/// Is the step among these: `5`, or `5-8`?
fn holds(steps: &str, step: usize) -> bool {
    let (first, last) = steps.split_once('-').unwrap_or((steps, ""));
    first.parse().is_ok_and(|first: usize| first <= step)
        && last.parse().map_or(true, |last: usize| step <= last)
}
