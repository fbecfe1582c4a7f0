//! `cargo run` without a lesson: the workbook that lists, runs and keeps the ledger.

mod host;
mod lessons;

use std::process::{Command, Output};

use host::{Host, User};
use nix::libc;

fn workbook(arguments: &[&str]) -> Command {
    let mut command = lessons::command("workbook");
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the workbook prints UTF-8")
}

fn names_in_the_books_order() -> Vec<String> {
    let lessons = workbook::contents::lessons().expect("SUMMARY.md names the lessons");
    lessons.into_iter().map(|lesson| lesson.name).collect()
}

#[test]
fn alone_it_lists_the_lessons_in_the_books_order_and_says_what_is_next() {
    for user in [User::Root, User::Ordinary] {
        let output = host::run_as(&mut workbook(&[]), user).output().expect("it starts");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let marked = said.lines().filter_map(|line| line.strip_prefix("runs "));
        let listed: Vec<_> = marked.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(listed, names_in_the_books_order(), "{said}");
        assert!(said.contains(&format!("next    cargo run --bin {}", listed[0])), "{said}");
    }
}

#[test]
fn it_marks_what_this_host_cannot_run_and_why() {
    let hosts = [
        (Host::NoUserNamespaces, "unshare(CLONE_NEWUSER) = -1 ENOSPC"),
        (Host::Seccomp, "unshare(CLONE_NEWUSER) = -1 EPERM"),
        (Host::NoProc, "readlink(\"/proc/self\") = -1 ENOENT"),
    ];
    for (host, call) in hosts {
        let output = host::run_on(&mut workbook(&[]), host).output().expect("it starts");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(said.matches("\ncannot  ").count(), lessons::names().len(), "{said}");
        assert_eq!(said.matches(call).count(), lessons::names().len(), "{said}");
    }
}

/// What the greeting finds by trying is what the lessons find.
#[test]
fn the_greeting_and_the_lessons_agree() {
    let hosts = [Host::SharedRoot, Host::Chroot, Host::Seccomp, Host::NoUserNamespaces];
    for host in hosts {
        let greeting = host::run_on(&mut workbook(&[]), host).output().expect("it starts");
        for lesson in lessons::names() {
            let ran = host::run_on(&mut lessons::command(&lesson), host).output();
            let code = ran.expect("it starts").status.code();
            let mark = if code == Some(0) { "runs" } else { "cannot" };
            let marked = format!("{mark:<6}  {lesson}");
            assert!(text(&greeting.stdout).contains(&marked), "{host:?}: {greeting:?}");
        }
    }
}

#[test]
fn run_prints_the_lessons_in_the_order_asked_for() {
    let output = workbook(&["run", "ps-demo", "uts-demo"]).output().expect("it starts");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let first = said.find("ps-demo: ").expect("the first lesson's title");
    let second = said.find("uts-demo: ").expect("the second lesson's title");
    assert!(first < second, "{said}");
}

#[test]
fn run_all_is_a_line_for_each_lesson_and_a_summary() {
    let output = workbook(&["run", "--all"]).output().expect("it starts");
    let said = text(&output.stdout);
    let number = lessons::names().len();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(said.lines().filter(|line| line.starts_with("holds ")).count(), number, "{said}");
    assert!(said.contains(&format!("{number} of {number} lessons ran, {number} hold")), "{said}");

    let refused = host::run_on(&mut workbook(&["run", "--all"]), Host::NoUserNamespaces).output();
    let refused = refused.expect("it starts");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(text(&refused.stdout).contains(&format!("0 of {number} lessons ran, 0 hold")));
}

#[test]
fn the_ledger_has_every_declared_claim_once_and_counts_them() {
    for user in [User::Root, User::Ordinary] {
        let output = host::run_as(&mut workbook(&["claims"]), user).output().expect("it starts");
        let ledger = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let mut number = 0;
        for lesson in lessons::names() {
            for (id, sentence) in lessons::claims(&lesson) {
                let row = format!("{id:<6} holds    {lesson:<16}  {sentence}\n");
                assert_eq!(ledger.matches(&row).count(), 1, "{row} in {ledger}");
                number += 1;
            }
        }
        let who = if user == User::Root { "root" } else { "an ordinary user" };
        assert!(ledger.contains(&format!("{number} of {number} hold on Linux ")), "{ledger}");
        assert!(ledger.trim_end().ends_with(&format!(" as {who}.")), "{ledger}");
    }
}

#[test]
fn the_ledger_tells_a_claim_that_fails_from_one_that_was_not_run() {
    let pretends = Host::Pretends(libc::SYS_sethostname);
    let Output { status, stdout, .. } =
        host::run_on(&mut workbook(&["claims"]), pretends).output().expect("it starts");
    assert_eq!(status.code(), Some(1), "{}", text(&stdout));
    assert!(text(&stdout).contains("A12    FAILS    uts-demo"), "{}", text(&stdout));

    let refused = host::run_on(&mut workbook(&["claims"]), Host::NoUserNamespaces).output();
    let refused = refused.expect("it starts");
    let ledger = text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(69), "{ledger}");
    assert!(ledger.contains("A12    not run  uts-demo"), "{ledger}");
    assert!(ledger.contains("uts-demo was not run: unshare(CLONE_NEWUSER) = -1 ENOSPC"));
}

#[test]
fn an_unknown_lesson_gets_the_nearest_name_and_exit_2() {
    let output = workbook(&["run", "pid-dmo"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("a similar value exists: 'pid-demo'"), "{output:?}");
}

#[test]
fn completions_and_the_man_page_come_from_the_arguments() {
    let bash = workbook(&["completions", "bash"]).output().expect("it starts");
    assert!(text(&bash.stdout).contains("--all"), "{bash:?}");
    let man = workbook(&["man"]).output().expect("it starts");
    assert!(text(&man.stdout).contains(".TH workbook 1"), "{man:?}");
}
