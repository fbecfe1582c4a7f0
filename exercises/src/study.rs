//! A lesson, question by question: what will happen, the run, what has happened, and why.

mod reader;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use clap::{Arg, ArgAction, ArgMatches, Command};
use workbook::contents::{self, Entry};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::{FAILS, HOLDS, REFUSED};
use workbook::needs::{Found, Verdict};
use workbook::programs::{self, START, exercise};
use workbook::progress::Deed;
use workbook::transcript::{BAD, GOOD};

use crate::questions::{Question, Run, questions};
use reader::{Cut, Reader};

/// Its arguments.
pub fn command() -> Command {
    let lessons = contents::lessons().into_iter().flatten();
    let lesson = Arg::new("lesson")
        .value_name("LESSON")
        .help("The lesson (without it: what you missed, then the next one)")
        .hide_possible_values(true)
        .value_parser(lessons.map(|lesson| lesson.name).collect::<Vec<_>>());
    let plain = Arg::new("plain")
        .long("plain")
        .help("Print words alone, without colour")
        .action(ArgAction::SetTrue);
    exercise("study")
        .after_help("Answers are read from standard input, a line each: a number, or q to stop.")
        .args([lesson, plain])
}

/// Gives the exit code: 0 also for who has stopped early, 69 where a lesson cannot run.
pub fn run(arguments: &ArgMatches) -> Result<u8, Refusal> {
    host::memory_is_there()?;
    let choice = match arguments.get_flag("plain") {
        true => ColorChoice::Never,
        false => AutoStream::choice(&io::stdout()),
    };
    let mut reader = Reader::new(choice);
    let done = match arguments.get_one::<String>("lesson") {
        Some(name) => one(&mut reader, name),
        None => next(&mut reader),
    };
    let done = match done {
        Ok(code) => reader.sum_up().map(|()| code),
        Err(Cut::Stopped) => reader.stopped().map(|()| HOLDS),
        Err(cut) => Err(cut),
    };
    match done {
        Ok(code) => Ok(code),
        Err(Cut::Stopped) => Ok(HOLDS),
        Err(Cut::Refused(refusal)) => Err(refusal),
        Err(Cut::Told(code)) => Ok(code),
        Err(Cut::Fault(fault)) => {
            // Where that cannot be written there is nobody to tell.
            let _ = writeln!(io::stderr(), "workbook: {fault}");
            Ok(REFUSED)
        }
    }
}

/// This lesson, with all its questions.
fn one(reader: &mut Reader, name: &str) -> Result<u8, Cut> {
    let lessons = contents::lessons().map_err(Cut::fault)?;
    let found = Found::default();
    for lesson in lessons.iter().filter(|lesson| lesson.name == name) {
        if let Verdict::Cannot(refusal) = found.verdict(&lesson.source) {
            refusal.tell(name);
            return Err(Cut::Told(REFUSED));
        }
        let study = Study::of(lesson)?;
        study.go_through(reader, &study.ids(|_| true))?;
    }
    Ok(HOLDS)
}

/// What was missed, then the first lesson that this host can run and that is not answered.
fn next(reader: &mut Reader) -> Result<u8, Cut> {
    let lessons = contents::lessons().map_err(Cut::fault)?;
    let found = Found::default();
    let runs = lessons.iter().filter(|lesson| found.verdict(&lesson.source).is_run());
    let studies = runs.map(Study::of).collect::<Result<Vec<_>, Cut>>()?;
    for study in &studies {
        let missed = study.ids(|id| reader.was_right(id) == Some(false));
        if !missed.is_empty() {
            reader.say(&format!("You missed this in {}.\n", study.lesson.name))?;
            study.go_through(reader, &missed)?;
        }
    }
    for study in &studies {
        if study.is_new(reader) {
            study.go_through(reader, &study.ids(|_| true))?;
            return Ok(HOLDS);
        }
    }
    reader.say("You have answered every question that this host can answer.")?;
    reader.say("To go through a lesson again: cargo run -- study LESSON")?;
    Ok(HOLDS)
}

/// A lesson and what its chapter asks.
struct Study<'lesson> {
    lesson: &'lesson Entry,
    questions: Vec<Question>,
}

/// A question with its number in the chapter, and what the reader has said.
type Answered<'study> = (usize, &'study Question, usize);

impl<'lesson> Study<'lesson> {
    fn of(lesson: &'lesson Entry) -> Result<Self, Cut> {
        let file = format!("book/src/{}.md", lesson.name);
        let chapter = std::fs::read_to_string(contents::root().join(&file));
        let chapter = chapter.map_err(|error| Cut::Fault(format!("{file}: {error}")))?;
        let questions = questions(&file, &chapter).map_err(Cut::fault)?;
        Ok(Self { lesson, questions })
    }

    fn id(&self, number: usize) -> String {
        format!("{}/{number}", self.lesson.name)
    }

    /// The questions whose ids are such.
    fn ids(&self, is_such: impl Fn(&str) -> bool) -> Vec<String> {
        let all = (1..=self.questions.len()).map(|number| self.id(number));
        all.filter(|id| is_such(id)).collect()
    }

    /// Has the reader not come to its end? What will happen may stay unanswered, where this host
    /// does not show it. Why can be answered everywhere, and is asked last.
    fn is_new(&self, reader: &Reader) -> bool {
        let mut whys = (1..).zip(&self.questions).filter(|(_, asked)| asked.seen.is_none());
        whys.any(|(number, _)| reader.was_right(&self.id(number)).is_none())
    }

    /// Those of its questions that are wanted.
    fn go_through(&self, reader: &mut Reader, wanted: &[String]) -> Result<(), Cut> {
        let Entry { name, title, .. } = self.lesson;
        reader.heading(&format!("{name}: {title}"))?;
        reader
            .say(&format!("Chapter: book/src/{name}.md. A number and Enter answers, q stops.\n"))?;
        let wanted =
            (1..).zip(&self.questions).filter(|(number, _)| wanted.contains(&self.id(*number)));
        let (whats, whys): (Vec<_>, Vec<_>) = wanted.partition(|(_, asked)| asked.seen.is_some());

        let mut answered: Vec<Answered> = Vec::new();
        for (number, question) in whats {
            answered.push((number, question, reader.ask(number, question)?));
        }
        if !answered.is_empty() {
            let run = self.run(reader)?;
            reader.show("")?;
            reader.pause()?;
            for answer in answered {
                self.compare(reader, answer, &run)?;
            }
        }
        for (number, question) in whys {
            let said = reader.ask(number, question)?;
            self.compare(reader, (number, question, said), &Run::of(""))?;
        }
        Ok(())
    }

    /// Runs the lesson's own program, shows what it prints, and reads that too.
    fn run(&self, reader: &mut Reader) -> Result<Run, Cut> {
        let name = &self.lesson.name;
        reader.say("Now the lesson runs.\n")?;
        programs::build(&["--bin", name]).map_err(Cut::fault)?;
        let mut command = programs::command(name).map_err(Cut::fault)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        match reader.has_colour() {
            true => command.env("CLICOLOR_FORCE", "1"),
            false => command.env("NO_COLOR", "1"),
        };
        let mut child = command.spawn().named(START)?;
        let mut transcript = String::new();
        for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line.named("read(2)")?;
            reader.show(&line)?;
            transcript += &format!("{}\n", strip_str(&line));
        }
        let status = child.wait().named("waitpid(2)")?;
        if status.success() {
            reader.keep(Deed::Ran, name)?; // the lesson itself has seen a pipe, and no reader
        }
        match status.code() {
            Some(code) if [HOLDS, FAILS].map(i32::from).contains(&code) => Ok(Run::of(&transcript)),
            _ => {
                reader
                    .say("The lesson has not come to its end, so no answer was right or wrong.")?;
                Err(Cut::Told(REFUSED))
            }
        }
    }

    /// What the reader has said beside what has happened, and the explanations.
    fn compare(&self, reader: &mut Reader, answer: Answered, run: &Run) -> Result<(), Cut> {
        let (number, question, said) = answer;
        if question.seen.is_some() {
            reader.heading(&format!("{number}. {}", question.title))?; // it was a run ago
        }
        reader.option("You said", said, question)?;
        match question.seen.as_deref().map(|seen| run.observed(seen).ok_or(seen)) {
            Some(Ok((call, result))) => reader.quote(&format!("This host: {call} = {result}"))?,
            Some(Err(seen)) => reader.quote(&format!("This run has not shown: {seen}"))?,
            None => {}
        }
        let right = question.right(run).ok();
        match right {
            Some(right) if right == said => reader.verdict(GOOD, "As you said.")?,
            Some(right) => {
                reader.verdict(BAD, "Not so.")?;
                reader.option("Right is", right, question)?;
            }
            None => reader.say("So none of these is right or wrong here, and nothing is kept.")?,
        }
        reader.explain(question)?;
        if let Some(right) = right {
            reader.record(&self.id(number), right == said)?;
        }
        reader.pause()
    }
}
