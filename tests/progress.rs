//! Progress is kept in the reader's own file, whatever is there already; and no run fails for it.

mod host;
mod lessons;
mod terminal;

use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use terminal::Pty;

const FIRST: &str = "workbook progress 1";

/// A state folder of a test's own. It is in /tmp, which is root's: who makes a folder there need not
/// be.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        Self(env::temp_dir().join(format!("workbook-progress-{}-{nth}", id())))
    }

    /// With a file that says this.
    fn with(text: impl AsRef<[u8]>) -> Self {
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
    if !host::has("strace") {
        return;
    }
    let state = State::new();
    let names = ["uts", "mount", "pid", "ps", "net", "user", "clone", "unshare", "ipc", "init"];
    let names = names.map(|name| format!("{name}-demo"));
    thread::scope(|scope| {
        for name in &names {
            // Each waits between reading and writing, so that the next one is there, too.
            let delay = ["-qq", "-o", "/dev/null", "-e", "inject=ftruncate:delay_enter=50000"];
            let mut strace = Command::new("strace");
            strace.args(delay).arg(lessons::program(name));
            scope.spawn(|| state.on_a_terminal(strace));
        }
    });
    let lines = state.lines();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert!(names.iter().all(|name| lines.contains(&format!("ran {name}"))), "{lines:?}");
}

#[test]
fn a_damaged_or_newer_file_is_set_aside() {
    for strange in [
        &b"workbook progress 2\nran uts-demo\n"[..],
        b"\0\x01\n",
        b"workbook progress 1\nodd\n",
        b"workbook progress 1\nran \xff\n",
        b"a letter without an end",
    ] {
        let state = State::with(strange);
        let greeting = state.workbook(&[]);
        assert!(text(&greeting.stderr).contains("progress was not read: "), "{greeting:?}");
        let said = state.on_a_terminal(lessons::command("pid-demo"));
        assert!(said.contains("progress.1"), "{said}");
        assert_eq!(state.lines(), [FIRST, "ran pid-demo"]);
        let aside = fs::read(state.folder().join("progress.1")).expect("it is there");
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
    let state = State::with("workbook prog");
    state.on_a_terminal(lessons::command("pid-demo"));
    assert_eq!(state.lines(), [FIRST, "ran pid-demo"]);
}

/// At the call that would make the file shorter, and at the one that would replace it.
#[test]
fn who_is_killed_while_it_is_written_loses_nothing() {
    if !host::has("strace") {
        return;
    }
    let all = [FIRST, "ran uts-demo", "wrong pid-demo/1"];
    let state = State::with(all.join("\n") + "\n");
    let killed_at = |call: &str, program: &str, arguments: &[&str]| {
        let mut strace = state.own(Command::new("strace"));
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL")]);
        strace.arg(lessons::program(program)).args(arguments);
        let (status, said) = Pty::start(strace).expect("a terminal").end();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{said}");
        assert_eq!(state.lines(), all);
    };
    killed_at("ftruncate", "pid-demo", &[]);
    killed_at("rename", "workbook", &["reset", "lessons", "--yes"]);
    state.on_a_terminal(lessons::command("pid-demo"));
    assert_eq!(state.lines(), [&all[..], &["ran pid-demo"]].concat());
    assert!(state.workbook(&["reset", "lessons", "--yes"]).status.success());
    assert_eq!(state.lines(), [FIRST, "wrong pid-demo/1"]);
    let left = fs::read_dir(state.folder()).expect("a folder").count();
    assert_eq!(left, 1, "nothing is left of who was killed");
}

#[test]
fn where_it_cannot_be_kept_that_is_said() {
    let state = State::new();
    fs::create_dir_all(state.folder().join("progress")).expect("a folder, and no file");
    let said = state.on_a_terminal(lessons::command("pid-demo"));
    assert!(said.contains("progress = no regular file"), "{said}");

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

/// Root must not make files in a user's folder, and a user cannot in root's.
#[test]
fn a_folder_of_another_is_left_alone() {
    let state = State::new();
    let mut lesson = state.own(lessons::command("pid-demo"));
    let why = if geteuid().is_root() {
        fs::create_dir_all(&state.0).expect("a folder");
        chown(&state.0, Some(65534), None).expect("root gives it away");
        "of user 65534, and we are root"
    } else {
        lesson.env("XDG_STATE_HOME", "/usr");
        "-1 EACCES"
    };
    let (status, said) = Pty::start(lesson).expect("a terminal").end();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("progress was not kept: ") && said.contains(why), "{said}");
    assert!(!state.folder().exists());
}

/// Then it is that of the password database, if that has one.
#[test]
fn nobody_needs_a_home() {
    let state = State::new();
    fs::create_dir_all(&state.0).expect("a folder");
    for (nth, is_known) in [true, false].into_iter().enumerate() {
        let home = state.0.join(nth.to_string());
        fs::create_dir(&home).expect("a folder");
        let user = format!("root:x:0:0::{}:/bin/sh\n", home.display());
        fs::write(home.join("passwd"), if is_known { &*user } else { "" }).expect("a file");
        fs::write(home.join("nsswitch.conf"), "passwd: files\n").expect("a file");
        let script = "for file in passwd nsswitch.conf; do
                test ! -e /etc/$file || mount --bind \"$1/$file\" /etc/$file || exit
            done
            exec env --unset=HOME --unset=XDG_STATE_HOME \"$0\"";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).arg(lessons::program("pid-demo")).arg(&home);
        host::run_as_root_of_a_shared_host(&mut shell);
        let said = state.on_a_terminal(shell);
        let file = home.join(".local/state/starting-with-linux-containers/progress");
        assert_eq!(file.exists(), is_known, "{said}");
        assert_eq!(said.contains("progress was not kept: $HOME = nothing"), !is_known, "{said}");
    }
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
    for (what, count, left) in [
        ("pid-demo", "2 entries", vec!["ran uts-demo", "passed run"]),
        ("lessons", "2 entries", vec!["wrong pid-demo/1", "passed run"]),
        ("answers", "1 entry", vec!["ran pid-demo", "ran uts-demo", "passed run"]),
        ("steps", "1 entry", vec!["ran pid-demo", "ran uts-demo", "wrong pid-demo/1"]),
    ] {
        let state = State::with(all);
        let output = state.workbook(&["reset", what, "--yes"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout), format!("Forgotten: {what}, {count}.\n"));
        assert_eq!(state.lines()[1..], left, "{what}");
    }
    assert_eq!(state.workbook(&["reset", "nothing"]).status.code(), Some(2));
}

#[test]
fn the_greeting_says_how_far_somebody_is_and_what_comes_next() {
    let new = text(&State::new().workbook(&[]).stdout);
    assert!(!new.contains("\nYou: "), "{new}");
    assert!(new.contains("\nbuild   cargo run -- start "), "{new}");
    let next = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("next ")).expect("what is next");
        line.split_whitespace().nth(4).expect("a lesson").to_string()
    };
    let first = next(&new);

    let answers = "wrong pid-demo/1\nright pid-demo/1\nwrong pid-demo/2\nwrong pid-demo/2\n";
    let state = State::with(format!("{FIRST}\nran {first}\n{answers}passed run\npassed pid\n"));
    let said = text(&state.workbook(&[]).stdout);
    assert!(said.contains(&format!("\ndone    {first}")), "{said}");
    let so_far = "\nYou: lessons run: 1, predictions right: 1 of 2, steps passed: 2.\n";
    assert!(said.contains(so_far), "{said}");
    assert_ne!(next(&said), first);
    assert!(said.contains(" 1 that you missed come back\n"), "{said}");
    assert!(said.contains("\nbuild   cargo run -- check "), "{said}");
    for line in said.lines().skip_while(|line| !line.starts_with("You: ")) {
        assert!(line.len() <= 80, "{line}");
    }
}
