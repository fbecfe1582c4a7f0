//! How far a reader has come: a file of the reader's own, and none of the workbook's.
//!
//! `$XDG_STATE_HOME/starting-with-linux-containers/progress`, or below `~/.local/state`, has a line
//! for each thing that was done, after a first line that says what it is. A line is written at the
//! file's end, by one write(2): who is killed leaves it whole, and two at once lose nothing. No run
//! fails because progress cannot be kept: it says so on standard error.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{User, geteuid, getuid};

use crate::host::{Named as _, Refusal};

/// The first line. The number is that of the format.
const FIRST: &str = "workbook progress 1";

/// What can be noted, each of something with a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// A lesson ran, and every claim of it held.
    Ran,
    /// A question was answered as it is.
    Right,
    /// A question was answered otherwise.
    Wrong,
    /// A step was passed.
    Passed,
    /// A hint to a step was asked for.
    Hint,
    /// The worked program of a step was asked for.
    Solution,
}
use Deed::*;

const WORDS: [(Deed, &str); 6] = [
    (Ran, "ran"),
    (Right, "right"),
    (Wrong, "wrong"),
    (Passed, "passed"),
    (Hint, "hint"),
    (Solution, "solution"),
];

/// What was done, in its order: a deed, and the name of that with which it was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress(Vec<(Deed, String)>);

impl Progress {
    /// How often was this done?
    pub fn times(&self, deed: Deed, name: &str) -> usize {
        self.0.iter().filter(|(did, of)| *did == deed && of == name).count()
    }

    /// The names of all with which this was done.
    pub fn all(&self, deed: Deed) -> BTreeSet<&str> {
        self.0.iter().filter(|(did, _)| *did == deed).map(|(_, name)| &**name).collect()
    }

    /// Was the last answer to this question the right one? None if there is no answer.
    pub fn answer(&self, question: &str) -> Option<bool> {
        let is_answer =
            |(did, of): &&(Deed, String)| matches!(did, Right | Wrong) && of == question;
        self.0.iter().rev().find(is_answer).map(|(did, _)| *did == Right)
    }

    /// The questions whose last answer was not the right one.
    pub fn missed(&self) -> Vec<&str> {
        let missed = self.all(Wrong).into_iter();
        missed.filter(|question| self.answer(question) == Some(false)).collect()
    }

    /// Leaves out what `is_forgotten`; gives how much that was.
    pub fn forget(&mut self, is_forgotten: impl Fn(Deed, &str) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|(deed, name)| !is_forgotten(*deed, name));
        before - self.0.len()
    }

    /// What a file says, and how much of it, in bytes: a last line that a full disk has cut is
    /// nothing. None if it is not of this format, or is damaged.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = str::from_utf8(&bytes[..whole]).ok()?.lines();
        let is_ours = match lines.next() {
            Some(first) => first == FIRST,
            None => FIRST.as_bytes().starts_with(bytes),
        };
        let deed = |line: &str| {
            let (word, name) = line.split_once(' ')?;
            let (deed, _) = WORDS.iter().find(|(_, known)| *known == word)?;
            Some((*deed, name.to_string()))
        };
        let lines: Option<Vec<_>> = lines.map(deed).collect();
        lines.filter(|_| is_ours).map(|lines| (Self(lines), whole))
    }

    fn lines(&self) -> String {
        let mut lines = format!("{FIRST}\n");
        for (deed, name) in &self.0 {
            let word = WORDS.iter().find(|(known, _)| known == deed).map_or("", |(_, word)| word);
            lines += &format!("{word} {name}\n");
        }
        lines
    }
}

/// The folder in which the progress of whoever runs us is kept. It is to be asked for before a
/// lesson makes itself another user: in a user namespace everybody can be root, and all owners that
/// it does not map are 65534.
#[derive(Debug)]
pub struct Place {
    folder: Result<PathBuf, Refusal>,
    may_write: Result<(), Refusal>,
}

impl Place {
    /// Of this user. It need not be there.
    pub fn of_user() -> Self {
        let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let passwd = || User::from_uid(getuid()).ok().flatten().map(|user| user.dir);
        let state = set("XDG_STATE_HOME")
            .or_else(|| Some(set("HOME").or_else(passwd)?.join(".local/state")));
        let none = || Refusal::seen("$HOME", "nothing, and no user has our number");
        let folder = state.map(|state| state.join("starting-with-linux-containers"));
        let may_write = folder.as_deref().map_or(Ok(()), not_of_another);
        Self { folder: folder.ok_or_else(none), may_write }
    }

    /// What is noted there. If it cannot be read that is said, and it is as if nothing were.
    pub fn progress(&self) -> Progress {
        let read = || {
            let file = self.folder()?.join(NAME);
            let found = Progress::read(&bytes(&file)?);
            found.map(|(progress, _)| progress).ok_or_else(|| not_ours(&file))
        };
        read().unwrap_or_else(|refusal| {
            say(format_args!("progress was not read: {refusal}"));
            Progress::default()
        })
    }

    /// Notes that this was done; of a lesson or a step once. If that cannot be kept, it is said.
    pub fn note(&self, deeds: &[(Deed, &str)]) {
        if let Err(refusal) = self.try_to_note(deeds) {
            say(format_args!("progress was not kept: {refusal}"));
        }
    }

    /// The same; or why it cannot be kept.
    pub fn try_to_note(&self, deeds: &[(Deed, &str)]) -> Result<(), Refusal> {
        self.locked()?.note(deeds)
    }

    /// Leaves out what `is_forgotten`, and gives how much that was.
    pub fn forget(&self, is_forgotten: impl Fn(Deed, &str) -> bool) -> Result<usize, Refusal> {
        let kept = self.locked()?;
        let mut progress = kept.progress;
        let forgotten = progress.forget(is_forgotten);
        // Who is killed before the rename(2) leaves a file that the next one writes over.
        let new = kept.file.with_extension("new");
        fs::write(&new, progress.lines()).named(format_args!("write({new:?})"))?;
        fs::rename(&new, &kept.file).named(format_args!("rename({new:?}, {:?})", kept.file))?;
        Ok(forgotten)
    }

    fn folder(&self) -> Result<&PathBuf, Refusal> {
        self.folder.as_ref().map_err(Refusal::clone)
    }

    /// The file, for one process at a time. What is no progress of this format is set aside.
    fn locked(&self) -> Result<Kept, Refusal> {
        let folder = self.folder()?;
        self.may_write.clone()?;
        fs::create_dir_all(folder).named(format_args!("mkdir({folder:?})"))?;
        let lock = File::open(folder).named(format_args!("open({folder:?})"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let lock = lock.named(format_args!("flock({folder:?}, LOCK_EX)"))?;
        let file = folder.join(NAME);
        if let Some((progress, whole)) = Progress::read(&bytes(&file)?) {
            let whole = whole as u64;
            return Ok(Kept { file, whole, progress, _lock: lock });
        }
        let aside = (1..)
            .map(|nth| folder.join(format!("{NAME}.{nth}")))
            .find(|at| at.symlink_metadata().is_err());
        let aside = aside.unwrap_or_default(); // the numbers do not end
        say(format_args!("{}; it is now {}", not_ours(&file), aside.display()));
        fs::rename(&file, &aside).named(format_args!("rename({file:?}, {aside:?})"))?;
        Ok(Kept { file, whole: 0, progress: Progress::default(), _lock: lock })
    }
}

const NAME: &str = "progress";

/// The file while it is ours alone.
struct Kept {
    file: PathBuf,
    /// Its length without a last line that a full disk has cut, in bytes.
    whole: u64,
    progress: Progress,
    /// Of the folder, for the file may become another.
    _lock: Flock<File>,
}

impl Kept {
    fn note(self, deeds: &[(Deed, &str)]) -> Result<(), Refusal> {
        let is_new = |(deed, name): &&(Deed, &str)| {
            !matches!(deed, Ran | Passed) || self.progress.times(*deed, name) == 0
        };
        let new = deeds.iter().filter(is_new).map(|(deed, name)| (*deed, name.to_string()));
        let new = Progress(new.collect());
        if new.0.is_empty() {
            return Ok(());
        }
        let lines = new.lines();
        let lines = if self.whole == 0 { &*lines } else { &lines[FIRST.len() + 1..] };
        let opened = File::options().create(true).append(true).open(&self.file);
        let mut file = opened.named(format_args!("open({:?})", self.file))?;
        file.set_len(self.whole).named(format_args!("ftruncate({:?})", self.file))?;
        file.write_all(lines.as_bytes()).named(format_args!("write({:?})", self.file))
    }
}

/// What is in the file; nothing if it is not there. Who opens a FIFO waits for its other end.
fn bytes(file: &Path) -> Result<Vec<u8>, Refusal> {
    match file.metadata() {
        Ok(found) if !found.is_file() => Err(Refusal::seen(file.display(), "no regular file")),
        Ok(_) => fs::read(file).named(format_args!("read({file:?})")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).named(format_args!("stat({file:?})")),
    }
}

fn not_ours(file: &Path) -> Refusal {
    Refusal::seen(file.display(), "damaged, or of a newer workbook")
}

/// With another's $HOME, as sudo(8) can leave it, root would make files that its owner cannot
/// write.
fn not_of_another(folder: &Path) -> Result<(), Refusal> {
    let there = folder.ancestors().find_map(|folder| Some((folder, folder.metadata().ok()?)));
    match there {
        Some((folder, found)) if geteuid().is_root() && found.uid() != 0 => {
            let what = format!("of user {}, and we are root", found.uid());
            Err(Refusal::seen(folder.display(), &what))
        }
        _ => Ok(()),
    }
}

/// Where that cannot be written there is nobody to tell.
fn say(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}
