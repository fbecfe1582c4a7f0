//! Builds the book with the mdBook library, so that nobody has to install mdbook.

mod pages;
pub mod questions;
mod runs;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use mdbook_driver::MDBook;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use workbook::contents;

/// The book's own folder, the one with `book.toml`.
pub fn folder() -> PathBuf {
    contents::root().join("book")
}

/// Builds the book in `folder` as HTML, into `destination` or where its `book.toml` says. Gives the
/// folder of the pages.
///
/// mdBook builds a page with a hole when an include cannot be read, logs it, and calls that a
/// success. Here whatever it warns of is an error.
pub fn build(folder: &Path, destination: Option<&Path>) -> Result<PathBuf> {
    build_and(folder, destination, |pages| Ok(pages.to_path_buf()))
}

/// The same, and looks at the pages while nobody else builds them.
pub fn build_and<T>(
    folder: &Path,
    destination: Option<&Path>,
    look: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    // Two builds at once would remove each other's pages: flock(2), until the file is closed.
    let one_at_a_time = File::open(folder.join("book.toml")).context("book.toml")?;
    one_at_a_time.lock().context("book.toml")?;

    let complaints = Complaints::default();
    let pages = tracing::subscriber::with_default(complaints.clone(), || {
        let mut book = MDBook::load(folder)?;
        if let Some(destination) = destination {
            book.config.build.build_dir = std::path::absolute(destination)?;
        }
        questions::mark(&mut book.book)?;
        runs::mark(&mut book.book);
        book.build()?;
        let pages = folder.join(&book.config.build.build_dir).canonicalize()?;
        pages::finish(&pages)?;
        anyhow::Ok(pages)
    })?;
    let complaints = complaints.0.lock().expect("no thread panicked while it wrote");
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\nbook: "));
    }
    look(&pages)
}

/// What mdBook has warned of so far.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Vec<String>>>);

impl Subscriber for Complaints {
    fn enabled(&self, metadata: &Metadata) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("mdbook")
    }

    fn event(&self, event: &Event) {
        let mut text = Message::default();
        event.record(&mut text);
        self.0.lock().expect("no thread panicked while it wrote").push(text.0);
    }

    // Spans are of no interest: every one may have the same number.
    fn new_span(&self, _: &span::Attributes) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}"); // a String takes everything
        }
    }
}
