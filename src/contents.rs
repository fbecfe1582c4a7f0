//! The lessons in the book's order. `book/src/SUMMARY.md` is the only list.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs, io};

use crate::lesson::title;

const SUMMARY: &str = "book/src/SUMMARY.md";

/// What a lesson's source tells without being run.
pub struct Entry {
    /// File stem, binary, chapter.
    pub name: String,
    /// Its title: the first line of its source.
    pub title: String,
    /// The lesson's source.
    pub source: String,
}

/// The root of the workbook's own folder: the one that this program is in. It may have been compiled
/// elsewhere, for in a folder that was moved or copied cargo compiles nothing again.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let program = env::current_exe().unwrap_or_default();
        let folder = program.ancestors().find(|folder| folder.join(SUMMARY).is_file());
        folder.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR"))).to_path_buf()
    })
}

/// The lessons that `book/src/SUMMARY.md` links to, in its order: its chapters that have a file
/// in `lessons/`.
pub fn lessons() -> io::Result<Vec<Entry>> {
    let summary = read(&root().join(SUMMARY))?;
    let chapters = summary.split("](").skip(1).filter_map(|link| link.split_once(".md)"));
    chapters
        .map(|(name, _)| (name, root().join("lessons").join(name).with_extension("rs")))
        .filter(|(_, file)| file.exists())
        .map(|(name, file)| {
            let source = read(&file)?;
            Ok(Entry { name: name.to_string(), title: title(&source).to_string(), source })
        })
        .collect()
}

fn read(file: &PathBuf) -> io::Result<String> {
    let named = |error| io::Error::other(format!("{}: {error}", file.display()));
    fs::read_to_string(file).map_err(named)
}
