//! The terminals that there are, and what a page can ask of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router, routing};
use futures_util::future::join_all;
use nix::sys::resource::rlim_t;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::list::{Wanted, What};
use super::terminal::{self, Order, Page, Terminal};

/// How many there may be at once.
const MOST: usize = 64;
/// How large a message from a page may be, in bytes.
const MESSAGE: usize = 64 * 1024;
/// What a connection reads and writes at once, in bytes.
const BUFFER: usize = 4096;

/// The terminals of a server.
pub struct Sessions {
    all: Mutex<HashMap<String, Session>>,
    /// The limit on open files that the server was started with.
    files: (rlim_t, rlim_t),
    /// How long one lives in which nothing happens.
    idle: Duration,
}

struct Session {
    what: What,
    page: String,
    orders: mpsc::Sender<Order>,
}

#[derive(Serialize)]
struct Listed<'session> {
    id: &'session str,
    #[serde(flatten)]
    what: &'session What,
    page: &'session str,
}

impl Sessions {
    pub fn new(files: (rlim_t, rlim_t), idle: Duration) -> Arc<Self> {
        Arc::new(Self { all: Mutex::default(), files, idle })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self, id: &str) -> Option<mpsc::Sender<Order>> {
        self.all().get(id).map(|session| session.orders.clone())
    }

    /// Ends this one; `false` where there is none.
    async fn end(&self, id: &str) -> bool {
        let Some(orders) = self.orders(id) else { return false };
        let (done, is_done) = oneshot::channel();
        let is_sent = orders.send(Order::End(done)).await.is_ok();
        is_sent && is_done.await.is_ok() // else it has ended in this moment
    }

    /// Ends all of them at once.
    pub async fn end_all(&self) {
        let ids: Vec<String> = self.all().keys().cloned().collect();
        join_all(ids.iter().map(|id| self.end(id))).await;
    }
}

/// What a page can ask.
pub fn routes(sessions: Arc<Sessions>) -> Router {
    let one = routing::get(show).delete(end);
    Router::new()
        .route("/live/terminals", routing::get(list).post(start))
        .route("/live/terminals/{id}", one)
        .with_state(sessions)
}

async fn list(State(sessions): State<Arc<Sessions>>) -> Response {
    let all = sessions.all();
    let all = all.iter().map(|(id, Session { what, page, .. })| Listed { id, what, page });
    Json(all.collect::<Vec<_>>()).into_response()
}

async fn start(State(sessions): State<Arc<Sessions>>, Json(wanted): Json<Wanted>) -> Response {
    let what = wanted.what();
    let arguments = what.as_ref().and_then(What::arguments);
    let (Some(what), Some(arguments)) = (&what, arguments) else {
        return (StatusCode::NOT_FOUND, "This is no run of the book.\n").into_response();
    };
    let Some(size) = terminal::size(wanted.cols, wanted.rows) else {
        return (StatusCode::BAD_REQUEST, "A terminal has 1 to 1000 columns and rows.\n")
            .into_response();
    };
    if sessions.all().len() >= MOST {
        let text = format!("{MOST} terminals are open. Stop one, here or on another page.\n");
        return (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    }
    let (orders, theirs) = mpsc::channel(4);
    let started = Terminal::start(&arguments, size, sessions.files, sessions.idle, theirs);
    let (terminal, id) = match started.and_then(|terminal| Ok((terminal, new_id()?))) {
        Ok(started) => started,
        Err(error) => {
            let text = format!("{error:#}\n");
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        }
    };
    let session = Session { what: what.clone(), page: wanted.page, orders };
    sessions.all().insert(id.clone(), session);
    let answer = (StatusCode::CREATED, Json(json!({ "id": id })));
    tokio::spawn(async move {
        terminal.live().await;
        sessions.all().remove(&id);
    });
    answer.into_response()
}

fn new_id() -> anyhow::Result<String> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

async fn show(
    State(sessions): State<Arc<Sessions>>,
    Path(id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(orders) = sessions.orders(&id) else { return StatusCode::NOT_FOUND.into_response() };
    let upgrade = upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE);
    let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    upgrade.on_upgrade(async move |socket| {
        let _ = orders.send(Order::Show(Page::new(socket))).await; // it may have ended by now
    })
}

async fn end(State(sessions): State<Arc<Sessions>>, Path(id): Path<String>) -> StatusCode {
    if sessions.end(&id).await { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
