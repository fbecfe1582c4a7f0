//! A Chromium that a test drives, by Debian's chromedriver.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::Method;
use fantoccini::wd::{Capabilities, TimeoutConfiguration, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::Url;

/// How long a script in a page may take, and whatever it waits for: a lesson may have to be built
/// first. Only what hangs needs so long.
pub const LONG: Duration = Duration::from_secs(240);

const INSTALL: &str = "install the packages chromium and chromium-driver";

/// A browser with one window and a profile of its own. Dropped, it is gone with its files.
pub struct Browser {
    /// For whatever has no method here.
    pub client: Client,
    _driver: Driver,
}

impl Browser {
    /// A browser; nothing where none is installed, which in CI is a failure.
    pub async fn start() -> Option<Self> {
        if !is_installed("chromedriver") || !is_installed("chromium") {
            assert!(env::var_os("CI").is_none(), "no browser: {INSTALL}");
            static SAID: Once = Once::new();
            // Not by eprintln!: what a test that passes prints by it, nobody sees.
            SAID.call_once(|| {
                let _ = writeln!(io::stderr(), "not tried here: a real browser: {INSTALL}");
            });
            return None;
        }
        let driver = Driver::start();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(&driver.profile))
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .unwrap_or_else(|error| panic!("chromedriver gives no session: {error}"));
        let timeouts = TimeoutConfiguration::new(Some(LONG), Some(LONG), None);
        client.update_timeouts(timeouts).await.expect("chromedriver takes them");
        Some(Self { client, _driver: driver })
    }

    /// Loads a page, and waits for its load event.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What a script returns. It is the body of a function.
    pub async fn run(&self, script: &str) -> Value {
        let returned = self.client.execute(script, Vec::new()).await;
        returned.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The size of the page's part of the window, in CSS pixels. By the debugging protocol, because
    /// no window is narrower than 500.
    pub async fn size(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.debug("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Gives this page's origin a theme of the book, and loads the page again.
    pub async fn theme(&self, theme: &str) {
        self.run(&format!("localStorage.setItem('mdbook-theme', '{theme}')")).await;
        self.client.refresh().await.expect("the page loads again");
    }

    /// Types keys, as at a keyboard: to whatever has the focus. Special ones are in
    /// `fantoccini::key::Key`.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.unwrap_or_else(|error| panic!("{keys:?}: {error}"));
    }

    /// What the browser has written on its console as an error since the last look, failed requests
    /// included.
    pub async fn errors(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        let errors = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        errors.map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that the browser has asked for since the last look.
    pub async fn requests(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let texts = entries.iter().filter_map(|entry| entry["message"].as_str());
        let events = texts.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
        let asked = events.filter(|event| event["message"]["method"] == REQUEST);
        asked
            .map(|event| event["message"]["params"]["request"]["url"].to_string())
            .map(|url| url.trim_matches('"').to_string())
            .collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", json!({ "type": kind })).await;
        entries.as_array().cloned().unwrap_or_default()
    }

    /// A method of the debugging protocol of Chromium.
    pub async fn debug(&self, method: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": method, "params": parameters })).await
    }

    /// Writes what the window shows to target/, for people to look at.
    pub async fn screenshot(&self, name: &str) {
        let picture = self.client.screenshot().await.expect("a screenshot");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        fs::create_dir_all(&folder).expect("a folder for screenshots");
        fs::write(folder.join(name).with_extension("png"), picture).expect("a file of its own");
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let answer = self.client.issue_cmd(Of { path, body: body.to_string() }).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }
}

const REQUEST: &str = "Network.requestWillBeSent";

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn capabilities(profile: &Path) -> Capabilities {
    let mut arguments = vec![
        "--headless=new".to_string(),
        format!("--user-data-dir={}", profile.display()),
        // The pages are our own, and root and many containers may not have the sandbox.
        "--no-sandbox".to_string(),
        "--disable-dev-shm-usage".to_string(), // small in a container
    ];
    let quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "extensions"];
    arguments.extend(quiet.iter().map(|what| format!("--disable-{what}")));
    arguments.push("--no-first-run".to_string());
    let wanted = json!({
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    });
    wanted.as_object().cloned().expect("an object")
}

/// chromedriver and all that it starts, with their files.
struct Driver {
    process: Child,
    port: u16,
    profile: PathBuf,
    /// Where Chromium puts what it does not remove when it is killed, among it a socket: a socket's
    /// path is short.
    temporary: PathBuf,
}

impl Driver {
    /// In a PID namespace, as its PID 1: when that ends, the kernel ends the browser, too. And it
    /// ends when this thread does, also by SIGKILL.
    fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let nth = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("browser-{}-{nth}", std::process::id());
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let temporary = env::temp_dir().join(name);
        for folder in [&profile, &temporary] {
            fs::create_dir_all(folder).expect("a folder of the browser's");
        }
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--user", "--map-current-user", "--pid"])
            .args(["--fork", "--kill-child", "--mount-proc", "chromedriver", "--port=0"])
            .env("HOME", &profile)
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // Chromium writes there what no test looks at
            .spawn()
            .expect("setpriv(1), of util-linux");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut driver = Self { process, port: 0, profile, temporary };
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut said = lines.filter_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        driver.port = said.next().expect("chromedriver starts and says its port");
        driver
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already. What cannot be removed is in target/, but for a socket.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.profile);
        let _ = fs::remove_dir_all(&self.temporary);
    }
}

/// A command of chromedriver that is not in the standard.
#[derive(Debug)]
struct Of {
    path: &'static str,
    body: String,
}

impl WebDriverCompatibleCommand for Of {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.clone()))
    }
}
