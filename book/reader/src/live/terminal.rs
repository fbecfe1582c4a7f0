//! One terminal: a PTY, what runs in it, and the page that shows it.
//!
//! All that happens to it happens in one task, so nothing is locked. A page may go and come back; what
//! was said is kept for it, up to [`KEPT`]. What the page has not drawn yet is not more than that
//! either: then nothing is read from the PTY, and who writes there waits. So nothing is lost, and
//! nothing piles up.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, close_code};
use futures_util::future::OptionFuture;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use pty_process::{Pty, Size};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::list;
use crate::keeper;

/// How much of what was said is kept, and how much may be on its way to the page, in bytes.
const KEPT: usize = 256 * 1024;
/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How many messages may wait for the page's connection.
const QUEUE: usize = 16;
/// How much of what was typed or pasted may wait for the program to read it, in bytes.
const TYPED: usize = 512 * 1024;
/// What a program may print in a second, in bytes, lest one terminal keep the server to itself.
const RATE: u32 = 16 << 20;
/// How far it may be ahead of that: a timer is not more exact.
const AHEAD: Duration = Duration::from_millis(10);
/// How long a terminal lives without a page. To load a page again takes less.
const ALONE: Duration = Duration::from_secs(10);
/// How long a message to the page may take.
const SLOW: Duration = Duration::from_secs(20);
/// How long its keeper may take to end what runs there; it takes less.
const ENDING: Duration = Duration::from_secs(8);
/// The codes that a page's connection is closed with, beside those of RFC 6455: another page has the
/// terminal now.
const TAKEN_OVER: CloseCode = 4001;

/// What can be asked of a terminal.
pub enum Order {
    /// Show it in this page, and in no other.
    Show(Page),
    /// End it, and say when that is done.
    End(oneshot::Sender<()>),
}

/// What a page says that is not typed.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// Columns and rows.
    Size([u16; 2]),
    /// So many bytes more have been drawn.
    Seen(usize),
}

enum Event {
    Order(Option<Order>),
    Said(io::Result<usize>),
    Took(io::Result<usize>),
    Heard(Option<Result<Message, axum::Error>>),
    TimeIsUp,
}

pub struct Terminal {
    pty: Pty,
    keeper: Child,
    orders: mpsc::Receiver<Order>,
    page: Option<Page>,
    /// What was said last.
    kept: VecDeque<u8>,
    /// So much of it the page has not drawn yet.
    unseen: usize,
    buffer: Box<[u8; CHUNK]>,
    /// What was typed, and not read yet.
    typed: VecDeque<u8>,
    /// When, at its rate, what was said would have been said.
    said_by: Instant,
    /// Since when has it had no page, or neither been typed nor said anything?
    since: Instant,
    /// How long it lives when nothing is typed and nothing is said.
    idle: Duration,
    ended: Option<Value>,
}

/// The size, as the kernel and a screen can take it.
pub fn size(cols: u16, rows: u16) -> Option<Size> {
    let is_fit = |cells| (1..=1000).contains(&cells);
    (is_fit(cols) && is_fit(rows)).then(|| Size::new(rows, cols))
}

impl Terminal {
    /// Opens a PTY and starts cargo in it with these arguments, under a keeper. What is run may have
    /// as many open files as the server could have at its start.
    pub fn start(
        arguments: &[&str],
        size: Size,
        files: (rlim_t, rlim_t),
        idle: Duration,
        orders: mpsc::Receiver<Order>,
    ) -> Result<Self> {
        let (pty, pts) = pty_process::open().context("open(\"/dev/ptmx\")")?;
        pty.resize(size).context("ioctl(TIOCSWINSZ)")?;
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let us = getpid();
        let dies_with_us = move || {
            // The one that counts is the end of the thread that forks: the server has one for that.
            set_pdeathsig(keeper::END)?;
            setrlimit(Resource::RLIMIT_NOFILE, files.0, files.1)?;
            // If we died before that, it has another parent by now.
            if getppid() == us { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        // Our own file, also when another has been built in its place.
        let command = pty_process::Command::new("/proc/self/exe")
            .args(["keep", "--"])
            .arg(cargo)
            .args(arguments)
            .current_dir(workbook::contents::root())
            .env_clear()
            .envs(list::environment());
        // SAFETY: between fork and exec it makes three system calls.
        let keeper = unsafe { command.pre_exec(dies_with_us) }.spawn(pts).context("keeper")?;
        let now = Instant::now();
        Ok(Self {
            pty,
            keeper,
            orders,
            page: None,
            kept: VecDeque::new(),
            unseen: 0,
            buffer: Box::new([0; CHUNK]),
            typed: VecDeque::new(),
            said_by: now,
            since: now,
            idle,
            ended: None,
        })
    }

    /// Its life, until it has ended and a page knows that, or nobody is left to tell.
    pub async fn live(mut self) {
        loop {
            match self.next().await {
                Event::Order(Some(Order::Show(page))) => self.show(page),
                Event::Order(Some(Order::End(done))) => {
                    self.end().await;
                    let _ = done.send(()); // who has asked may have gone
                    return;
                }
                Event::Order(None) => return self.end().await,
                Event::TimeIsUp if self.page.is_none() => return self.end().await,
                Event::TimeIsUp => return self.end_silence().await,
                Event::Said(Ok(bytes)) if bytes > 0 => self.said(bytes),
                // EIO: nobody has the other end any more.
                Event::Said(_) => self.has_ended().await,
                Event::Took(Ok(bytes)) => drop(self.typed.drain(..bytes)),
                Event::Took(Err(_)) => self.typed.clear(),
                Event::Heard(message) => self.hear(message),
            }
            if self.ended.is_some() && self.page.is_some() {
                return self.tell_end();
            }
        }
    }

    async fn next(&mut self) -> Event {
        let (is_over, is_behind) = (self.ended.is_some(), self.unseen > KEPT);
        let time = if self.page.is_some() { self.idle } else { ALONE };
        let (mut output, mut input) = self.pty.split();
        let (words, queue) = match &mut self.page {
            Some(Page { words, queue }) => (Some(words), Some(&*queue)),
            None => (None, None),
        };
        let not_before = self.said_by - AHEAD;
        let said = async {
            sleep_until(not_before).await;
            // While its connection takes no more, a page gets no more.
            let place = OptionFuture::from(queue.map(mpsc::Sender::reserve)).await;
            let said = output.read(&mut self.buffer[..]).await;
            drop(place);
            said
        };
        let heard = async {
            let (Some(words), Some(queue)) = (words, queue) else { return pending().await };
            tokio::select! {
                word = words.next() => word,
                () = queue.closed() => None,
            }
        };
        tokio::select! {
            order = self.orders.recv() => Event::Order(order),
            word = heard => Event::Heard(word),
            took = input.write(self.typed.as_slices().0), if !self.typed.is_empty() => {
                Event::Took(took)
            }
            said = said, if !is_over && !is_behind => Event::Said(said),
            () = sleep_until(self.since + time) => Event::TimeIsUp,
        }
    }

    /// From here on this page has it. It gets what was said before.
    fn show(&mut self, page: Page) {
        self.leave(TAKEN_OVER, "shown elsewhere");
        page.send(Message::Binary(self.kept.make_contiguous().to_vec().into()));
        self.unseen = self.kept.len();
        self.page = Some(page);
        self.since = Instant::now();
    }

    fn said(&mut self, bytes: usize) {
        let said = &self.buffer[..bytes];
        self.kept.extend(said);
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        self.unseen += bytes;
        let now = Instant::now();
        self.said_by = self.said_by.max(now) + Duration::from_secs(1) * bytes as u32 / RATE;
        if let Some(page) = &self.page {
            page.send(Message::Binary(said.to_vec().into()));
            self.since = now;
        }
    }

    /// What the page says. What is no such word ends the connection, not the terminal.
    fn hear(&mut self, message: Option<Result<Message, axum::Error>>) {
        self.since = Instant::now();
        match message {
            Some(Ok(Message::Binary(bytes))) if self.typed.len() + bytes.len() <= TYPED => {
                self.typed.extend(bytes);
            }
            Some(Ok(Message::Binary(_))) => self.leave(close_code::SIZE, "typed too much"),
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(Word::Seen(bytes)) => self.unseen = self.unseen.saturating_sub(bytes),
                Ok(Word::Size([cols, rows])) => match size(cols, rows) {
                    // Refused only where the terminal is gone.
                    Some(size) => drop(self.pty.resize(size)),
                    None => self.leave(close_code::POLICY, "no such size"),
                },
                Err(_) => self.leave(close_code::INVALID, "size or seen"),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => self.page = None,
            Some(Err(_)) => self.leave(close_code::PROTOCOL, "no message of this protocol"),
        }
    }

    fn leave(&mut self, code: CloseCode, why: &'static str) {
        if let Some(page) = self.page.take() {
            page.send(Message::Close(Some(CloseFrame { code, reason: why.into() })));
            page.leave();
        }
        self.since = Instant::now();
    }

    /// Ends it, and tells the page.
    async fn end(&mut self) {
        self.stop().await;
        self.tell_end();
    }

    /// Has its keeper end all that runs there.
    async fn stop(&mut self) {
        if let Some(pid) = self.keeper.id().filter(|_| self.ended.is_none()) {
            // Our child, and nobody has waited for it: the PID is still its.
            let _ = kill(Pid::from_raw(pid as i32), keeper::END);
            self.has_ended().await;
        }
    }

    /// Ends it where nothing has happened for long. Who comes back to the page reads why.
    async fn end_silence(&mut self) {
        self.stop().await;
        let seconds = self.idle.as_secs();
        let why = format!("the server: nothing was typed or printed for {seconds} s");
        self.ended = Some(json!(why));
        self.tell_end();
    }

    async fn has_ended(&mut self) {
        let status = timeout(ENDING, self.keeper.wait()).await;
        let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
        self.ended = Some(match code.map(|code| (code, Signal::try_from(code - 128))) {
            Some((_, Ok(signal))) => json!(signal.as_str()),
            Some((code, Err(_))) => json!(code),
            None => json!(Signal::SIGKILL.as_str()), // the keeper itself was killed
        });
        self.since = Instant::now();
    }

    fn tell_end(&mut self) {
        if let (Some(page), Some(status)) = (&self.page, &self.ended) {
            page.send(Message::Text(json!({ "ended": status }).to_string().into()));
        }
        self.leave(close_code::NORMAL, "ended");
    }
}

/// The connection of a page that shows a terminal.
pub struct Page {
    words: SplitStream<WebSocket>,
    queue: mpsc::Sender<Message>,
}

impl Page {
    /// Who does not take a message in time is gone.
    pub fn new(socket: WebSocket) -> Self {
        let (mut sink, words) = socket.split();
        let (queue, mut messages) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                match timeout(SLOW, sink.send(message)).await {
                    Ok(Ok(())) => {}
                    _ => return,
                }
            }
        });
        Self { words, queue }
    }

    /// Reads until the page has closed its end, too. If the connection were gone before, the next word
    /// of the page would be refused, and a browser then throws away what it has not read yet, such as
    /// how the run has ended.
    fn leave(mut self) {
        drop(self.queue);
        tokio::spawn(timeout(
            SLOW,
            async move { while let Some(Ok(_)) = self.words.next().await {} },
        ));
    }

    /// Where the queue is full, which only words can meet, the page sees the end of the connection.
    fn send(&self, message: Message) {
        let _ = self.queue.try_send(message);
    }
}
