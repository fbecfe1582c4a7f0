//! What a lesson prints is what the book shows: its accepted snapshot.
//!
//! To accept a new transcript: `INSTA_UPDATE=always cargo test --test transcripts`, then read the
//! difference that git shows.

mod accepted;
mod host;
mod lessons;
mod normal;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs};

use accepted::assert_accepted;
use host::User;
use nix::unistd::geteuid;
use workbook::contents;

/// Whose run the book shows.
fn shown(lesson: &str) -> User {
    let is_roots = lessons::needs_root(lesson) || lessons::wants_a_cgroup(lesson);
    if is_roots { User::Root } else { User::Ordinary }
}

/// What a lesson prints. One run is enough for all tests that look at one.
fn printed(lesson: &str, without: Option<&str>, user: User) -> String {
    type Runs = BTreeMap<(String, Option<String>, bool), Arc<OnceLock<String>>>;
    static RUNS: Mutex<Runs> = Mutex::new(Runs::new());
    let key = (lesson.to_string(), without.map(str::to_string), user == User::Root);
    let run = RUNS.lock().expect("nobody panics with it").entry(key).or_default().clone();
    run.get_or_init(|| print_again(lesson, without, user)).clone()
}

fn print_again(lesson: &str, without: Option<&str>, user: User) -> String {
    let mut command = lessons::command(lesson);
    command.args(without.map(|control| format!("--without={control}")));
    let output = host::run_as(&mut command, user).output().expect("the lesson starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?} as {user:?}: {stderr}");
    assert_eq!(stderr, "", "{command:?} as {user:?}");
    String::from_utf8(output.stdout).expect("a lesson prints UTF-8")
}

/// The reader's command, and what it prints, with example values.
fn transcript(lesson: &str, without: Option<&str>, user: User) -> String {
    let arguments = without.map(|control| format!(" -- --without {control}")).unwrap_or_default();
    let printed = printed(lesson, without, user);
    format!("$ cargo run --bin {lesson}{arguments}\n{}", normal::transcript(&printed))
}

/// Every lesson, plainly and without each of its ingredients, a few at a time.
fn each_run(test: impl Fn(&str, Option<&str>) + Sync) {
    let lessons = lessons::here().into_iter();
    let runs = lessons.flat_map(|lesson| {
        let controls = lessons::runs(&lesson).into_iter();
        controls.map(|control| (lesson.clone(), control)).collect::<Vec<_>>()
    });
    let runs: Vec<_> = runs.collect();
    lessons::each(&runs, |(lesson, control)| test(lesson, control.as_deref()));
}

#[test]
fn every_lesson_and_control_prints_its_accepted_transcript() {
    each_run(|lesson, control| {
        let text = transcript(lesson, control, shown(lesson));
        let suffix = control.map(|control| format!("@without-{control}")).unwrap_or_default();
        let name = format!("{lesson}{suffix}");
        if is_checked_in_full(&name, &text) {
            assert_accepted(&name, &text);
        }
    });
}

/// Or does this host leave claims open that the accepted transcript has not? That is no fault of the
/// lesson's. In CI it is one, unless CI has put us into the root of every cgroup hierarchy.
fn is_checked_in_full(name: &str, text: &str) -> bool {
    let file = contents::root().join(format!("tests/snapshots/{name}.snap"));
    let accepted = fs::read_to_string(file).unwrap_or_default();
    let open = |text: &str| text.lines().filter(|line| line.starts_with("open ")).count();
    let in_root = text.contains("for want of a cgroup other than /");
    let not_delegated = text.contains("for want of delegated controllers")
        || text.contains("for want of a delegated cgroup");
    let excused = in_root || not_delegated || env::var_os("CI").is_none();
    let in_full = !excused || open(text) <= open(&accepted);
    if !in_full {
        eprintln!("not tried in full here: {name}\n{text}");
    }
    in_full
}

/// The book shows the ordinary user's run. For root it is true but for one line, or else root's
/// is accepted too: NAME@root.snap.
#[test]
fn root_sees_the_same_without_the_user_namespace() {
    each_run(|lesson, control| {
        let root = transcript(lesson, control, User::Root);
        let suffix = control.map(|control| format!("@without-{control}")).unwrap_or_default();
        let accepted = format!("{lesson}@root{suffix}");
        let file = contents::root().join(format!("tests/snapshots/{accepted}.snap"));
        if file.exists() {
            return assert_accepted(&accepted, &root);
        }
        let ordinary = transcript(lesson, control, shown(lesson));
        let line = |line: &&str| !line.starts_with("outside  unshare(CLONE_NEWUSER) ");
        let rest: Vec<_> = ordinary.lines().filter(line).collect();
        assert_eq!(root.lines().collect::<Vec<_>>(), rest, "{lesson} {control:?}");
    });
}

/// A lesson that takes long, as one that boots a Linux, is run less often.
#[test]
fn a_hundred_runs_print_the_same() {
    const ENOUGH: Duration = Duration::from_secs(3);
    each_run(|lesson, control| {
        let first = normal::transcript(&printed(lesson, control, shown(lesson)));
        let start = Instant::now();
        for nth in (2..=100).take_while(|nth| *nth <= 3 || start.elapsed() < ENOUGH) {
            let again = normal::transcript(&print_again(lesson, control, shown(lesson)));
            assert_eq!(again, first, "{lesson} {control:?}, run {nth}");
        }
    });
}

#[test]
fn a_transcript_is_short_enough_to_read_aloud() {
    each_run(|lesson, control| {
        let text = transcript(lesson, control, shown(lesson));
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{lesson} {control:?}: more than 80 columns");
        assert!(text.lines().count() <= 30, "{lesson} {control:?}: more than 30 lines");
    });
}

#[test]
fn help_fits_one_screen() {
    for lesson in lessons::names() {
        let output = lessons::command(&lesson).arg("--help").output().expect("the lesson starts");
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(help.lines().count() <= 24, "{lesson}: {} lines", help.lines().count());
        let wide = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{lesson}: more than 80 columns");
    }
}

#[test]
fn wrong_usage_exits_2() {
    for lesson in lessons::names() {
        for wrong in ["--no-such", "--without=nothing", "word"] {
            let output = lessons::command(&lesson).arg(wrong).output().expect("it starts");
            assert_eq!(output.status.code(), Some(2), "{lesson} {wrong}");
            assert!(output.stdout.is_empty(), "{lesson} {wrong}");
        }
    }
}

/// What a lesson says one sees by hand, one sees by hand. In CI the tools must be there.
#[test]
fn the_same_by_hand_shows_the_same() {
    let us = if geteuid().is_root() { User::Root } else { User::Ordinary };
    for lesson in lessons::here() {
        let text = printed(&lesson, None, us);
        let (_, by_hand) = text.split_once("\nby hand").expect("a lesson says how by hand");
        for part in by_hand.split("\nby hand") {
            let (command, expected) = part.split_once('\n').expect("a command and its output");
            let by_hand = Command::new("sh").args(["-c", command]).env("LC_ALL", "C").output();
            let by_hand = by_hand.expect("sh is there");
            let first = command.split_whitespace().next().unwrap_or_default();
            if workbook::tool::find(first).is_err() || lessons::lacks_a_tool(&by_hand.stderr) {
                let missing = format!("{command}: {}", String::from_utf8_lossy(&by_hand.stderr));
                assert!(env::var_os("CI").is_none(), "{missing}");
                eprintln!("not tried, a tool is not installed: {missing}");
                continue;
            }
            assert_eq!(words(&by_hand.stdout), words(expected.as_bytes()), "{command}");
        }
    }
}

/// Lines, with blanks collapsed: ps(1) aligns its columns.
fn words(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect()
}
