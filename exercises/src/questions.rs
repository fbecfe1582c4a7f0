//! The questions of a chapter: its section "Predict".
//!
//! A question is a heading, a text, a list of options, and a folded answer with as many
//! explanations. Which option is right stands in comments. Of a question about what will happen it
//! is whatever the run has shown: `<!-- seen: inside getppid() -->` names the observation, and
//! behind each option `<!-- is: 0 -->` says which result it stands for. Of a question that asks
//! why, one option has `<!-- right -->`.

use std::fmt;
use std::ops::Range;

/// One question.
#[derive(Debug)]
pub struct Question {
    /// What its heading says.
    pub title: String,
    /// Its text in Markdown, a string a paragraph.
    pub text: Vec<String>,
    /// The observation that it is about; `None` when it asks why.
    pub seen: Option<String>,
    /// What can be chosen.
    pub options: Vec<Choice>,
    /// Its lines in the chapter, counted from 0.
    pub lines: Range<usize>,
}

/// One option of a question.
#[derive(Debug)]
pub struct Choice {
    /// In Markdown, in one line.
    pub text: String,
    /// Why somebody would choose it, and why it is right or not; in Markdown, in one line.
    pub why: String,
    sign: Sign,
}

#[derive(Debug, PartialEq)]
enum Sign {
    /// Right when the observation's result is this.
    Is(String),
    Right,
    Nothing,
}

/// What is wrong in a chapter.
#[derive(Debug)]
pub struct Fault {
    chapter: String,
    /// Counted from 0.
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}, line {}: {}", self.chapter, self.line + 1, self.what)
    }
}

/// A line of a chapter and where it is.
type Line<'text> = (usize, &'text str);
type Parsed<T> = Result<T, (usize, String)>;

/// The questions in a chapter's text, in its order. `chapter` is the name that a fault gives.
pub fn questions(chapter: &str, text: &str) -> Result<Vec<Question>, Fault> {
    let lines: Vec<Line> = text.lines().enumerate().collect();
    let section = section(&lines);
    let starts = section.iter().enumerate().filter(|(_, line)| line.1.starts_with("### "));
    let starts: Vec<_> = starts.map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([section.len()]);
    let all = starts.iter().zip(ends).map(|(&start, end)| question(&section[start..end]));
    all.collect::<Parsed<_>>().map_err(|(line, what)| Fault {
        chapter: chapter.to_string(),
        line,
        what,
    })
}

/// The lines below "## Predict".
fn section<'lines, 'text>(lines: &'lines [Line<'text>]) -> &'lines [Line<'text>] {
    let Some(start) = lines.iter().position(|line| line.1 == "## Predict") else { return &[] };
    let rest = &lines[start + 1..];
    let end = rest.iter().position(|line| line.1.starts_with("## ")).unwrap_or(rest.len());
    &rest[..end]
}

fn question(lines: &[Line]) -> Parsed<Question> {
    let (first, heading) = lines[0];
    let at = |start: &str| lines.iter().position(|line| line.1.starts_with(start));
    let missing = |what: &str| (first, format!("the question has no {what}"));
    let list = at("- ").ok_or(missing("list of options"))?;
    let fold = at("<details>").ok_or(missing("<details>"))?;
    let end = at("</details>").ok_or(missing("</details>"))?;
    if !(list < fold && fold + 1 < end && lines[fold + 1].1 == "<summary>Answer</summary>") {
        return Err((lines[fold].0, "options, <details>, <summary>Answer</summary>".to_string()));
    }
    if let Some(line) = lines[end + 1..].iter().find(|line| !line.1.trim().is_empty()) {
        return Err((line.0, "text between two questions belongs to none".to_string()));
    }
    let (text, seen) = text(&lines[1..list])?;
    let choices = items(&lines[list..fold])?;
    let whys = items(&lines[fold + 2..end])?;
    if choices.len() != whys.len() || choices.len() < 2 {
        let what = format!("{} options, {} explanations", choices.len(), whys.len());
        return Err((lines[fold].0, what));
    }
    let options = choices.into_iter().zip(whys).map(|(choice, why)| option(choice, why.1));
    let options = options.collect::<Parsed<Vec<_>>>()?;
    signs_fit(&options, seen.is_some()).map_err(|what| (first, what))?;
    let title = heading.trim_start_matches("### ").to_string();
    Ok(Question { title, text, seen, options, lines: first..lines[end].0 + 1 })
}

/// The paragraphs above the options, and the observation that they name.
fn text(lines: &[Line]) -> Parsed<(Vec<String>, Option<String>)> {
    let (mut paragraphs, mut seen) = (vec![String::new()], None);
    for &(at, line) in lines {
        let (line, comment) = without_comment(line);
        if line.starts_with("```") {
            return Err((at, "a question has sentences, and no block of code".to_string()));
        }
        match comment.map(|comment| comment.strip_prefix("seen:").ok_or(comment)) {
            Some(Ok(observation)) if seen.is_none() => seen = Some(observation.trim().to_string()),
            Some(Ok(_)) => return Err((at, "a second seen:".to_string())),
            Some(Err(other)) => return Err((at, format!("what is {other:?}? seen: ..."))),
            None if line.is_empty() => paragraphs.push(String::new()),
            None => {}
        }
        append(&mut paragraphs, line);
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    match paragraphs.is_empty() {
        true => Err((lines.first().map_or(0, |line| line.0), "a question without text".into())),
        false => Ok((paragraphs, seen)),
    }
}

/// The items of a list, each in one line, and where they begin.
fn items(lines: &[Line]) -> Parsed<Vec<(usize, String)>> {
    let (mut starts, mut items) = (Vec::new(), Vec::new());
    for &(at, line) in lines {
        if let Some(item) = line.strip_prefix("- ") {
            starts.push(at);
            items.push(item.trim().to_string());
        } else if line.starts_with("  ") && !items.is_empty() {
            append(&mut items, line.trim());
        } else if !line.is_empty() {
            return Err((at, "this belongs to no item of the list".to_string()));
        }
    }
    Ok(starts.into_iter().zip(items).collect())
}

/// Continues the last of these lines.
fn append(lines: &mut [String], more: &str) {
    if let Some(last) = lines.last_mut().filter(|_| !more.is_empty()) {
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(more);
    }
}

fn option((line, item): (usize, String), why: String) -> Parsed<Choice> {
    let (text, comment) = without_comment(&item);
    let sign = match comment.map(|comment| (comment, comment.strip_prefix("is:"))) {
        None => Sign::Nothing,
        Some(("right", _)) => Sign::Right,
        Some((_, Some(result))) => Sign::Is(result.trim().to_string()),
        Some((other, None)) => return Err((line, format!("what is {other:?}? is: ..., right"))),
    };
    Ok(Choice { text: text.to_string(), why, sign })
}

fn signs_fit(options: &[Choice], is_seen: bool) -> Result<(), String> {
    let right = options.iter().filter(|option| option.sign == Sign::Right).count();
    let is = options.iter().filter(|option| matches!(option.sign, Sign::Is(_))).count();
    match is_seen {
        true if is == options.len() => Ok(()),
        true => Err("of what is seen, every option says what it is:".to_string()),
        false if right == 1 && is == 0 => Ok(()),
        false => Err("without seen: exactly one option is right".to_string()),
    }
}

/// A line that may end with a comment, and the comment.
fn without_comment(line: &str) -> (&str, Option<&str>) {
    let parts = line.split_once("<!--").and_then(|(text, rest)| {
        let comment = rest.trim_end().strip_suffix("-->")?;
        Some((text.trim(), Some(comment.trim())))
    });
    parts.unwrap_or((line.trim(), None))
}

impl Question {
    /// Which option is right, after this run. The error is the result that fits none of them, or
    /// several; `None` when the run has not shown it.
    pub fn right(&self, run: &Run) -> Result<usize, Option<String>> {
        let result = match &self.seen {
            Some(observation) => Some(run.result(observation).ok_or(None)?),
            None => None,
        };
        let mut right = (0..self.options.len()).filter(|&nth| match &self.options[nth].sign {
            Sign::Right => true,
            Sign::Nothing => false,
            Sign::Is(other) => result.is_some_and(|result| {
                fits(other, result) || run.result(other).is_some_and(|other| other == result)
            }),
        });
        match (right.next(), right.next()) {
            (Some(nth), None) => Ok(nth),
            _ => Err(result.map(str::to_string)),
        }
    }
}

/// What a lesson has printed: each observation and each claim, with its result.
pub struct Run(Vec<(String, String)>);

impl Run {
    /// Reads a transcript, without colours.
    pub fn of(transcript: &str) -> Self {
        let lines = transcript.lines().take_while(|line| !line.starts_with("by hand"));
        let parts = lines.filter_map(|line| {
            let (who, rest) = line.split_once("  ")?;
            if ["holds", "FAILS"].contains(&who) || line.starts_with("open ") {
                let verdict = who.split(' ').next()?;
                let id = line[verdict.len()..].split_whitespace().next()?;
                return Some((format!("claim {id}"), verdict.to_string()));
            }
            // A line does not end with a blank, also where the result is empty.
            let ends = || rest.strip_suffix(" =").map(|call| (call, ""));
            let (call, result) = rest.split_once(" = ").or_else(ends)?;
            Some((format!("{who} {}", call.trim()), result.trim().to_string()))
        });
        Self(parts.collect())
    }

    /// The result of `WHO CALL`.
    pub fn result(&self, observation: &str) -> Option<&str> {
        Some(self.observed(observation)?.1)
    }

    /// An observation as it was printed, and its result. `*` stands for any text; with `#2` at the
    /// end it is the second such one.
    pub fn observed(&self, observation: &str) -> Option<(&str, &str)> {
        let numbered = observation.rsplit_once(" #");
        let numbered = numbered.and_then(|(call, nth)| Some((call, nth.parse::<usize>().ok()?)));
        let (call, nth) = numbered.unwrap_or((observation, 1));
        let mut found = self.0.iter().filter(|(seen, _)| fits(call, seen));
        found.nth(nth.checked_sub(1)?).map(|(call, result)| (&**call, &**result))
    }
}

/// Is the text this pattern, where `*` stands for any text?
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    text.strip_prefix(start).is_some_and(|tail| {
        let mut ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
        ends.any(|at| fits(rest, &tail[at..]))
    })
}
