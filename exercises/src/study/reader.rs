//! The reader: what is said to them, and what they say, line by line.

use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Stdout, Write as _};

use crate::text::{plain, width, wrap};
use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use workbook::host::{Named as _, Refusal};
use workbook::progress::{Deed, Place, Progress};

use crate::questions::Question;

/// Why it does not go on.
pub enum Cut {
    /// The reader has had enough.
    Stopped,
    /// A call was refused.
    Refused(Refusal),
    /// Somebody has told the reader already; the exit code.
    Told(u8),
    /// Something of the workbook itself is wrong.
    Fault(String),
}

impl Cut {
    pub fn fault(error: impl Display) -> Self {
        Self::Fault(error.to_string())
    }
}

impl From<Refusal> for Cut {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who reads and answers.
pub struct Reader {
    out: AutoStream<Stdout>,
    place: Place,
    /// What was done before.
    progress: Progress,
    /// Has everything been kept?
    is_kept: bool,
    /// How many answers were right, and how many were given.
    right: usize,
    answers: usize,
}

type Said = Result<(), Cut>;

impl Reader {
    pub fn new(choice: ColorChoice) -> Self {
        let out = AutoStream::new(io::stdout(), choice);
        let place = Place::of_user();
        Self { out, progress: place.progress(), place, is_kept: true, right: 0, answers: 0 }
    }

    /// Was the last answer to this question right? `None`: there is none.
    pub fn was_right(&self, id: &str) -> Option<bool> {
        self.progress.answer(id)
    }

    /// Keeps an answer.
    pub fn record(&mut self, id: &str, is_right: bool) -> Said {
        self.answers += 1;
        self.right += usize::from(is_right);
        self.keep(if is_right { Deed::Right } else { Deed::Wrong }, id)
    }

    /// Keeps what was done. That it cannot be kept is said once.
    pub fn keep(&mut self, deed: Deed, name: &str) -> Said {
        match self.place.try_to_note(&[(deed, name)]) {
            Err(refusal) if self.is_kept => {
                self.is_kept = false;
                self.say(&format!("Your progress is not kept: {refusal}"))
            }
            _ => Ok(()),
        }
    }

    pub fn has_colour(&self) -> bool {
        self.out.current_choice() != ColorChoice::Never
    }

    /// A line as it is.
    pub fn show(&mut self, line: &str) -> Said {
        Ok(writeln!(self.out, "{line}").named("write(1)")?)
    }

    /// A sentence, in lines of the terminal's width. What ends with a line feed has an empty line
    /// behind it.
    pub fn say(&mut self, text: &str) -> Said {
        self.item("", text)?;
        if text.ends_with('\n') { self.show("") } else { Ok(()) }
    }

    /// What a run has printed: there `*` is no emphasis.
    pub fn quote(&mut self, text: &str) -> Said {
        self.show(&wrap("", text, width()))
    }

    fn item(&mut self, start: &str, text: &str) -> Said {
        self.show(&wrap(start, &plain(text), width()))
    }

    pub fn heading(&mut self, text: &str) -> Said {
        self.verdict(Style::new().bold(), &plain(text))
    }

    /// A text that also has a colour.
    pub fn verdict(&mut self, style: Style, text: &str) -> Said {
        self.show(&format!("{style}{}{style:#}", wrap("", text, width())))
    }

    /// An option with its number.
    pub fn option(&mut self, what: &str, nth: usize, question: &Question) -> Said {
        self.item(&format!("{what}: {}) ", nth + 1), &question.options[nth].text)
    }

    /// Asks until there is an answer: the index of an option.
    pub fn ask(&mut self, number: usize, question: &Question) -> Result<usize, Cut> {
        self.heading(&format!("{number}. {}", question.title))?;
        for paragraph in &question.text {
            self.show("")?;
            self.item("", paragraph)?;
        }
        self.show("")?;
        let options = question.options.len();
        for (nth, option) in question.options.iter().enumerate() {
            self.item(&format!("  {}) ", nth + 1), &option.text)?;
        }
        loop {
            let line = self.read(&format!("Your answer, 1 to {options}: "))?;
            match line.parse::<usize>() {
                Ok(answer) if (1..=options).contains(&answer) => {
                    self.show("")?;
                    return Ok(answer - 1);
                }
                _ => self.say(&format!("{line:?} is none of 1 to {options}, nor q to stop."))?,
            }
        }
    }

    /// What all options have to be said about them.
    pub fn explain(&mut self, question: &Question) -> Said {
        self.show("")?;
        for (nth, option) in question.options.iter().enumerate() {
            let number = format!("  {}) ", nth + 1);
            self.item(&number, &option.text)?;
            self.item(&" ".repeat(number.len()), &option.why)?;
        }
        self.show("")
    }

    /// Gives time to read to who sits at a terminal.
    pub fn pause(&mut self) -> Said {
        if !io::stdin().is_terminal() {
            return Ok(());
        }
        self.read("Enter goes on: ")?;
        self.show("")
    }

    /// The next line of input. The end of the file, or `q`, is the end.
    fn read(&mut self, prompt: &str) -> Result<String, Cut> {
        write!(self.out, "{prompt}").and_then(|()| self.out.flush()).named("write(1)")?;
        let mut line = Vec::new();
        io::stdin().lock().read_until(b'\n', &mut line).named("read(0)")?;
        let has_end = line.ends_with(b"\n");
        let line = String::from_utf8_lossy(&line).trim().to_string();
        if !has_end || !io::stdin().is_terminal() {
            self.show(&line)?; // no terminal has shown it
        }
        if line == "q" || (line.is_empty() && !has_end) { Err(Cut::Stopped) } else { Ok(line) }
    }

    /// What came of it.
    pub fn sum_up(&mut self) -> Said {
        let Self { right, answers, .. } = *self;
        if answers > 0 {
            self.say(&format!("{right} of {answers} as you said."))?;
        }
        match right < answers && self.is_kept {
            true => self.say("The others come back with: cargo run -- study"),
            false => Ok(()),
        }
    }

    /// What is said to who has stopped.
    pub fn stopped(&mut self) -> Said {
        let kept = if self.is_kept { self.answers } else { 0 };
        self.say(&format!("Stopped. Answers kept: {kept}. The others are asked again."))
    }
}
