//! The lessons in the book's order. `book/src/SUMMARY.md` is the only list.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::lesson::title;

/// What a lesson's source tells without being run.
pub struct Entry {
    /// File stem, binary, chapter.
    pub name: String,
    /// Its title: the first line of its source.
    pub title: String,
    /// The lesson's source.
    pub source: String,
}

/// The root of the workbook's own folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lessons that `book/src/SUMMARY.md` links to, in its order: its chapters that have a file
/// in `lessons/`.
pub fn lessons() -> io::Result<Vec<Entry>> {
    let summary = read(&root().join("book/src/SUMMARY.md"))?;
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
