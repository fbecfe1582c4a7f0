//! Progress is kept in the reader's own file, whatever is there already; and no run fails for it.

mod host;
mod lessons;
mod terminal;

use std::path::PathBuf;
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

use terminal::Pty;

const FIRST: &str = "workbook progress 1";

/// A state folder of a test's own.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let name = format!("progress-{}-{}", id(), NTH.fetch_add(1, Ordering::Relaxed));
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// With a file that says this.
    fn with(text: &str) -> Self {
        let state = Self::new();
        fs::create_dir_all(state.folder()).expect("a folder");
        fs::write(state.folder().join("progress"), text).expect("a file");
        state
    }

    fn folder(&self) -> PathBuf {
        self.0.join("starting-with-linux-containers")
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder().join("progress")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    /// What a program prints, its standard error too.
    fn on_a_terminal(&self, command: Command) -> String {
        let (status, said) = Pty::start(self.own(command)).expect("a terminal").end();
        assert!(status.success(), "{status}: {said}");
        said
    }

    fn own(&self, mut command: Command) -> Command {
        command.env("XDG_STATE_HOME", &self.0);
        command
    }

    fn workbook(&self, arguments: &[&str]) -> Output {
        let mut command = self.own(lessons::command("workbook"));
        command.args(arguments).output().expect("the workbook starts")
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_lesson_that_somebody_has_seen_is_noted_once() {
    let state = State::new();
    let pid_demo = || lessons::command("pid-demo");
    assert!(state.own(pid_demo()).output().expect("it starts").status.success());
    assert!(!state.0.exists(), "nobody saw it");
    let mut without = lessons::command("ps-demo");
    without.args(["--without", "proc-mount"]);
    state.on_a_terminal(without);
    assert!(!state.0.exists(), "it was a control experiment");
    for _ in 0..2 {
        state.on_a_terminal(pid_demo());
        assert_eq!(state.lines(), [FIRST, "ran pid-demo"]);
    }
    let said = text(&state.workbook(&[]).stdout);
    assert!(said.contains("done    pid-demo"), "{said}");
    assert!(said.contains("\nYou: lessons run: 1.\n"), "{said}");
}

#[test]
fn ten_at_once_lose_nothing() {
    let state = State::new();
    let names = ["uts", "mount", "pid", "ps", "net", "user", "clone", "unshare", "ipc", "init"];
    let names = names.map(|name| format!("{name}-demo"));
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| state.on_a_terminal(lessons::command(name)));
        }
    });
    let lines = state.lines();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert!(names.iter().all(|name| lines.contains(&format!("ran {name}"))), "{lines:?}");
}

#[test]
fn a_damaged_or_newer_file_is_set_aside() {
    for strange in
        ["workbook progress 2\nran uts-demo\n", "\0\u{1}\n", "workbook progress 1\nodd\n"]
    {
        let state = State::with(strange);
        let greeting = state.workbook(&[]);
        assert!(text(&greeting.stderr).contains("progress was not read: "), "{greeting:?}");
        let said = state.on_a_terminal(lessons::command("pid-demo"));
        assert!(said.contains("progress.1"), "{said}");
        assert_eq!(state.lines(), [FIRST, "ran pid-demo"]);
        let aside = fs::read_to_string(state.folder().join("progress.1")).expect("it is there");
        assert_eq!(aside, strange);
    }
}

/// A full disk can cut the last line.
#[test]
fn a_cut_line_is_written_over() {
    let state = State::with("workbook progress 1\nran uts-demo\nran mou");
    let said = state.on_a_terminal(lessons::command("pid-demo"));
    assert!(!said.contains("progress"), "{said}");
    assert_eq!(state.lines(), [FIRST, "ran uts-demo", "ran pid-demo"]);
}

#[test]
fn where_it_cannot_be_kept_that_is_said() {
    let state = State::new();
    fs::create_dir_all(state.folder().join("progress")).expect("a folder, and no file");
    let said = state.on_a_terminal(lessons::command("pid-demo"));
    assert!(said.contains("progress was not kept: read("), "{said}");

    let state = State::new();
    fs::write(&state.0, "").expect("a file, and no folder");
    let said = state.on_a_terminal(lessons::command("pid-demo"));
    assert!(said.contains("progress was not kept: mkdir("), "{said}");
    fs::remove_file(&state.0).expect("it was there");
}

/// A disk that has room for nothing more.
#[test]
fn a_full_disk_is_no_reason_to_fail() {
    let state = State::new();
    fs::create_dir_all(&state.0).expect("a folder");
    let script = "mount -t tmpfs -o nr_inodes=1 tmpfs \"$XDG_STATE_HOME\" && exec \"$0\"";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).arg(lessons::program("pid-demo"));
    host::run_as_root_of_a_shared_host(&mut shell);
    let said = state.on_a_terminal(shell);
    assert!(said.contains("progress was not kept: mkdir("), "{said}");
    assert!(said.contains("-1 ENOSPC"), "{said}");
}

#[test]
fn reset_asks_first_and_forgets_what_it_is_told_to() {
    let all = "workbook progress 1\nran pid-demo\nran uts-demo\nwrong pid-demo/1\npassed run\n";
    let state = State::with(all);
    let unasked = state.workbook(&["reset"]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert!(text(&unasked.stderr).contains("--yes"), "{unasked:?}");

    for (answer, left) in [("n\n", 5), ("\n", 5), ("y\n", 1)] {
        let mut reset = state.own(lessons::command("workbook"));
        reset.arg("reset");
        let mut pty = Pty::start(reset).expect("a terminal");
        pty.until("[y/N] ");
        pty.send(answer);
        assert!(pty.end().0.success());
        assert_eq!(state.lines().len(), left, "{answer:?}");
    }
    for (what, left) in [
        ("pid-demo", vec!["ran uts-demo", "passed run"]),
        ("lessons", vec!["wrong pid-demo/1", "passed run"]),
        ("answers", vec!["ran pid-demo", "ran uts-demo", "passed run"]),
        ("steps", vec!["ran pid-demo", "ran uts-demo", "wrong pid-demo/1"]),
    ] {
        let state = State::with(all);
        let output = state.workbook(&["reset", what, "--yes"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(state.lines()[1..], left, "{what}");
    }
    assert_eq!(state.workbook(&["reset", "nothing"]).status.code(), Some(2));
}
