//! Who may come in.
//!
//! That a server listens on 127.0.0.1 keeps nobody out: every page that a browser shows can send
//! requests there, and so can every user of this machine. So what runs programs wants a cookie, which
//! the browser gets for a token that only the reader has seen, and a sign that the page is ours.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use subtle::ConstantTimeEq as _;

/// The door of one server.
pub struct Door {
    port: u16,
    /// What the cookie must be.
    secret: Secret,
    /// What opens the door once; then nothing does any more.
    token: Mutex<Option<Secret>>,
}

/// 128 random bits, in hexadecimal.
pub struct Secret(String);

impl Secret {
    fn new() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self(bits.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Compares in a time that does not tell how much of a guess is right.
    fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }
}

impl Door {
    /// The door of the server at this port, and the path that opens it, once.
    pub fn new(port: u16) -> Result<(Arc<Self>, String), getrandom::Error> {
        let (secret, token) = (Secret::new()?, Secret::new()?);
        let path = format!("/open/{}", token.0);
        Ok((Arc::new(Self { port, secret, token: Mutex::new(Some(token)) }), path))
    }

    fn cookie_name(&self) -> String {
        format!("book-{}", self.port) // browsers do not tell the cookies of two ports apart
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let all = headers.get_all(header::COOKIE).iter().filter_map(|all| all.to_str().ok());
        let pairs = all.flat_map(|all| all.split(';')).filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(other, _)| other.trim() == name)
            .any(|(_, value)| self.secret.is(value.trim()))
    }

    /// Why this request may not do anything.
    fn refuses(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        if !comes_from_our_page(request.method(), headers) {
            return Some((StatusCode::FORBIDDEN, "This is for the book's own pages.\n"));
        }
        if !self.has_cookie(headers) {
            return Some((
                StatusCode::UNAUTHORIZED,
                "Open the address that `cargo book` prints.\n",
            ));
        }
        None
    }
}

/// The one value of a header: two of a kind are a trick.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())?.to_str().ok()
}

/// Whoever changes something, or opens a WebSocket, must say from which page, and it must be one of
/// ours. A browser does not let a page lie about that. It does not stop a page of another origin from
/// opening a WebSocket either, nor take a page of another port for one of another site.
fn comes_from_our_page(method: &Method, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        // A page of another port may ask for what only reads, and cannot look at the answer.
        return method == Method::GET && !headers.contains_key(header::UPGRADE);
    }
    let origin = only(headers, header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some() && origin == only(headers, header::HOST)
}

/// Lets nobody pass who has no business here.
pub async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.refuses(&request) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

/// Gives the cookie for the token. Whoever has the cookie already may come back to this address.
pub async fn open(
    State(door): State<Arc<Door>>,
    Path(guess): Path<String>,
    headers: HeaderMap,
) -> Response {
    let home = Redirect::to("/");
    if door.has_cookie(&headers) {
        return home.into_response();
    }
    let mut token = door.token.lock().unwrap_or_else(PoisonError::into_inner);
    if token.take_if(|token| token.is(&guess)).is_none() {
        let text =
            "This address has been opened, or is of another run: start `cargo book` again.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let (name, secret) = (door.cookie_name(), &door.secret.0);
    let cookies = [
        format!("{name}={secret}; HttpOnly; SameSite=Strict; Path=/"),
        // No script sees the first. This one says that there is one, and opens nothing: a page that
        // is not known asks for nothing then, and has no error.
        format!("live-{}=yes; SameSite=Strict; Path=/", door.port),
    ];
    let cookies = cookies.map(|cookie| (header::SET_COOKIE, cookie));
    (AppendHeaders(cookies), home).into_response()
}

/// A page from elsewhere can make its own name resolve to 127.0.0.1 and then ask this server, but
/// the browser still sends that name.
pub async fn only_as_this_host(State(port): State<u16>, request: Request, next: Next) -> Response {
    let here = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let host = only(request.headers(), header::HOST);
    match host.is_some_and(|host| here.iter().any(|name| name == host)) {
        true => next.run(request).await,
        false => StatusCode::MISDIRECTED_REQUEST.into_response(),
    }
}
