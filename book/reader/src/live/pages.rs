//! The pages, built again when a chapter or a lesson changes, and what a browser is told about each.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use exercises::check::watch::Changes;
use futures_util::stream;
use tokio::sync::watch;
use workbook::contents;

/// What the pages are made of.
const SOURCES: [&str; 4] = ["book/src", "book/theme", "lessons", "tests/snapshots"];

/// The pages as they were built last, all in memory: so a reader never meets half of a book, whoever
/// builds it, and there is no path that could lead out of it.
pub struct Pages {
    built: RwLock<Arc<Files>>,
    /// How often they were built.
    times: watch::Sender<u32>,
    /// What the pages may do, in a browser.
    policy: HeaderValue,
}

/// Each file by its path in the book.
type Files = HashMap<String, Bytes>;

impl Pages {
    /// Builds them.
    pub fn build(port: u16) -> Result<Arc<Self>> {
        let built = RwLock::new(Arc::new(build()?));
        Ok(Arc::new(Self { built, times: watch::Sender::new(1), policy: policy(port)? }))
    }

    fn built(&self) -> Arc<Files> {
        self.built.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Builds them again, in a thread that ends with the process, whenever a source is saved.
    pub fn follow(self: &Arc<Self>) -> Result<()> {
        let root = contents::root();
        let changes = Changes::of(SOURCES.map(|source| root.join(source)).to_vec())?;
        changes.begin()?;
        let pages = self.clone();
        thread::Builder::new().name("changes".to_string()).spawn(move || {
            while changes.wait().and_then(|()| changes.begin()).is_ok() {
                match build() {
                    Ok(built) => {
                        let built = Arc::new(built);
                        *pages.built.write().unwrap_or_else(PoisonError::into_inner) = built;
                        pages.times.send_modify(|times| *times += 1);
                    }
                    // Where that cannot be written there is nobody to tell.
                    Err(error) => drop(writeln!(io::stderr(), "book: {error:#}")),
                }
            }
        })?;
        Ok(())
    }
}

fn build() -> Result<Files> {
    book_reader::build_and(&book_reader::folder(), None, |folder| {
        let mut files = Files::new();
        read(folder, "", &mut files)?;
        Ok(files)
    })
}

fn read(folder: &Path, path: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{path}/{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &path, files)?;
        } else {
            files.insert(path, fs::read(entry.path())?.into());
        }
    }
    Ok(())
}

/// A file of the book, or its page that says that there is none.
pub async fn page(State(pages): State<Arc<Pages>>, uri: Uri) -> Response {
    let path = if uri.path() == "/" { "/index.html" } else { uri.path() };
    let files = pages.built();
    let (status, path) = match files.contains_key(path) {
        true => (StatusCode::OK, path),
        false => (StatusCode::NOT_FOUND, "/404.html"),
    };
    let text = files.get(path).cloned().unwrap_or_default();
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    (status, [(header::CONTENT_TYPE, kind.essence_str())], text).into_response()
}

/// What a browser is told with each answer: whose scripts may run, that no other page may frame this
/// one, that a file is what its type says, that no address is passed on, that nothing is kept.
pub async fn headers(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fixed = [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(fixed);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, pages.policy.clone());
    response
}

/// A stream that says how often the pages were built so far, and again whenever they are.
pub async fn changed(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let mut times = pages.times.subscribe();
    times.mark_changed(); // how often so far: this page may have missed some
    let builds = stream::unfold(times, async |mut times| {
        times.changed().await.ok()?;
        let nth = times.borrow_and_update().to_string();
        Some((anyhow::Ok(Event::default().data(nth)), times))
    });
    Sse::new(builds).keep_alive(KeepAlive::default())
}

/// Files of this server alone, and no script within a page: the build has moved them to files. A
/// style can do no harm, and xterm.js makes some.
fn policy(port: u16) -> Result<HeaderValue> {
    let policy = format!(
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self' ws://127.0.0.1:{port} ws://localhost:{port}; \
         object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok(HeaderValue::from_str(&policy)?)
}
