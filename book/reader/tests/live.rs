//! The terminals of `cargo book`, as a page has them: what runs there, and that nothing stays.

mod server;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Instant;

use serde_json::json;
use server::{DEADLINE, Next, PROMPT, Page, Server, alive, until};
use workbook::contents;

/// One server for most: to build the book is most of the work.
#[test]
fn terminals_from_their_start_to_their_end() {
    let server = Server::start();
    a_lesson_prints_what_it_prints_anywhere(&server);
    a_shell_stands_inside(&server);
    it_has_the_size_of_the_page(&server);
    letters_come_as_they_are(&server);
    ctrl_c_ends_what_runs_and_not_the_terminal(&server);
    a_page_that_comes_back_finds_what_was_said(&server);
    the_newest_page_has_it(&server);
    a_page_that_talks_on_hears_the_end(&server);
    delete_ends_whatever_was_started_there(&server);
    without_a_page_it_ends(&server);
    a_step_is_checked(&server);
    an_answer_is_kept(&server);
    the_pages_follow_their_sources(&server);
    assert_eq!(server.terminals(), Vec::<serde_json::Value>::new());
}

fn a_lesson_prints_what_it_prints_anywhere(server: &Server) {
    let mut page = server.show(&server.run("pid-demo", "plain"));
    assert_eq!(page.end(), json!(0));
    assert_eq!(page.closed(), 1000);
    let said = without_colours(&page.text());
    let snapshot = contents::root().join("tests/snapshots/pid-demo.snap");
    let snapshot = fs::read_to_string(snapshot).expect("its transcript");
    let claims = snapshot.lines().filter(|line| line.starts_with("holds"));
    let claims: Vec<_> = claims.collect();
    let printed: Vec<_> = said.lines().filter(|line| line.starts_with("holds")).collect();
    assert_eq!(printed, claims, "{said}");
    let first = said.lines().find(|line| line.starts_with("inside   getpid()"));
    assert!(first.is_some_and(|line| line.ends_with(" = 1")), "{said}");
}

/// Without the escape sequences that set a style.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_string();
    first + &parts.filter_map(|part| Some(part.split_once('m')?.1)).collect::<String>()
}

fn shell(server: &Server) -> (String, Page) {
    let id = server.run("uts-demo", "shell");
    let mut page = server.show(&id);
    page.until(PROMPT);
    (id, page)
}

/// Types a command into the shell: what it prints.
fn command(page: &mut Page, command: &str) -> String {
    page.types(&format!("{command}\r"));
    page.until("\r\n"); // the echo
    page.until(PROMPT).replace(PROMPT, "").replace("\r\n", "\n")
}

fn leave(mut page: Page) {
    page.types("exit\r");
    assert_eq!(page.end(), json!(0));
    assert_eq!(page.closed(), 1000);
}

fn a_shell_stands_inside(server: &Server) {
    let outside = fs::read_link("/proc/self/ns/uts").expect("our own");
    let (_, mut page) = shell(server);
    let inside = command(&mut page, "readlink /proc/self/ns/uts");
    assert!(inside.starts_with("uts:["), "{inside}");
    assert_ne!(inside.trim(), outside.display().to_string());
    assert_eq!(command(&mut page, "hostname of-the-page; hostname"), "of-the-page\n");
    let here = nix::unistd::gethostname().expect("a name");
    assert_ne!(here, "of-the-page");
    leave(page);
}

fn it_has_the_size_of_the_page(server: &Server) {
    let (_, mut page) = shell(server);
    assert_eq!(command(&mut page, "stty size"), "24 80\n");
    page.tell(&json!({ "size": [132, 43] })).expect("it listens");
    assert_eq!(command(&mut page, "stty size"), "43 132\n");
    leave(page);
}

fn letters_come_as_they_are(server: &Server) {
    let (_, mut page) = shell(server);
    assert_eq!(command(&mut page, "echo grüße 容器 👋"), "grüße 容器 👋\n");
    leave(page);
}

fn ctrl_c_ends_what_runs_and_not_the_terminal(server: &Server) {
    let (_, mut page) = shell(server);
    // Who says it is the one that gets the signal: the shell has given it the terminal.
    page.types("sh -c 'echo go; echo on; exec sleep 1000'\r");
    page.until("go\r\non\r\n");
    page.types("\x03");
    page.until(PROMPT);
    assert_eq!(command(&mut page, "echo $?"), "130\n");
    leave(page);
}

fn a_page_that_comes_back_finds_what_was_said(server: &Server) {
    let (id, mut page) = shell(server);
    command(&mut page, "echo before $((6 * 7))");
    drop(page);
    let live = server.terminals();
    let expected = json!({ "id": id, "lesson": "uts-demo", "run": "shell", "page": "/x.html" });
    assert_eq!(live, [expected]);
    let mut page = server.show(&id);
    page.until("before 42\r\n");
    page.until(PROMPT);
    assert_eq!(command(&mut page, "echo after $((6 * 7))"), "after 42\n");
    leave(page);
}

fn the_newest_page_has_it(server: &Server) {
    let (id, mut first) = shell(server);
    let mut second = server.show(&id);
    second.until(PROMPT);
    assert_eq!(first.closed(), 4001);
    assert_eq!(command(&mut second, "echo $((6 * 7))"), "42\n");
    leave(second);
}

/// One has left the session, one hears no hangup, one has lost its parents.
const STAYERS: &str = "setsid sleep 7001 & (trap '' HUP; sleep 7002 & sleep 7003) & \
                       (setsid sh -c 'trap \"\" HUP TERM; sleep 7004 & sleep 7005' &) ; echo started";

fn with_stayers(server: &Server) -> (String, Page, Vec<u32>) {
    let (id, mut page) = shell(server);
    page.types(&format!("{STAYERS}\r"));
    page.until("started\r\n"); // the echo
    page.until("started\r\n");
    let sleeps = |server: &Server| {
        let all = server.descendants();
        let is_sleep = |pid: &&u32| workbook::proc::comm(pid).is_ok_and(|comm| comm == "sleep");
        (all.iter().filter(is_sleep).count(), all)
    };
    until("five sleep", || sleeps(server).0 == 5);
    let (_, all) = sleeps(server);
    (id, page, all)
}

fn delete_ends_whatever_was_started_there(server: &Server) {
    let (id, mut page, all) = with_stayers(server);
    let answer = server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "");
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(alive(&all), Vec::<u32>::new());
    assert_eq!(page.end(), json!("SIGHUP"));
    let answer = server.ask_as_page("DELETE", &format!("/live/terminals/{id}"), "");
    assert_eq!(answer.status, 404);
}

fn without_a_page_it_ends(server: &Server) {
    let (_, page, all) = with_stayers(server);
    drop(page);
    let time = until("it ends", || server.terminals().is_empty());
    assert!(time.as_secs() >= 9, "a page that is loaded again finds it: {time:?}");
    assert_eq!(alive(&all), Vec::<u32>::new());
}

fn a_step_is_checked(server: &Server) {
    let wanted = json!({ "step": "pid", "page": "/your-turn.html", "cols": 80, "rows": 24 });
    let mut page = server.show(&server.start_terminal(&wanted));
    page.until("check --step pid");
    page.end(); // passed, not yet, or no package: that is the reader's
}

fn an_answer_is_kept(server: &Server) {
    let chapter = contents::root().join("book/src/pid-demo.md");
    let chapter = fs::read_to_string(chapter).expect("the chapter");
    let asked = exercises::questions::questions("pid-demo", &chapter).expect("questions");
    let right = book_reader::questions::right("pid-demo/1").expect("one is right") + 1;
    for option in 1..=asked[0].options.len() {
        let said = json!({ "question": "pid-demo/1", "option": option }).to_string();
        let answer = server.ask_as_page("POST", "/live/answers", &said);
        assert_eq!(answer.json(), json!({ "right": option == right }));
        let kept = server.state.join("starting-with-linux-containers/progress");
        let kept = fs::read_to_string(kept).expect("it is kept");
        let expected = if option == right { "right pid-demo/1" } else { "wrong pid-demo/1" };
        assert_eq!(kept.lines().last(), Some(expected));
    }
    for question in ["pid-demo/99", "pid-demo/0", "no-demo/1", "../pid-demo/1"] {
        let said = json!({ "question": question, "option": 1 }).to_string();
        assert_eq!(server.ask_as_page("POST", "/live/answers", &said).status, 404, "{question}");
    }
}

/// A page is open all the time. What the shell prints after three seconds is the last that happens.
#[test]
fn in_which_nothing_happens_for_long_it_ends() {
    const IDLE: u64 = 8;
    leave(shell(&Server::start()).1); // from here on it is built, which may be silent for longer
    let server = Server::start_and_enter(&["--idle", &IDLE.to_string()]);
    let (_, mut page) = shell(&server);
    let start = Instant::now();
    page.types("sleep 3; echo $((6 * 7))\r");
    page.until("\r\n42\r\n");
    let all = server.descendants();
    assert_eq!(page.end(), json!("the server: nothing was typed or printed for 8 s"));
    assert!(start.elapsed().as_secs() >= 3 + IDLE, "{:?}", start.elapsed());
    assert_eq!(alive(&all), Vec::<u32>::new());
}

/// Until it has heard of the end it may talk. A browser whose word is refused throws away what it has
/// not read yet, and would never know how the run has ended.
fn a_page_that_talks_on_hears_the_end(server: &Server) {
    let (_, mut page) = shell(server);
    page.types("exit\r");
    until("it has ended", || server.terminals().is_empty());
    for _ in 0..100 {
        page.tell(&json!({ "seen": 0 })).expect("it listens still");
    }
    assert_eq!(page.end(), json!(0));
}

/// An editor that saves closes a file that it could write to.
fn the_pages_follow_their_sources(server: &Server) {
    let mut stream = server.connect();
    let (host, cookie) = (server.host(), &server.cookie);
    let request = format!("GET /live/changed HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads the request");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it goes on"));
    assert!(lines.any(|line| line == "content-type: text/event-stream"));
    assert!(lines.any(|line| line.starts_with("data: "))); // how often so far
    let chapter = contents::root().join("book/src/glossary.md");
    drop(fs::File::options().append(true).open(chapter).expect("our own"));
    let start = Instant::now();
    let is_told = |line: String| {
        assert!(start.elapsed() < DEADLINE, "nothing but signs of life");
        line.starts_with("data: ")
    };
    assert!(lines.any(is_told));
    assert_eq!(server.ask("GET", "/glossary.html", &[], "").status, 200);
}

#[test]
fn nothing_survives_a_server_that_is_killed() {
    let mut server = Server::start();
    let (_, _page, all) = with_stayers(&server);
    server.process.kill().expect("it is ours");
    server.process.wait().expect("it ends");
    until("all are gone", || alive(&all).is_empty());
}

#[test]
fn nothing_survives_ctrl_c() {
    let mut server = Server::start();
    let (_, mut page, all) = with_stayers(&server);
    server.interrupt();
    assert!(server.process.wait().expect("it ends").success());
    assert_eq!(alive(&all), Vec::<u32>::new());
    assert_eq!(page.end(), json!("SIGHUP"));
    assert!(matches!(page.next(), Next::Closed(_)));
}
