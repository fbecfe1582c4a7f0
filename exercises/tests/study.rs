//! A reader goes through a lesson: the real program, in a process of its own, with a state folder
//! of its own.

#[path = "../../tests/accepted/mod.rs"]
mod accepted;
#[path = "../../tests/host/mod.rs"]
mod host;
#[path = "../../tests/terminal/mod.rs"]
mod terminal;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::{env, io};

use exercises::questions::{Question, Run, questions};
use host::Host;
use nix::libc;
use terminal::Pty;
use workbook::contents;

/// The lessons stand beside the program that is tested. They are of another package, so that cargo
/// has not built them for this test.
fn program() -> &'static Path {
    static BUILT: OnceLock<()> = OnceLock::new();
    let program = Path::new(env!("CARGO_BIN_EXE_exercises"));
    BUILT.get_or_init(|| {
        let mut folders = program.ancestors().skip(1); // target/debug, target
        let profile = folders.next().expect("a profile").file_name().expect("a name");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--bins", "--manifest-path"]);
        cargo.arg(contents::root().join("Cargo.toml"));
        cargo.arg("--target-dir").arg(folders.next().expect("a target directory"));
        cargo.arg("--profile").arg(if profile == "debug" { "dev".as_ref() } else { profile });
        assert!(cargo.status().expect("cargo starts").success(), "the lessons cannot be built");
    });
    program
}

/// A state folder for one test, empty.
fn state(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("study").join(test);
    let _ = fs::remove_dir_all(&folder); // may not be there
    folder
}

fn study(arguments: &str, state: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("study").args(arguments.split_whitespace()).env("XDG_STATE_HOME", state);
    for variable in ["CARGO", "CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

/// What comes of these lines on standard input.
fn answer(command: &mut Command, lines: &str) -> Output {
    let (input, mut ours) = io::pipe().expect("a pipe");
    ours.write_all(lines.replace(' ', "\n").as_bytes()).expect("a pipe takes a few lines");
    drop(ours);
    command.stdin(input).stdout(Stdio::piped()).output().expect("it starts")
}

/// The same, of a run that is no failure.
fn said(command: &mut Command, lines: &str) -> String {
    let Output { status, stdout, stderr } = answer(command, lines);
    let (said, errors) = (String::from_utf8(stdout), String::from_utf8(stderr));
    let (said, errors) = (said.expect("UTF-8"), errors.expect("UTF-8"));
    assert!(status.success() && errors.is_empty(), "{status}: {said}{errors}");
    said
}

fn read(file: String) -> String {
    fs::read_to_string(contents::root().join(file)).expect("a file")
}

/// What a lesson's chapter asks.
fn asked(lesson: &str) -> Vec<Question> {
    questions(lesson, &read(format!("book/src/{lesson}.md"))).expect("no fault")
}

#[track_caller]
fn assert_in_this_order(said: &str, parts: &[&str]) {
    parts.iter().fold(said, |rest, part| match rest.split_once(part) {
        Some((_, rest)) => rest,
        None => panic!("no {part:?}, or too early, in:\n{said}"),
    });
}

/// Right answers to the three lessons that the book begins with.
const RIGHT: [(&str, &str); 3] =
    [("pid-demo", "3 2 2 "), ("ps-demo", "2 2 3 "), ("uts-demo", "3 2 2 ")];

#[test]
fn what_will_happen_is_asked_before_the_run_and_why_after_it() {
    for (lesson, right) in RIGHT {
        let said = said(&mut study(lesson, &state(lesson)), right);
        let parts =
            ["1. ", "answer, 1 to ", "2. ", "answer, 1 to ", "Now the lesson runs.", lesson];
        assert_in_this_order(&said, &parts);
        let parts =
            ["by hand", "1. ", "This host: ", "As you said.", "2. ", "3. Why", "As you said."];
        assert_in_this_order(&said, &parts);
        assert!(said.ends_with("\n3 of 3 as you said.\n"), "{said}");
    }
}

#[test]
fn a_wrong_answer_is_shown_beside_what_has_happened_with_every_explanation() {
    let said = said(&mut study("pid-demo", &state("wrong")), "1 2 3 ");
    assert_in_this_order(
        &said,
        &[
            "by hand",
            "You said: 1) 1\nThis host: inside getppid() = 0\nNot so.\nRight is: 3) 0\n",
            "nobody is their own parent",
            "mean nothing inside",
            "how the\n     kernel says so",
            "getppid(2) has no errors",
            "You said: 2) 2\nThis host: inside fork() = 2\nAs you said.\n",
            "You said: 3) there are two",
            "Not so.\nRight is: 2) the kernel gives it a number",
            "1 of 3 as you said.\nThe others come back",
        ],
    );
}

#[test]
fn what_was_missed_comes_back_first_until_it_is_answered() {
    let state = state("missed");
    said(&mut study("pid-demo", &state), "1 2 3 ");
    said(&mut study("uts-demo", &state), "3 2 2 ");
    let file = state.join("starting-with-linux-containers/progress");
    let kept = fs::read_to_string(file).expect("it is kept");
    assert!(kept.contains("\nran pid-demo\n") && kept.contains("\nran uts-demo\n"), "{kept}");
    let again = said(&mut study("", &state), "3 1 ");
    assert!(again.starts_with("You missed this in pid-demo.\n"), "{again}");
    let parts =
        ["What does getppid() give?", "Now the lesson runs", "As you said.", "3. Why", "Not so."];
    assert_in_this_order(&again, &parts);
    assert!(!again.contains("2. Which PID"), "that one was right: {again}");
    let again = said(&mut study("", &state), "2 ");
    assert_in_this_order(&again, &["You missed this in pid-demo.", "3. Why", "As you said."]);
    assert!(!again.contains("getppid() give"), "that one is right by now: {again}");
    let again = said(&mut study("", &state), "");
    assert!(!again.contains("You missed"), "{again}");
    assert!(!again.contains("pid-demo: PID 1"), "it is answered: {again}");
}

/// What this host does not show stays without an answer, and nobody is asked for it for ever.
#[test]
fn a_lesson_is_done_when_its_whys_are_answered() {
    let mut progress = "workbook progress 1\n".to_string();
    for lesson in contents::lessons().expect("SUMMARY.md") {
        for (nth, question) in asked(&lesson.name).iter().enumerate() {
            if question.seen.is_none() {
                progress += &format!("right {}/{}\n", lesson.name, nth + 1);
            }
        }
    }
    let state = state("whys");
    let folder = state.join("starting-with-linux-containers");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("progress"), &progress).expect("a file");
    let all = said(&mut study("", &state), "");
    assert!(all.starts_with("You have answered every question"), "{all}");
    fs::write(folder.join("progress"), progress.replace("right uts-demo/3\n", "")).expect("a file");
    let rest = said(&mut study("", &state), "");
    assert!(rest.starts_with("uts-demo: "), "{rest}");
}

/// The book shows the first question and what comes of the answer, without the rest.
#[test]
fn the_book_shows_a_question_and_its_answer() {
    let said = said(&mut study("pid-demo", &state("book")), "1 2 ");
    let (question, rest) = said.split_once("\n2. ").expect("a second question");
    let (_, rest) = rest.split_once("by hand").expect("the run");
    let (_, answer) = rest.split_once("\n\n").expect("the end of the run");
    let (answer, _) = answer.split_once("\n2. ").expect("the second answer");
    let shown = format!("$ cargo run -- study pid-demo\n{question}\n...\n\n{answer}\n...\n");
    accepted::assert_accepted("workbook@study", &shown);
}

/// What is right is what this host does, also when a filter makes it do something else.
#[test]
fn the_run_says_what_is_right() {
    let mut command = study("ps-demo", &state("filter"));
    let output = answer(host::run_on(&mut command, Host::Pretends(libc::SYS_kill)), "2 1 3 ");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let call = "This host: inside kill(";
    assert_in_this_order(&said, &["2. What does kill() say?", call, ", 0) = 0\nAs you said."]);
    assert!(!said.contains(&format!("{call}*")) && !said.contains(&format!("{call},")), "{said}");
    assert_in_this_order(&said, &["FAILS  A19", "3 of 3 as you said."]);
}

#[test]
fn a_host_that_refuses_the_lesson_is_asked_nothing() {
    let state = state("refused");
    let mut command = study("pid-demo", &state);
    let output = answer(host::run_on(&mut command, Host::NoUserNamespaces), "1 1 1 ");
    let refusal = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(69), "{refusal}");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8(output.stdout));
    assert!(refusal.starts_with("pid-demo: this host cannot run it"), "{refusal}");
    assert!(refusal.contains("call    unshare(CLONE_NEWUSER)"), "{refusal}");
    assert!(!state.exists(), "an answer was kept");
}

#[test]
fn the_end_of_input_and_q_end_it_with_a_sentence() {
    for (lines, kept) in [("", 0), ("1 ", 0), ("1 q ", 0), ("1 2 ", 2), ("1 2 q", 2)] {
        let said = said(&mut study("pid-demo", &state("end")), lines);
        let end = format!("\nStopped. Answers kept: {kept}. The others are asked again.\n");
        assert!(said.ends_with(&end), "{lines:?}: {said}");
        assert_eq!(said.contains("Now the lesson runs"), kept > 0, "{lines:?}: {said}");
    }
}

#[test]
fn a_wrong_key_is_asked_again() {
    let said = said(&mut study("pid-demo", &state("key")), "0 5 x \u{e9} 3 2 2 ");
    assert_eq!(said.matches("is none of 1 to 4, nor q to stop.").count(), 4, "{said}");
    assert!(said.ends_with("3 of 3 as you said.\n"), "{said}");
}

#[test]
fn who_has_no_place_to_keep_answers_is_told_once() {
    let said = said(&mut study("pid-demo", Path::new("/proc/no")), "1 2 3 ");
    let why = "Your progress is not kept: ";
    assert_eq!(said.matches(why).count(), 1, "{said}");
    assert!(said.ends_with("1 of 3 as you said.\n"), "nothing comes back: {said}");
}

#[test]
fn a_full_disk_is_a_refusal_and_another_lesson_wrong_usage() {
    let mut command = study("pid-demo", &state("full"));
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    let output = command.stdin(Stdio::null()).stdout(full).output().expect("it starts");
    let refusal = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(69), "{refusal}");
    assert!(refusal.contains("write(1) = -1 ENOSPC"), "{refusal}");
    assert_eq!(answer(&mut study("no-demo", &state("full")), "").status.code(), Some(2));
}

/// Typed at as a reader would: with Enter to go on, on a terminal of 40 columns.
fn session(arguments: &str, variable: (&str, &str)) -> String {
    let study = study(arguments, &state("terminal"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "stty cols 40; exec \"$@\"", "sh"]);
    command.arg(study.get_program()).args(study.get_args());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", "xterm").env(variable.0, variable.1);
    let mut terminal = Pty::start(command).expect("a terminal");
    let mut printed = String::new();
    for (prompt, line) in [
        ("1 to 4: ", "3"),
        ("1 to 3: ", "2"),
        ("goes on: ", ""),
        ("goes on: ", ""),
        ("goes on: ", ""),
        ("1 to 3: ", "2"),
        ("goes on: ", ""),
    ] {
        printed += &terminal.until(prompt);
        terminal.send(&format!("{line}\n"));
    }
    let (status, rest) = terminal.end();
    assert!(status.success(), "{status}: {rest}");
    printed + &rest
}

#[test]
fn a_terminal_of_40_columns_is_kept_to_and_colour_only_where_it_is_wanted() {
    let cases = [
        ("pid-demo", ("TERM", "xterm"), true),
        ("pid-demo", ("TERM", "dumb"), false),
        ("pid-demo", ("NO_COLOR", "1"), false),
        ("pid-demo --plain", ("TERM", "xterm"), false),
    ];
    let mut words = Vec::new();
    for (arguments, variable, has_colour) in cases {
        let printed = session(arguments, variable);
        let is_coloured = |text: &str| text.contains('\x1b');
        assert_eq!(is_coloured(&printed), has_colour, "{arguments} {variable:?}: {printed}");
        let run = printed.split("Now the lesson runs.").nth(1).expect("a run");
        let claims = run.lines().filter(|line| line.contains("A20 ")).collect::<String>();
        assert_eq!(is_coloured(&claims), has_colour, "{arguments} {variable:?}: {run}");
        let printed = anstream::adapter::strip_str(&printed).to_string();
        let (before, run) = printed.split_once("Now the lesson runs.").expect("a run");
        let (_, after) = run.split_once("by hand").expect("the end of the run");
        let (_, after) = after.split_once("\n\n").expect("an empty line");
        for line in before.lines().chain(after.lines()) {
            assert!(line.chars().count() <= 40, "{line:?}");
        }
        words.push((before.to_string(), after.to_string()));
    }
    assert!(words.iter().all(|other| *other == words[0]), "colour says nothing alone");
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let state = state("ctrl-c");
    let mut terminal = Pty::start(study("pid-demo", &state)).expect("a terminal");
    terminal.until("1 to 4: ");
    terminal.send("3\n");
    terminal.until("1 to 3: ");
    terminal.send("\x03");
    let (status, _) = terminal.end();
    assert!(!status.success(), "{status}");
    assert!(!state.exists(), "an answer was kept before the run");
}

/// On this host the same option is right as in the accepted run, in every lesson that it can run.
#[test]
fn a_run_here_has_the_accepted_answers() {
    let wanted = env::var("LESSON").unwrap_or_default();
    for lesson in contents::lessons().expect("SUMMARY.md") {
        let name = &lesson.name;
        if !(wanted.is_empty() || wanted.split(',').any(|wanted| wanted == name)) {
            continue;
        }
        let output = Command::new(program().with_file_name(name)).stdin(Stdio::null()).output();
        let output = output.expect("the lesson starts");
        if output.status.code() == Some(69) {
            eprintln!("not tried here: {name}: {}", String::from_utf8_lossy(&output.stderr));
            continue;
        }
        let transcript = String::from_utf8(output.stdout).expect("UTF-8");
        let here = Run::of(&transcript);
        let accepted = Run::of(&read(format!("tests/snapshots/{name}.snap")));
        for question in asked(name) {
            let (here, accepted) = (question.right(&here), question.right(&accepted));
            if here == Err(None) && transcript.contains("\nopen ") {
                eprintln!("not shown here: {name}: {}", question.title);
                continue;
            }
            assert_eq!(here, accepted, "{name}: {}", question.title);
        }
    }
}
