//! The live book from outside: who is refused, before anything is started for them, and what nobody
//! can make it do.

mod server;

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::{DEADLINE, Next, PROMPT, Page, Server, memory, until};
use tungstenite::Message;

const RUN: &str = r#"{"lesson":"pid-demo","run":"step","page":"/x.html","cols":80,"rows":24}"#;

/// One server for all: to build the book is most of the work.
#[test]
fn nobody_comes_in_who_should_not() {
    let server = Server::start_with(&["--allow-root"], &[]);
    the_token_opens_once(&server);
    drop(server);

    let server = Server::start();
    let files = server.files().0;
    without_the_cookie_nothing_is_live(&server);
    a_page_from_elsewhere_can_do_nothing(&server);
    a_name_that_resolves_to_us_is_not_ours(&server);
    a_path_leads_nowhere_else(&server);
    what_is_not_on_the_list_is_not_run(&server);
    a_body_has_an_end(&server);
    every_answer_tells_the_browser_what_it_may_not_do(&server);
    frames_that_are_none_end_the_connection_alone(&server);
    the_environment_is_a_list(&server);
    no_argument_has_a_secret(&server);
    a_terminal_too_many_is_refused(&server);
    until("nothing leaks", || server.files().0 <= files && server.descendants().is_empty());
}

/// It has not started anything, nor will it.
fn nothing_was_started(server: &Server, by: &str) {
    assert_eq!((server.descendants(), server.files().1), (Vec::new(), 0), "{by}");
    assert_eq!(server.ask("GET", "/", &[], "").status, 200, "{by}: it serves the pages");
}

fn the_token_opens_once(server: &Server) {
    let token = server.path.strip_prefix("/open/").expect("a token");
    assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let other = Server::start_with(&["--allow-root"], &[]);
    assert_ne!(other.path, server.path);
    let (start, longer) = (&token[..31], format!("{token}0"));
    let old = other.path.strip_prefix("/open/").expect("a token");
    for guess in [start, &longer, &token.to_uppercase(), &"0".repeat(32), old, "%00", "x"] {
        let answer = server.ask("GET", &format!("/open/{guess}"), &[], "");
        assert_eq!(answer.status, 403, "{guess}: {}", answer.head);
        assert!(!answer.head.contains("set-cookie"), "{guess}: {}", answer.head);
    }
    let answer = server.ask("GET", &server.path, &[], "");
    assert_eq!(answer.status, 303, "{}", answer.head);
    let cookie = answer.head.lines().find(|line| line.starts_with("set-cookie: "));
    let cookie = cookie.expect("a cookie");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(token), "the address gives no second one");
    let again = server.ask("GET", &server.path, &[], "");
    assert_eq!((again.status, again.head.contains("set-cookie")), (403, false), "{}", again.head);
}

fn without_the_cookie_nothing_is_live(server: &Server) {
    let (name, secret) = server.cookie.split_once('=').expect("a pair");
    let token = server.path.strip_prefix("/open/").expect("a token");
    let other = Server::start(); // an old one is one of another run
    let cookies = [
        String::new(),
        format!("{name}="),
        format!("{name}={}", "0".repeat(32)),
        format!("{name}={token}"),
        format!("{name}={}", &secret[..31]),
        format!("{name}={secret}0"),
        format!("book-1={secret}"),
        other.cookie.clone(),
        format!("{name}={}", other.cookie.split_once('=').expect("a pair").1),
    ];
    let origin = server.origin();
    for cookie in &cookies {
        for (method, path) in LIVE {
            let headers = [("Origin", &*origin), ("Cookie", cookie)];
            let answer = server.ask(method, path, &headers, RUN);
            assert_eq!(answer.status, 401, "{cookie}: {method} {path}: {}", answer.body);
        }
        nothing_was_started(server, cookie);
    }
    // Beside cookies of others ours is ours.
    let both = format!("{}; {}; a=b", other.cookie, server.cookie);
    assert_eq!(server.ask("GET", LIVE[0].1, &[("Cookie", &both)], "").status, 200);
}

/// A request of each kind.
const LIVE: [(&str, &str); 8] = [
    ("GET", "/live/terminals"),
    ("POST", "/live/terminals"),
    ("GET", "/live/terminals/0123456789abcdef"),
    ("DELETE", "/live/terminals/0123456789abcdef"),
    ("POST", "/live/answers"),
    ("POST", "/live/map/pid-demo"),
    ("GET", "/live/changed"),
    ("GET", "/live/xterm/xterm.mjs"),
];

fn a_page_from_elsewhere_can_do_nothing(server: &Server) {
    let origin = server.origin();
    let foreign = [
        "http://elsewhere.example".to_string(),
        format!("{origin}.elsewhere.example"),
        format!("http://elsewhere.example/{origin}"),
        format!("http://a{}", server.host()),
        format!("https://{}", server.host()),
        format!("http://localhost:{}", server.port), // not where this page is
        "http://127.0.0.1".to_string(),
        "http://127.0.0.1:1".to_string(),
        format!("{origin}/"),
        "null".to_string(),
        String::new(),
    ];
    let cookie = ("Cookie", &*server.cookie);
    let mut origins: Vec<_> = foreign.iter().map(|foreign| vec![("Origin", &**foreign)]).collect();
    origins.push(vec![]); // none
    origins.push(vec![("Origin", &*origin), ("Origin", "http://elsewhere.example")]);
    for headers in origins.iter_mut() {
        let by = format!("{headers:?}");
        headers.push(cookie);
        for (method, path) in LIVE.iter().filter(|(method, _)| *method != "GET") {
            let answer = server.ask(method, path, headers, RUN);
            assert_eq!(answer.status, 403, "{by}: {method} {path}: {}", answer.body);
        }
        headers.extend(UPGRADE);
        let answer = server.ask("GET", LIVE[2].1, headers, "");
        assert_eq!(answer.status, 403, "{by}: WebSocket: {}", answer.body);
        nothing_was_started(server, &by);
    }
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

fn a_name_that_resolves_to_us_is_not_ours(server: &Server) {
    let port = server.port;
    let names =
        ["elsewhere.example", "127.0.0.1.elsewhere.example", "127.0.0.1", "0.0.0.0", "[::1]"];
    for name in names {
        for host in [name.to_string(), format!("{name}:{port}"), format!("{name}:{}", port ^ 1)] {
            if host == server.host() {
                continue;
            }
            let origin = format!("http://{host}");
            let headers = [("Host", &*host), ("Origin", &origin), ("Cookie", &server.cookie)];
            for (method, path) in LIVE.iter().chain(&[("GET", "/"), ("GET", &*server.path)]) {
                let answer = server.ask(method, path, &headers, RUN);
                assert_eq!(answer.status, 421, "{host}: {method} {path}: {}", answer.head);
            }
            nothing_was_started(server, &host);
        }
    }
    let two = [("Host", &*server.host()), ("Host", "elsewhere.example")];
    assert_ne!(server.ask("GET", "/", &two, "").status, 200);
}

fn a_path_leads_nowhere_else(server: &Server) {
    let paths = [
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "//etc/passwd",
        "/live/xterm/../../Cargo.toml",
        "/live/xterm/%2e%2e/README.md",
        "/live/xterm/README.md",
        "/live/terminals/../../etc/passwd",
        "/live/map/..%2f..%2fetc%2fpasswd",
        "/live/map/sh",
        "/live/no-such-thing",
        "/live/../etc/passwd",
    ];
    for path in paths {
        let method = if path.starts_with("/live/map/") { "POST" } else { "GET" };
        let answer = server.ask_as_page(method, path, "");
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
        assert!(!answer.body.contains("[package]") && !answer.body.contains("root:"), "{path}");
    }
    nothing_was_started(server, "a path");
}

fn what_is_not_on_the_list_is_not_run(server: &Server) {
    let lesson = |lesson: &str, run: &str| json!({ "lesson": lesson, "run": run, "page": "/", "cols": 80, "rows": 24 });
    let with = |name: &str, value: Value| {
        let mut wanted = lesson("pid-demo", "step");
        wanted[name] = value;
        wanted
    };
    let wanted = [
        lesson("sh", "plain"),
        lesson("book", "plain"),
        lesson("workbook", "plain"),
        lesson("../pid-demo", "plain"),
        lesson("", "plain"),
        lesson("pid-demo", ""),
        lesson("pid-demo", "--list"),
        lesson("pid-demo", "plain --shell"),
        lesson("pid-demo", "without"),
        lesson("pid-demo", "without nothing"),
        lesson("pid-demo", "without newpid --shell"),
        lesson("pid-demo", "without ../uts-demo"),
        lesson("pid-demo", "without newpid;id"),
        lesson("container-demo", "shell"), // has none
        json!({ "step": "no-such-step", "page": "/", "cols": 80, "rows": 24 }),
        json!({ "page": "/", "cols": 80, "rows": 24 }),
        with("step", json!("pid")),
        with("arguments", json!(["--shell"])),
        with("env", json!({ "LD_PRELOAD": "/tmp/x.so" })),
        with("lesson", json!(["pid-demo"])),
        with("cols", json!(0)),
        with("rows", json!(1001)),
        with("cols", json!(-1)),
        with("cols", json!(70000)),
    ];
    for wanted in wanted.map(|wanted| wanted.to_string()).iter().chain(&["{".to_string()]) {
        let answer = server.ask_as_page("POST", "/live/terminals", wanted);
        assert!([400, 404, 422].contains(&answer.status), "{wanted}: {}", answer.head);
        nothing_was_started(server, wanted);
    }
}

fn a_body_has_an_end(server: &Server) {
    let long = format!("{{\"page\":\"{}\"}}", "x".repeat(1 << 20));
    let answer = server.ask_as_page("POST", "/live/terminals", &long);
    assert!([0, 413].contains(&answer.status), "{}", answer.head); // 0: reset while we sent it
    let head = ("X", &*"x".repeat(1 << 20));
    let answer = server.ask("GET", "/", &[head], "");
    assert!([0, 431].contains(&answer.status), "{}", answer.head);
    nothing_was_started(server, "a long body");
}

fn every_answer_tells_the_browser_what_it_may_not_do(server: &Server) {
    let headers = [
        "x-frame-options: DENY",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ];
    for (path, status) in [("/", 200), ("/none", 404), ("/live/terminals", 401), ("/open/x", 403)] {
        let answer = server.ask("GET", path, &[], "");
        assert_eq!(answer.status, status, "{path}: {}", answer.head);
        for header in headers {
            assert!(answer.head.contains(header), "{path} lacks {header}: {}", answer.head);
        }
        let policy = answer.head.lines().find_map(|line| {
            line.strip_prefix("content-security-policy: ") // of scripts and frames
        });
        let policy = policy.expect("a policy");
        let scripts = policy.split("; ").find(|part| part.starts_with("script-src "));
        let scripts = scripts.expect("of scripts");
        assert_eq!(scripts, "script-src 'self'");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

fn frames_that_are_none_end_the_connection_alone(server: &Server) {
    let id = server.run("uts-demo", "shell");
    server.show(&id).until(PROMPT);
    let long_ping = [b"\x89\xfe\x01\x00".as_slice(), &[0; 4 + 256]].concat();
    let frames: [(&str, &[u8]); 5] = [
        ("not masked", b"\x82\x01a"),
        ("of no kind", b"\x83\x80\0\0\0\0"),
        ("with a reserved bit", b"\xc2\x80\0\0\0\0"),
        ("longer than anything", b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
        ("a long ping", &long_ping),
    ];
    for (what, bytes) in frames {
        let mut page = server.show(&id);
        page.socket.get_mut().write_all(bytes).expect("it reads");
        assert_eq!(page.closed(), 1002, "{what}");
    }
    let messages = [
        (Message::binary(vec![b'x'; 65 * 1024]), 1002),
        (Message::text("{"), 1007),
        (Message::text(r#"{"run":"sh"}"#), 1007),
        (Message::text(r#"{"size":[0,24]}"#), 1008),
        (Message::text(r#"{"size":[65536,24]}"#), 1007),
        (Message::text(r#"{"seen":-1}"#), 1007),
    ];
    for (message, code) in messages {
        let mut page = server.show(&id);
        page.socket.send(message.clone()).expect("it reads");
        assert_eq!(page.closed(), code, "{message:?}");
    }
    let mut page = server.show(&id);
    page.said.clear();
    page.types("echo $((6 * 7))\r");
    page.until("42\r\n");
    page.types("exit\r");
    page.end();
}

/// What cargo adds to it comes later.
fn the_environment_is_a_list(server: &Server) {
    let mut page = server.show(&server.run("uts-demo", "shell"));
    page.until(PROMPT);
    let keeper = server.descendants()[0];
    let environment = fs::read_to_string(format!("/proc/{keeper}/environ")).expect("UTF-8");
    let known = ["PATH", "HOME", "USER", "SHELL", "LANG", "TMPDIR", "TERM", "GUEST_KERNEL"];
    let starts = ["CARGO_", "RUSTUP_", "XDG_"];
    for variable in environment.split_terminator('\0') {
        let name = variable.split('=').next().expect("a name");
        let is_known = known.contains(&name) || starts.iter().any(|start| name.starts_with(start));
        assert!(is_known, "{variable}");
    }
    for wanted in ["TERM=xterm-256color\0", "GUEST_KERNEL=/a/kernel\0"] {
        assert!(environment.contains(wanted), "{environment}");
    }
    page.types("env | grep -c NOT_ON_THE_LIST\r");
    page.until("\r\n0\r\n");
    page.types("exit\r");
    page.end();
}

/// Everybody can read the arguments of every process; what a process prints may be kept.
fn no_argument_has_a_secret(server: &Server) {
    let id = server.run("uts-demo", "shell");
    let mut page = server.show(&id);
    page.until(PROMPT);
    let secrets = [server.path.rsplit('/').next(), server.cookie.rsplit('=').next()];
    let secrets = secrets.map(|secret| secret.expect("a secret"));
    for pid in server.descendants().into_iter().chain([server.process.id()]) {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{pid} {file}: {text}");
        }
    }
    page.types("exit\r");
    page.end();
}

fn a_terminal_too_many_is_refused(server: &Server) {
    // They wait for Enter. Nobody looks at them, so they end by themselves, or we end them.
    let start = || server.ask_as_page("POST", "/live/terminals", RUN);
    let answers: Vec<_> = (0..64).map(|_| start()).collect();
    assert!(answers.iter().all(|answer| answer.status == 201));
    let before = server.files().1;
    assert_eq!((start().status, server.files().1), (429, before));
    for answer in answers {
        let id = answer.json()["id"].as_str().expect("an id").to_string();
        let gone = server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "").status;
        assert!([204, 404].contains(&gone), "{gone}");
    }
    nothing_was_started(server, "once they are ended");
}

fn has_not_grown(server: &Server, before: u64) {
    let grown = memory(server.process.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "it has grown by {grown} KiB");
}

#[test]
fn it_stands_what_a_crowd_does() {
    let server = Server::start();
    let (files, before) = (server.files().0, memory(server.process.id()));
    a_thousand_connections_leave_room(&server, files);
    who_sends_slowly_is_cut_off(&server);
    nothing_is_lost_of_much(&server, before);
    who_types_more_than_is_read_is_left(&server);
    who_reads_nothing_makes_the_program_wait(&server, before);
    until("nothing leaks", || server.files().0 <= files && server.descendants().is_empty());
}

fn a_thousand_connections_leave_room(server: &Server, files: usize) {
    let idle: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    let start = Instant::now();
    assert_eq!(server.ask_as_page("GET", "/live/terminals", "").status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // It closes them itself, for they say nothing.
    let time = until("they are closed", || server.files().0 <= files);
    assert!(time < Duration::from_secs(20), "{time:?}");
    drop(idle);
}

fn who_sends_slowly_is_cut_off(server: &Server) {
    let starts = [
        "GET / HTTP/1.1\r\nHost: ".to_string(),
        format!(
            "POST /live/terminals HTTP/1.1\r\nHost: {}\r\nOrigin: {}\r\nCookie: {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            server.host(),
            server.origin(),
            server.cookie
        ),
    ];
    for said in starts {
        let mut stream = server.connect();
        stream.write_all(said.as_bytes()).expect("it reads");
        let (start, mut answer) = (Instant::now(), Vec::new());
        let _ = stream.read_to_end(&mut answer); // closed, or reset
        assert!(start.elapsed() < DEADLINE / 2, "it is still open");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

const MUCH: usize = 100_000_000;

/// At 16 MiB in a second that takes 5.96 s, and without that limit less.
const TIME: Duration = Duration::from_millis(5900);

fn printing_much(server: &Server) -> Page {
    let mut page = server.show(&server.run("uts-demo", "shell"));
    page.until(PROMPT);
    page.types(&format!("head -c {MUCH} /dev/zero | tr '\\0' x; echo; echo $((6 * 7))\r"));
    page.until("\r\n"); // the echo
    page
}

fn nothing_is_lost_of_much(server: &Server, before: u64) {
    let start = Instant::now();
    let mut page = printing_much(server);
    let mut count = 0;
    while !page.text().contains("42\r\n") {
        count += page.said.iter().filter(|byte| **byte == b'x').count();
        page.said.clear();
        assert_eq!(page.next(), Next::Said);
    }
    count += page.said.iter().filter(|byte| **byte == b'x').count();
    assert_eq!(count, MUCH);
    assert!(start.elapsed() >= TIME, "faster than it may: {:?}", start.elapsed());
    has_not_grown(server, before);
    page.types("exit\r");
    page.end();
}

/// The kernel takes some of it, in the place of a program that reads nothing.
fn who_types_more_than_is_read_is_left(server: &Server) {
    let id = server.run("uts-demo", "shell");
    let mut page = server.show(&id);
    page.until(PROMPT);
    page.types("sleep 1000\r");
    page.until("\r\n");
    let lines = "x\r".repeat(16 * 1024);
    let send = |_: &u32| page.socket.send(Message::binary(lines.clone())).is_ok();
    assert_ne!((0..18).take_while(send).count(), 0);
    assert_eq!(page.closed(), 1009);
    assert_eq!(server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "").status, 204);
}

fn who_reads_nothing_makes_the_program_wait(server: &Server, before: u64) {
    let mut deaf = printing_much(server);
    deaf.sees = false;
    // It reads what is on its way. Then nothing comes any more.
    deaf.socket.get_mut().set_read_timeout(Some(Duration::from_secs(2))).expect("a time");
    let mut came = deaf.said.len();
    while let Ok(message) = deaf.socket.read() {
        came += message.len();
    }
    assert!(came <= 300 * 1024, "{came} bytes came that nobody had seen");
    let start = Instant::now();
    assert_eq!(server.ask("GET", "/", &[], "").status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    has_not_grown(server, before);
    let id = server.terminals()[0]["id"].as_str().expect("an id").to_string();
    assert_eq!(server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "").status, 204);
}

#[test]
fn root_is_asked_for_more_than_a_start() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tried: what root is refused, for we are not root");
        return;
    }
    let server = Server::start_with(&[], &[]);
    assert_eq!(server.path, "/");
    for (method, path) in LIVE {
        let answer = server.ask(method, path, &[("Origin", &*server.origin())], RUN);
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.head);
        assert!(answer.body.contains("root"), "{}", answer.body);
    }
    nothing_was_started(&server, "as root");
}

/// `--open` gives the browser a file that only its owner can read, and takes it away afterwards.
#[test]
fn the_browser_is_told_the_address_in_private() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("opener");
    fs::create_dir_all(&folder).expect("a folder");
    let (opener, told) = (folder.join("xdg-open"), folder.join("told"));
    let script = "#!/bin/sh\n{ echo \"$#\"; echo \"$1\"; stat -c %a \"$1\"; cat \"$1\"; } > \"$0.new\"\n\
                  mv \"$0.new\" \"${0%/*}/told\"\n";
    fs::write(&opener, script).expect("written");
    fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).expect("its mode");
    let _ = fs::remove_file(&told); // of another time
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a PATH"));
    let mut server = Server::start_with(&["--allow-root", "--open"], &[("PATH", &path)]);
    until("it is opened", || told.exists());
    let told = fs::read_to_string(&told).expect("written");
    let lines: Vec<_> = told.lines().collect();
    let (count, file, mode) = (lines[0], lines[1], lines[2]);
    assert_eq!((count, mode), ("1", "600"), "{told}");
    let address = format!("url=http://{}{}", server.host(), server.path);
    assert!(told.contains(&address), "{told}");
    assert!(!file.contains(&server.path[6..]), "{file}");
    server.interrupt();
    assert!(server.process.wait().expect("it ends").success());
    assert!(!Path::new(file).exists());
}

/// What is random is not the same twice.
#[test]
fn no_two_servers_have_the_same_secrets() {
    let servers = [Server::start(), Server::start()];
    let paths: HashSet<_> = servers.iter().map(|server| &server.path).collect();
    let secrets = servers.iter().map(|server| server.cookie.split_once('=').expect("a pair").1);
    assert_eq!((paths.len(), secrets.collect::<HashSet<_>>().len()), (2, 2));
}

/// The book's page on this promises nothing that is not tried here or beside.
#[test]
fn the_page_on_this_names_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(folder.join("../src/live.md")).expect("the page");
    let tests = ["safe", "live", "served"];
    let read = |name| fs::read_to_string(folder.join(format!("tests/{name}.rs")));
    let tests: String = tests.map(|name| read(name).expect("a test")).concat();
    let named = page.lines().filter_map(|line| line.trim().strip_prefix("<!-- tried: "));
    let named: Vec<_> = named.map(|name| name.trim_end_matches(" -->")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "{name} is no test");
    }
    let items = page.split("\n- ").skip(1).filter(|item| !item.contains("<!-- tried: "));
    assert_eq!(items.collect::<Vec<_>>(), Vec::<&str>::new(), "not tried");
}
