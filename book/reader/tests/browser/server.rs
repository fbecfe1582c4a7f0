//! The server, with a browser that came by the address that it printed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fantoccini::key::Key;
use serde_json::Value;

use crate::driver::{Browser, LONG};
use crate::process::Server;

/// The server, and a browser that knows it.
pub struct Live {
    pub browser: Browser,
    /// All that it starts has its `XDG_STATE_HOME` in its environment.
    pub server: Server,
}

impl Live {
    pub async fn start() -> Option<Self> {
        let browser = Browser::start().await?;
        let server = Server::start_with(&["--allow-root"], &[]);
        browser.open(&format!("{}{}", server.origin(), server.path)).await;
        Some(Self { browser, server })
    }

    pub async fn open(&self, page: &str) {
        self.browser.open(&format!("{}/{page}.html", self.server.origin())).await;
        self.until("document.querySelector('.live button')").await;
    }

    /// Waits until an expression of the page is true.
    pub async fn until(&self, expression: &str) {
        // What is not there yet is not true yet.
        let script = format!(
            "const done = arguments[0];
            const holds = () => {{ try {{ return {expression}; }} catch {{ return false; }} }};
            (function look() {{ holds() ? done() : setTimeout(look, 20); }})();"
        );
        if let Err(error) = self.browser.client.execute_async(&script, Vec::new()).await {
            let texts = "return [...document.querySelectorAll('.live-slot')]
                .map((slot) => slot.innerText)";
            let texts = self.browser.run(texts).await;
            panic!("{expression}: {error}: {texts}");
        }
    }

    pub async fn is(&self, expression: &str) -> bool {
        self.browser.run(&format!("return Boolean({expression})")).await == Value::Bool(true)
    }

    /// Presses a button by its name, with the key that presses buttons.
    pub async fn press(&self, button: &str) {
        self.browser.run(&format!("{}.focus()", named(button))).await;
        self.browser.keys(&Key::Enter.to_string()).await;
    }

    /// Waits until the terminal of a slot shows this.
    pub async fn shows(&self, slot: &str, text: &str) {
        self.until(&format!("{}.includes({text:?})", screen(slot))).await;
    }

    /// Waits until this is said of a slot.
    pub async fn says(&self, slot: &str, text: &str) {
        let status = format!("{}.querySelector('[role=status]')", named(&format!("Live: {slot}")));
        self.until(&format!("{status}.textContent.startsWith({text:?})")).await;
    }

    /// The processes that the server has started, in whatever namespace, and what they started: the
    /// PID and the command.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("XDG_STATE_HOME={}", self.server.state.display());
        let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let pids = pids.filter(|pid| *pid != self.server.process.id().to_string());
        // One that ends meanwhile, or is another's, has no environment to read.
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        })
        .filter_map(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            Some(format!("{pid} {}", command.replace('\0', " ")))
        })
        .collect()
    }

    /// Waits until none of them is left.
    pub fn all_end(&self) {
        let deadline = Instant::now() + LONG;
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", self.processes());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The element with this name, as a script.
pub fn named(name: &str) -> String {
    format!("document.querySelector('[aria-label=\"{name}\"]')")
}

/// The text that a slot's terminal shows, as a script. A line of it is a `div`.
pub fn screen(slot: &str) -> String {
    let rows = format!("{}.querySelectorAll('.xterm-rows > div')", named(&format!("Live: {slot}")));
    format!("[...{rows}].map((row) => row.textContent.trimEnd()).join('\\n')")
}
