//! The live book: the pages, and beside them terminals in which the lessons run.
//!
//! - [`door`]: who may come in
//! - [`list`]: what may be run
//! - [`sessions`]: the terminals that there are
//! - [`terminal`]: one of them
//! - [`answers`]: what the reader says to a question
//! - [`picture`]: a lesson's picture, with this host's numbers
//! - [`pages`]: the pages, built again when a chapter or a lesson changes
//! - [`opener`]: shows it in the reader's browser
//! - [`connections`]: who is connected, and for how long

pub mod answers;
pub mod connections;
pub mod door;
pub mod list;
pub mod opener;
pub mod pages;
pub mod picture;
pub mod sessions;
pub mod terminal;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing};
use tokio::time::timeout;

use door::Door;
use pages::Pages;
use sessions::Sessions;

/// The largest request for anything: a JSON of a few words.
const BODY: usize = 4096;

/// xterm.js as the npm registry has it: vendor/xterm/README.md.
const XTERM: [(&str, &str, &str); 3] = [
    ("xterm.mjs", "text/javascript", include_str!("../vendor/xterm/xterm.mjs")),
    ("addon-fit.mjs", "text/javascript", include_str!("../vendor/xterm/addon-fit.mjs")),
    ("xterm.css", "text/css", include_str!("../vendor/xterm/xterm.css")),
];

/// What is served at this port. Without a door there are pages only, and this is said why.
pub fn app(port: u16, pages: Arc<Pages>, live: Result<(Arc<Door>, Arc<Sessions>), &str>) -> Router {
    let routes = match live {
        Ok((door, sessions)) => {
            let inside =
                inside(&pages, sessions).layer(from_fn_with_state(door.clone(), door::guard));
            let open = routing::get(door::open).with_state(door);
            inside.route("/open/{token}", open)
        }
        Err(why) => {
            let why = why.to_string();
            let refused = routing::any(async || (StatusCode::FORBIDDEN, why));
            Router::new().route("/live/{*path}", refused)
        }
    };
    routes
        .fallback(routing::get(pages::page).with_state(pages.clone()))
        .layer(from_fn_with_state(pages, pages::headers))
        .layer(from_fn_with_state(port, door::only_as_this_host))
}

/// What wants a cookie.
fn inside(pages: &Arc<Pages>, sessions: Arc<Sessions>) -> Router {
    let xterm = XTERM.map(|(name, kind, text)| {
        let file = routing::get(async move || ([(header::CONTENT_TYPE, kind)], text));
        (format!("/live/xterm/{name}"), file)
    });
    let xterm = xterm.into_iter().fold(Router::new(), |all, (path, file)| all.route(&path, file));
    xterm
        .merge(sessions::routes(sessions))
        .route("/live/answers", routing::post(answers::answer))
        .route("/live/changed", routing::get(pages::changed).with_state(pages.clone()))
        .route("/live/{*path}", routing::any(StatusCode::NOT_FOUND))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(in_time))
        .route("/live/map/{lesson}", routing::post(picture::picture)) // has its own time
}

/// Who sends a request slowly does not keep us waiting for its rest. To end a terminal takes longest.
async fn in_time(request: Request, next: Next) -> Response {
    match timeout(connections::PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
