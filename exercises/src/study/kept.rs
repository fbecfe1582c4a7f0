//! What the reader has answered, right or wrong: a file of the reader's own.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::{env, io};

use workbook::host::{Named as _, Refusal};

/// The first word of each line.
const ANSWER: &str = "answer";

/// The answers so far: the id of the question, and if it was right. The last one counts.
pub struct Kept {
    answers: Vec<(String, bool)>,
    file: Option<PathBuf>,
}

impl Kept {
    /// Reads them. Who has no file has none.
    pub fn load() -> Self {
        let file = file();
        let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let answers = text.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let [ANSWER, verdict, id] = line.split(' ').collect::<Vec<_>>()[..] else {
                return None;
            };
            Some((id.to_string(), verdict == "right"))
        });
        Self { answers: answers.collect(), file }
    }

    /// Was the last answer to this question right? `None`: there is none.
    pub fn was_right(&self, id: &str) -> Option<bool> {
        self.answers.iter().rfind(|answer| answer.0 == id).map(|answer| answer.1)
    }

    /// Keeps an answer. The error says why it will be forgotten.
    pub fn record(&mut self, id: String, is_right: bool) -> Result<(), Refusal> {
        let verdict = if is_right { "right" } else { "wrong" };
        let line = format!("{ANSWER} {verdict} {id}\n");
        self.answers.push((id, is_right));
        let Some(file) = &self.file else {
            return Err(io::Error::from_raw_os_error(2)).named("getenv(\"HOME\")");
        };
        let folder = file.parent().unwrap_or(file);
        fs::create_dir_all(folder).named(format!("mkdir({folder:?})"))?;
        let opened = File::options().create(true).append(true).open(file);
        // One write to the end of the file: two readers at once do not mix their lines.
        opened.and_then(|mut file| file.write_all(line.as_bytes())).named(format!("open({file:?})"))
    }
}

fn file() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".local/state"));
    let state = state.filter(|state| state.is_absolute()).or_else(home)?;
    Some(state.join("starting-with-linux-containers").join("answers"))
}
