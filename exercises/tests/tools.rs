//! Real tools are taken through the steps: each with all that it has, and again with one option
//! left out, which must cost exactly the steps that the option is for. The book shows the table.

#[path = "../../tests/accepted/mod.rs"]
mod accepted;
#[path = "../../tests/host/mod.rs"]
mod host;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, thread};

use exercises::check::steps::STEPS;
use host::User;
use nix::unistd::geteuid;
use serde_json::Value;
use table::{LeftOut, TOOLS, Tool};

/// Who is asked at once.
const WORKERS: usize = 4;
const LIMITS: &str = "limits";

/// A tool as this user, with this left out of its words.
struct Run {
    tool: &'static Tool,
    user: User,
    left_out: Option<&'static LeftOut>,
}

impl Run {
    fn words(&self) -> Vec<String> {
        let without = self.left_out.map_or_else(
            || self.tool.words.to_string(),
            |left_out| exchanged(self.tool.words, left_out.out, left_out.instead),
        );
        let words = match self.user {
            User::Ordinary => exchanged(&without, self.tool.cgroup, ""),
            User::Root => without,
        };
        let demo = Path::new(env!("CARGO_BIN_EXE_exercises")).with_file_name("container-demo");
        let words = words.replace("target/debug/container-demo", &demo.to_string_lossy());
        words.split_whitespace().map(str::to_string).collect()
    }

    fn enter(&self) -> String {
        let namespace = self.left_out.map_or("", |left_out| left_out.namespace);
        exchanged(self.tool.enter, namespace, "")
    }

    /// What it must fail, by the table.
    fn fails(&self) -> Vec<&str> {
        let also = self.left_out.map_or("", |left_out| left_out.fails);
        self.tool.fails.split(' ').chain(also.split(' ')).collect()
    }

    /// What came of each step that could be checked here: is it passed?
    fn came(&self) -> BTreeMap<&'static str, bool> {
        let steps = STEPS.iter().filter(|step| {
            let without = self.user == User::Ordinary && !self.tool.cgroup.is_empty();
            !(without && step.name == LIMITS)
        });
        steps.filter_map(|step| Some((step.name, self.passes(step.name)?))).collect()
    }

    fn passes(&self, step: &str) -> Option<bool> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exercises"));
        command.args(["check", "--json", "--step", step, "--enter", &self.enter(), "--"]);
        command.args(self.words()).env("XDG_STATE_HOME", state()).stdin(Stdio::null());
        command.current_dir(workbook::contents::root());
        // Where Debian has runc, and an ordinary user does not look.
        let path = env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let output = host::run_as(&mut command, self.user).output().expect("it starts");
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        match answer["steps"][0]["outcome"].as_str() {
            Some("passed") => Some(true),
            Some("not yet") => Some(false),
            _ => None,
        }
    }

    /// What is not as the table says.
    fn wrong(&self) -> Vec<String> {
        let fails = self.fails();
        let came = self.came();
        let unlike = came.iter().filter(|(step, passed)| **passed == fails.contains(*step));
        let tell = |(step, passed): (&&str, &bool)| {
            let left_out = self.left_out.map_or("nothing", |left_out| left_out.out);
            let passed = if *passed { "is passed" } else { "is not passed" };
            format!("{} as {:?} without {left_out}: {step} {passed}", self.tool.name, self.user)
        };
        unlike.map(tell).collect()
    }
}

/// Words, with some of them exchanged for others.
fn exchanged(words: &str, out: &str, instead: &str) -> String {
    if out.is_empty() {
        return words.to_string();
    }
    let (words, out) = (format!(" {words} "), format!(" {out} "));
    assert_eq!(words.matches(&out).count(), 1, "{out} in {words}");
    words.replace(&out, &format!(" {instead} "))
}

/// A folder for the reader's progress that is not the reader's.
fn state() -> PathBuf {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    fs::create_dir_all(&state).expect("a folder");
    fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("our own");
    state
}

/// All that can be tried here: root's part only by root.
fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for tool in TOOLS.iter().filter(|tool| host::has(tool.program)) {
        let is_possible = |user: &User| match user {
            User::Root => geteuid().is_root(),
            User::Ordinary => !tool.is_for_root,
        };
        for user in [User::Root, User::Ordinary].into_iter().filter(is_possible) {
            runs.push(Run { tool, user, left_out: None });
        }
        let left_out = tool.left_out.iter().filter(|left_out| is_possible(&left_out.user));
        runs.extend(left_out.map(|it| Run { tool, user: it.user, left_out: Some(it) }));
    }
    runs
}

#[test]
fn a_tool_isolates_what_the_table_says_and_an_option_what_it_is_for() {
    let runs = Mutex::new(runs());
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(run) = runs.lock().expect("nobody panics with it").pop() else { break };
            let came = run.wrong();
            wrong.lock().expect("as above").extend(came);
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().expect("as above");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_in_the_book_is_this_one() {
    accepted::assert_accepted("tests@tools", &shown());
}

/// As the book shows it.
fn shown() -> String {
    let mut text = "$ cargo test -p exercises --test tools\n".to_string();
    for Tool { name, words, fails, is_for_root, left_out, .. } in TOOLS {
        let _ = writeln!(text, "{name}"); // a String takes everything
        wrapped(&mut text, words);
        let passes = match *fails {
            "" => "passes all".to_string(),
            fails => format!("passes all but {fails}"),
        };
        let by_root = match (is_for_root, words.split_whitespace().any(|word| word == "user")) {
            (false, _) => "",
            (true, true) => "; only root can",
            (true, false) => "; only root can, so root is not asked",
        };
        let _ = writeln!(text, "    {passes}{by_root}");
        for LeftOut { out, instead, fails, .. } in *left_out {
            let how = match *instead {
                "" => format!("without {out}"),
                instead => format!("with {instead} for {out}"),
            };
            let _ = writeln!(text, "    {how}: not {fails}");
        }
    }
    text
}

/// The words, on lines of at most 80 columns.
fn wrapped(text: &mut String, words: &str) {
    let mut line = "   ".to_string();
    for word in words.split(' ') {
        if line.len() + word.len() + 3 > 80 {
            let _ = writeln!(text, "{line} \\");
            line = "     ".to_string();
        }
        line += " ";
        line += word;
    }
    let _ = writeln!(text, "{line}");
}
