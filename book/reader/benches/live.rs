//! What a terminal in the page costs: how long a key takes to come back, how much memory each holds,
//! and whether all arrives of what a program prints fast.
//!
//! `cargo bench -p book-reader` prints a table in Markdown; book/src/live.md shows the one in
//! benches/live.md. Beside ours stands Jupyter's terminal, if the Python in `PATH` has terminado. Each
//! shell is /bin/sh, so it is the kernel that echoes a key. All keys are typed at once: each terminal
//! types ten a second.

#[path = "../tests/server/mod.rs"]
mod server;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};
use server::{Next, PROMPT, Page, Server, memory};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

const KEYS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);
const MUCH: usize = 100_000_000;

fn main() {
    // cargo test --all-targets runs it too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    let date = Command::new("date").arg("+%F").output().expect("date(1) is there").stdout;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let (date, cores) = (String::from_utf8_lossy(&date), thread::available_parallelism());
    let cores = cores.map_or(1, usize::from);
    println!("Measured on {}, on Linux {kernel}, {cores} cores.\n", date.trim());
    println!("| Terminals | | Echo of a key, median | 99 of 100 within | Memory of each |");
    println!("|---|---|---|---|---|");
    let server = Server::start();
    server.show(&server.run("uts-demo", "shell")).until(PROMPT); // built, and once in memory
    server::until("it ends", || server.terminals().is_empty());
    for count in [1, 10, 50] {
        ours(&server, count);
        match Terminado::start() {
            Some(terminado) => terminado.measure(count),
            None => eprintln!("not tried: Jupyter's terminal, for Python has no terminado here"),
        }
    }
    much(&server);
}

/// A terminal of somebody's.
trait Terminal: Send {
    fn types(&mut self, text: &str);
    /// Waits until this is said.
    fn hears(&mut self, text: &str);
}

impl Terminal for Page {
    fn types(&mut self, text: &str) {
        Page::types(self, text);
    }

    fn hears(&mut self, text: &str) {
        self.until(text);
    }
}

fn ours(server: &Server, count: u32) {
    let before = memory(server.process.id());
    let ids: Vec<_> = (0..count).map(|_| server.run("uts-demo", "shell")).collect();
    let mut pages: Vec<_> = ids.iter().map(|id| server.show(id)).collect();
    pages.iter_mut().for_each(|page| drop(page.until(PROMPT)));
    let mut of_us = workbook::proc::children(server.process.id()).expect("/proc");
    of_us.push(server.process.id()); // and the keepers
    let terminals = pages.into_iter().map(|page| Box::new(page) as Box<dyn Terminal>);
    let times = times(terminals.collect());
    row(
        count,
        "this book's",
        &times,
        of_us.into_iter().map(memory).sum::<u64>().saturating_sub(before),
    );
    for id in ids {
        server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "");
    }
}

/// How long each key took to come back, in order.
fn times(terminals: Vec<Box<dyn Terminal>>) -> Vec<Duration> {
    let count = terminals.len() as u32;
    let typists = (0..).zip(terminals).map(|(nth, mut terminal)| {
        thread::spawn(move || {
            let start = Instant::now() + PAUSE * nth / count;
            let keys = (0..KEYS).map(|key| {
                thread::sleep((start + PAUSE * key).saturating_duration_since(Instant::now()));
                let (typed, key) = (Instant::now(), ["a", "b"][key as usize % 2]);
                terminal.types(key);
                terminal.hears(key);
                typed.elapsed()
            });
            keys.collect::<Vec<_>>()
        })
    });
    let typists: Vec<_> = typists.collect();
    let times = typists.into_iter().flat_map(|typist| typist.join().expect("it types"));
    let mut times: Vec<_> = times.collect();
    times.sort();
    times
}

fn row(count: u32, whose: &str, times: &[Duration], memory: u64) {
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1000.0;
    let each = memory as f64 / 1024.0 / f64::from(count);
    println!(
        "| {count} | {whose} | {:.2} ms | {:.2} ms | {each:.2} MiB |",
        at(50),
        at(99).max(at(50))
    );
}

struct Terminado {
    process: Child,
    port: u16,
}

impl Terminado {
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/jupyters.py");
        let mut python = Command::new("python3");
        python.arg(script).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = python.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take()?).read_line(&mut line).ok()?;
        match line.trim().parse() {
            Ok(port) => Some(Self { process, port }),
            Err(_) => process.wait().ok().and(None),
        }
    }

    fn measure(self, count: u32) {
        let before = memory(self.process.id());
        let shells = (0..count).map(|_| Box::new(Shell::of(self.port)) as Box<dyn Terminal>);
        let mut shells: Vec<_> = shells.collect();
        shells.iter_mut().for_each(|shell| shell.hears(" "));
        let times = times(shells);
        row(count, "Jupyter's", &times, memory(self.process.id()).saturating_sub(before));
    }
}

impl Drop for Terminado {
    fn drop(&mut self) {
        let _ = self.process.kill(); // its shells get the hangup
        let _ = self.process.wait();
    }
}

/// A terminal of terminado: messages are JSON, a kind and a text.
struct Shell(WebSocket<TcpStream>);

impl Shell {
    fn of(port: u16) -> Self {
        let address = format!("ws://127.0.0.1:{port}/terminal");
        let request = ClientRequestBuilder::new(address.parse().expect("an address"))
            .with_header("Origin", format!("http://127.0.0.1:{port}"));
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self(tungstenite::client(request, stream).expect("a terminal").0)
    }
}

impl Terminal for Shell {
    fn types(&mut self, text: &str) {
        self.0.send(Message::text(json!(["stdin", text]).to_string())).expect("it listens");
    }

    fn hears(&mut self, text: &str) {
        loop {
            let message = self.0.read().expect("it says something").into_text().expect("text");
            let message: Value = serde_json::from_str(&message).expect("JSON");
            if message[0] == "stdout" && message[1].as_str().is_some_and(|said| said.contains(text))
            {
                return;
            }
        }
    }
}

fn much(server: &Server) {
    let mut page = server.show(&server.run("uts-demo", "shell"));
    page.until(PROMPT);
    page.types(&format!("head -c {MUCH} /dev/zero | tr '\\0' x; echo; echo $((6 * 7))\r"));
    page.until("\r\n"); // the echo
    let (start, mut count) = (Instant::now(), 0);
    while count < MUCH && page.next() == Next::Said {
        count += page.said.drain(..).filter(|byte| *byte == b'x').count();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("\nOf {MUCH} bytes that a program printed at once {count} came, in {seconds:.1} s.");
}
