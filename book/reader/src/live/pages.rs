//! The pages, built again when a chapter or a lesson changes, and what a browser is told about each.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use exercises::check::watch::Changes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, watch};
use tower_http::services::{ServeDir, ServeFile};
use workbook::contents;

/// What the pages are made of.
const SOURCES: [&str; 4] = ["book/src", "book/theme", "lessons", "tests/snapshots"];

/// The built pages.
pub struct Pages {
    folder: PathBuf,
    port: u16,
    /// What the pages may do, in a browser. While they are built nobody can read it, nor a page.
    policy: RwLock<HeaderValue>,
    /// How often they were built.
    times: watch::Sender<u32>,
}

impl Pages {
    /// Builds them.
    pub fn build(port: u16) -> Result<Arc<Self>> {
        let folder = book_reader::build(book_reader::folder(), None)?;
        let policy = RwLock::new(policy(&folder, port)?);
        Ok(Arc::new(Self { folder, port, policy, times: watch::Sender::new(1) }))
    }

    /// Builds them again, in a thread that ends with the process, whenever a source is saved.
    pub fn follow(self: &Arc<Self>) -> Result<()> {
        let root = contents::root();
        let changes = Changes::of(SOURCES.map(|source| root.join(source)).to_vec())?;
        let pages = self.clone();
        thread::Builder::new().name("changes".to_string()).spawn(move || {
            while changes.begin().and_then(|()| changes.wait()).is_ok() {
                if let Err(error) = pages.build_again() {
                    // Where that cannot be written there is nobody to tell.
                    let _ = writeln!(io::stderr(), "book: {error:#}");
                }
            }
        })?;
        Ok(())
    }

    fn build_again(&self) -> Result<()> {
        let mut held = self.policy.blocking_write();
        book_reader::build(book_reader::folder(), None)?;
        *held = policy(&self.folder, self.port)?;
        drop(held);
        self.times.send_modify(|times| *times += 1);
        Ok(())
    }
}

/// The files themselves, each time when they are whole.
pub fn files(pages: &Arc<Pages>) -> Router {
    let missing = ServeFile::new(pages.folder.join("404.html"));
    let files = ServeDir::new(&pages.folder).not_found_service(missing);
    let whole = async |State(pages): State<Arc<Pages>>, request: Request, next: Next| {
        let _whole = pages.policy.read().await;
        next.run(request).await
    };
    Router::new().fallback_service(files).layer(from_fn_with_state(pages.clone(), whole))
}

/// What a browser is told with each answer: whose scripts may run, that no other page may frame this
/// one, that a file is what its type says, that no address is passed on, that nothing is kept.
pub async fn headers(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let policy = pages.policy.read().await.clone();
    let mut response = next.run(request).await;
    let fixed = [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(fixed);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// A stream with an event for each time that the pages were built again.
pub async fn changed(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let builds = stream::unfold(pages.times.subscribe(), async |mut times| {
        times.changed().await.ok()?;
        let nth = times.borrow_and_update().to_string();
        Some((anyhow::Ok(Event::default().data(nth)), times))
    });
    Sse::new(builds).keep_alive(KeepAlive::default())
}

/// Files of this server alone, and of the scripts inside a page those that mdBook has put there, each
/// by its hash. A style can do no harm, and xterm.js makes some.
fn policy(folder: &Path, port: u16) -> Result<HeaderValue> {
    let mut hashes = Vec::new();
    for file in fs::read_dir(folder).context("the pages")? {
        let file = file.context("the pages")?.path();
        if file.extension().is_some_and(|end| end == "html") {
            let page = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            hashes.extend(inline_scripts(&page).map(|script| {
                format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
            }));
        }
    }
    hashes.sort();
    hashes.dedup();
    let policy = format!(
        "default-src 'self'; script-src 'self'{}; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self' ws://127.0.0.1:{port} ws://localhost:{port}; \
         object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
        hashes.concat()
    );
    Ok(HeaderValue::from_str(&policy)?)
}

fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    let scripts = page.split("<script").skip(1).filter_map(|rest| rest.split_once('>'));
    let inline = scripts.filter(|(attributes, _)| !attributes.contains("src="));
    inline.filter_map(|(_, rest)| Some(rest.split_once("</script>")?.0))
}
