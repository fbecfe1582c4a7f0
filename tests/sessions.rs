//! Lessons in a real terminal, typed at as a reader would: `--shell` and `--step`.
//!
//! An accepted session, tests/snapshots/NAME@shell.snap, is its own script: what is typed is what
//! stands there behind a prompt. To accept another, write its prompts and commands there and run
//! `INSTA_UPDATE=always cargo test --test sessions`.

mod accepted;
mod census;
mod host;
mod lessons;
mod normal;
mod terminal;

use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use accepted::assert_accepted;
use census::Census;
use host::User;
use terminal::Pty;
use workbook::contents;

const USERS: [User; 2] = [User::Root, User::Ordinary];
const PROMPT: &str = "[outside] $ ";
const LENT: &str = "A shell, inside.";

struct Terminal {
    pty: Pty,
    before: Census,
}

impl Terminal {
    fn new(mut command: Command, user: User) -> Self {
        let before = Census::take(contents::root());
        command.env("LC_ALL", "C").env("XDG_STATE_HOME", lessons::STATE);
        host::run_as(&mut command, user);
        Self { pty: Pty::start(command).expect("a terminal"), before }
    }

    /// The reader's own shell, which finds the lessons; `shell` is the one that they shall find.
    fn with_a_shell(shell: &str, user: User) -> Self {
        let lessons = lessons::program("").display().to_string();
        let path = format!("{lessons}:{}", env::var("PATH").expect("a PATH"));
        let mut command = Command::new("/bin/sh");
        command.arg("-i").env("PATH", path).env("SHELL", shell).env("PS1", PROMPT);
        command.env("TERM", "dumb").env_remove("CI"); // no colour
        command.env_remove("ENV").env_remove("PROMPT_COMMAND");
        let mut terminal = Self::new(command, user);
        terminal.pty.until(PROMPT);
        terminal
    }

    fn enter(&mut self, line: &str) {
        self.pty.send(&format!("{line}\n"));
    }

    /// What a command prints, until this prompt.
    fn run(&mut self, command: &str, prompt: &str) -> String {
        self.enter(command);
        let printed = self.pty.until(prompt);
        let echo = format!("{command}\n"); // of shells that edit the line
        printed.strip_prefix(&echo).map_or(printed.clone(), str::to_string)
    }

    /// Waits for its end, looks at the host, gives the rest of what was printed.
    fn end(self, what: &str) -> String {
        let (status, rest) = self.pty.end();
        assert!(status.success(), "{what}: {status} after {rest}");
        self.before.assert_same_within(Duration::ZERO, what);
        rest
    }
}

fn inside(lesson: &str) -> String {
    format!("[inside {lesson}] $ ")
}

/// An accepted session: its lesson, and for each prompt the whole line and what came after it.
struct Script {
    name: String,
    lesson: String,
    turns: Vec<(String, String)>,
}

fn scripts() -> Vec<Script> {
    let folder = contents::root().join("tests/snapshots");
    let (mut scripts, here) = (Vec::new(), lessons::here());
    for file in fs::read_dir(folder).expect("tests/snapshots is a folder") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let Some((lesson, _)) = name.split_once("@shell") else { continue };
        if !here.iter().any(|name| name == lesson) {
            continue;
        }
        let (lesson, mut turns) = (lesson.to_string(), Vec::<(String, String)>::new());
        for line in fs::read_to_string(&path).expect("UTF-8").lines() {
            if line.starts_with("$ ") || line.starts_with(&inside(&lesson)) {
                turns.push((line.to_string(), String::new()));
            } else if let Some((_, printed)) = turns.last_mut() {
                *printed += &format!("{line}\n");
            }
        }
        scripts.push(Script { name, lesson, turns });
    }
    scripts
}

impl Script {
    /// The prompt of this turn. After the last one the reader is outside.
    fn prompt(&self, turn: usize) -> String {
        let is_inside = self.turns.get(turn).is_some_and(|(line, _)| !line.starts_with("$ "));
        if is_inside { inside(&self.lesson) } else { PROMPT.to_string() }
    }

    /// Types it, and writes down what a reader sees. The run above the shell is known: `...`.
    fn replay(&self, user: User) -> String {
        let mut terminal = Terminal::with_a_shell("/bin/sh", user);
        let (mut seen, mut missing) = (String::new(), false);
        for (turn, (line, accepted)) in self.turns.iter().enumerate() {
            let typed = line.split_once("$ ").expect("a prompt").1;
            let command = typed.trim_start_matches("cargo run --bin ").replacen(" -- ", " ", 1);
            let printed = terminal.run(&command, &self.prompt(turn + 1));
            let shown = match printed.split_once(LENT) {
                Some((_, rest)) => format!("...\n{LENT}{rest}"),
                // Without CI a tool may be missing: the lessons themselves need none. What comes
                // after it may depend on it.
                None => {
                    let lacks = lessons::lacks_a_tool(printed.as_bytes());
                    missing |=
                        lacks && env::var_os("CI").is_none() && !accepted.contains(&*printed);
                    if missing { accepted.clone() } else { printed }
                }
            };
            seen += &format!("{line}\n{shown}");
        }
        if missing {
            eprintln!("not tried in full, a tool is missing: {}", self.name);
        }
        terminal.enter("exit 0");
        terminal.end(&self.name);
        normal::session(&seen)
    }
}

#[test]
fn a_shell_inside_shows_the_accepted_session() {
    let _turn = census::turn();
    for script in scripts() {
        for user in USERS {
            assert_accepted(&script.name, &script.replay(user));
        }
    }
}

/// The lessons share what is tested here; these two differ in whether the shell is PID 1 of a
/// namespace, where the terminal's old foreground group has no number.
const TWO: [&str; 2] = ["uts-demo", "pid-demo"];

/// A shell that has the terminal may do as it likes with it.
#[test]
fn the_terminal_comes_back_however_the_shell_left_it() {
    let _turn = census::turn();
    for lesson in TWO {
        let mut terminal = Terminal::with_a_shell("/bin/sh", User::Ordinary);
        let modes = terminal.run("stty -g", PROMPT);
        terminal.run(&format!("{lesson} --shell"), &inside(lesson));
        terminal.enter("cat");
        terminal.enter("who reads this is cat");
        terminal.pty.until("cat\n");
        terminal.pty.send("\x03"); // Ctrl-C
        terminal.pty.until(&inside(lesson));
        terminal.run("stty raw -echo; exit", PROMPT);
        assert_eq!(terminal.run("stty -g", PROMPT), modes, "{lesson}");
        terminal.enter("exit 0");
        terminal.end(lesson);
    }
}

#[test]
fn a_shell_that_does_not_exist_is_named_and_replaced() {
    let _turn = census::turn();
    for lesson in TWO {
        let mut terminal = Terminal::with_a_shell("/no/such/shell", User::Ordinary);
        let printed = terminal.run(&format!("{lesson} --shell"), &inside(lesson));
        let said = "SHELL is /no/such/shell, which cannot be run (No such file or directory";
        assert!(printed.contains(said) && printed.contains("here is /bin/sh"), "{printed}");
        assert!(terminal.run("exit", PROMPT).is_empty());
        terminal.enter("exit 0");
        terminal.end(lesson);
    }
}

/// Enter for each observation, and what is printed in the end is what is printed without.
#[test]
fn step_waits_for_enter_before_each_observation() {
    let _turn = census::turn();
    for lesson in lessons::here() {
        // Without namespaces it is the same for both.
        let users = if lessons::makes_namespaces(&lesson) { &USERS[..] } else { &USERS[1..] };
        for &user in users.iter().filter(|_| !lessons::needs_root(&lesson)) {
            let mut command = lessons::command(&lesson);
            let plain = host::run_as(&mut command, user).output().expect("the lesson starts");
            let plain = String::from_utf8(plain.stdout).expect("UTF-8");

            let mut command = lessons::command(&lesson);
            command.arg("--step").env("NO_COLOR", "1");
            let mut terminal = Terminal::new(command, user);
            let mut printed = String::new();
            let steps = normal::observations(&plain);
            for step in 0..steps {
                printed += &terminal.pty.until("[Enter] ");
                assert_eq!(normal::observations(&printed), step, "{printed}");
                terminal.enter("");
            }
            let rest = terminal.end(&lesson);
            assert!(!rest.contains("[Enter]"), "{rest}");
            printed += &rest;
            assert_eq!(normal::transcript(&printed), normal::transcript(&plain), "{lesson}");
        }
    }
}

/// Colour is for a terminal that has it and a reader who wants it, and never says anything alone.
#[test]
fn colour_only_where_it_is_wanted() {
    let _turn = census::turn();
    let lesson = TWO[0];
    let terminals = [("TERM=xterm", true), ("TERM=dumb", false), ("NO_COLOR=1", false)];
    let [coloured, dumb, plain] = terminals.map(|(setting, coloured)| {
        let (name, value) = setting.split_once('=').expect("a name and a value");
        let mut command = lessons::command(lesson);
        command.env_remove("CI").env("TERM", "xterm").env(name, value);
        let printed = Terminal::new(command, User::Ordinary).end(setting);
        assert_eq!(printed.contains('\x1b'), coloured, "{setting}: {printed}");
        normal::transcript(&without_escapes(&printed))
    });
    assert_eq!(dumb, plain);
    assert_eq!(coloured, plain);
}

/// Without the sequences that set a colour: ESC, `[`, numbers, `m`.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_string();
    first + &parts.filter_map(|part| part.split_once('m')).map(|(_, rest)| rest).collect::<String>()
}
