//! `cargo book` as a test sees it: a process, its port, requests byte by byte, and a terminal as a
//! page has it.

#![allow(dead_code)] // each test file uses its own part

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{ClientRequestBuilder, Message, WebSocket};
use workbook::proc;

/// Longer than anything here takes. Only what hangs needs so long.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// What the shell inside uts-demo asks with.
pub const PROMPT: &str = "[inside uts-demo] $ ";

pub struct Server {
    pub process: Child,
    pub port: u16,
    /// What opens the door: `/open/TOKEN`, or `/` where it has none.
    pub path: String,
    pub cookie: String,
    /// Where the reader's progress is kept.
    pub state: PathBuf,
}

/// An answer: its status, its head and its body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    /// Started as root too; the door is open.
    pub fn start() -> Self {
        Self::start_and_enter(&[])
    }

    /// The same with these arguments.
    pub fn start_and_enter(arguments: &[&str]) -> Self {
        let mut server = Self::start_with(&[&["--allow-root"], arguments].concat(), &[]);
        let answer = server.ask("GET", &server.path, &[], "");
        assert_eq!(answer.status, 303, "{}", answer.head);
        let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        server.cookie = cookie.expect("a cookie").split(';').next().expect("a pair").to_string();
        server
    }

    /// With these arguments and this in its environment. The address is the first line it prints.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let name = format!("state-{}-{}", std::process::id(), NTH.fetch_add(1, Ordering::Relaxed));
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut process = Command::new(env!("CARGO_BIN_EXE_book"))
            .arg("serve")
            .args(arguments)
            .env("XDG_STATE_HOME", &state)
            .env("SHELL", "/bin/sh")
            .env("GUEST_KERNEL", "/a/kernel")
            .env("NOT_ON_THE_LIST", "seen")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .process_group(0) // Ctrl-C of the test is not for it alone
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it is");
        let rest = line.split_once("http://127.0.0.1:").expect(&line).1;
        let address = rest.split(' ').next().expect("a word");
        let (port, path) = address.split_once('/').expect("a path");
        Self {
            process,
            port: port.parse().expect("a port"),
            path: format!("/{path}"),
            cookie: String::new(),
            state,
        }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.host())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time");
        stream.set_nodelay(true).expect("a socket"); // as a browser
        stream
    }

    /// A request with these headers; without a Host among them, the right one.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = self.host();
        let is_named = headers.iter().any(|(name, _)| *name == "Host");
        let all = [("Host", &*host)].into_iter().filter(|_| !is_named);
        let all: String = all
            .chain(headers.iter().copied())
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let kind = "Content-Type: application/json\r\nConnection: close\r\n";
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{all}{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads the request");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // reset, where it has not read the body
        Answer::of(&String::from_utf8_lossy(&answer))
    }

    /// The same from one of the book's own pages.
    pub fn ask_as_page(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("Origin", &*self.origin()), ("Cookie", &*self.cookie)];
        self.ask(method, path, &headers, body)
    }

    /// Starts a run of a lesson, in 80 columns and 24 rows.
    pub fn run(&self, lesson: &str, run: &str) -> String {
        let wanted =
            json!({ "lesson": lesson, "run": run, "page": "/x.html", "cols": 80, "rows": 24 });
        self.start_terminal(&wanted)
    }

    pub fn start_terminal(&self, wanted: &Value) -> String {
        let answer = self.ask_as_page("POST", "/live/terminals", &wanted.to_string());
        assert_eq!(answer.status, 201, "{wanted}: {}", answer.body);
        answer.json()["id"].as_str().expect("an id").to_string()
    }

    pub fn show(&self, id: &str) -> Page {
        let request = self.upgrade(id).with_header("Origin", self.origin());
        let request = request.with_header("Cookie", &self.cookie);
        let opened = tungstenite::client(request, self.connect());
        Page { socket: opened.expect("the terminal is shown").0, said: Vec::new(), sees: true }
    }

    /// The request for a terminal's WebSocket, without what lets it in.
    pub fn upgrade(&self, id: &str) -> ClientRequestBuilder {
        let address = format!("ws://{}/live/terminals/{id}", self.host());
        ClientRequestBuilder::new(address.parse().expect("an address"))
    }

    /// The terminals that it says are live.
    pub fn terminals(&self) -> Vec<Value> {
        let answer = self.ask_as_page("GET", "/live/terminals", "");
        answer.json().as_array().expect("a list").clone()
    }

    /// Its processes: all that descend from it.
    pub fn descendants(&self) -> Vec<u32> {
        let mut all = vec![self.process.id()];
        let mut nth = 0;
        while let Some(parent) = all.get(nth) {
            all.extend(proc::children(parent).expect("/proc"));
            nth += 1;
        }
        all.split_off(1)
    }

    /// How many files it has open, and how many of them are the master ends of PTYs.
    pub fn files(&self) -> (usize, usize) {
        let folder = format!("/proc/{}/fd", self.process.id());
        let files = std::fs::read_dir(folder).expect("our own process").flatten();
        let files: Vec<_> = files.filter_map(|file| file.path().read_link().ok()).collect();
        (files.len(), files.iter().filter(|file| file.ends_with("ptmx")).count())
    }

    pub fn interrupt(&self) {
        let pid = self.process.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status();
        assert!(sent.expect("sh is there").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

impl Answer {
    fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.unwrap_or(0), head: head.to_string(), body: body.to_string() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }
}

/// A terminal in a page.
pub struct Page {
    pub socket: WebSocket<TcpStream>,
    /// What it has been sent.
    pub said: Vec<u8>,
    /// Does it say what it has drawn?
    pub sees: bool,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub enum Next {
    Said,
    Ended(Value),
    Closed(u16),
}

impl Page {
    pub fn next(&mut self) -> Next {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => {
                self.said.extend_from_slice(&bytes);
                if self.sees {
                    // It may be closed by now, which the next read says.
                    let _ = self.tell(&json!({ "seen": bytes.len() }));
                }
                Next::Said
            }
            Ok(Message::Text(text)) => {
                let word: Value = serde_json::from_str(&text).expect("JSON");
                Next::Ended(word["ended"].clone())
            }
            Ok(Message::Close(frame)) => {
                Next::Closed(frame.map_or(0, |frame| CloseCode::into(frame.code)))
            }
            Ok(other) => panic!("{other}"),
            Err(tungstenite::Error::Io(error)) => panic!("{error}: {}", self.text()),
            Err(_) => Next::Closed(0),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Reads until this was said; forgets what was said before and with it.
    pub fn until(&mut self, text: &str) -> String {
        loop {
            let said = self.text();
            if let Some((before, rest)) = said.split_once(text) {
                self.said = rest.as_bytes().to_vec();
                return before.to_string() + text;
            }
            assert_eq!(self.next(), Next::Said, "{said}");
        }
    }

    /// Reads to the end: how it has ended.
    pub fn end(&mut self) -> Value {
        loop {
            match self.next() {
                Next::Said => {}
                Next::Ended(status) => return status,
                Next::Closed(code) => panic!("closed with {code}: {}", self.text()),
            }
        }
    }

    /// Reads until the connection is closed: its code.
    pub fn closed(&mut self) -> u16 {
        loop {
            if let Next::Closed(code) = self.next() {
                return code;
            }
        }
    }

    pub fn types(&mut self, text: &str) {
        self.socket.send(Message::binary(text.as_bytes().to_vec())).expect("it listens");
    }

    pub fn tell(&mut self, word: &Value) -> tungstenite::Result<()> {
        self.socket.send(Message::text(word.to_string()))
    }
}

/// The part of the memory that is a process's own, in KiB: proc_pid_smaps(5).
pub fn memory(pid: u32) -> u64 {
    let sums = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("ours");
    let line = sums.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a sum");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Waits until it is so. Returns how long that took.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20)); // /proc tells nobody that it has changed
    }
    start.elapsed()
}

/// Is there still a process with one of these numbers, that is no zombie?
pub fn alive(pids: &[u32]) -> Vec<u32> {
    let is_alive = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    };
    pids.iter().copied().filter(is_alive).collect()
}
