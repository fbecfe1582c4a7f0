//! `cargo run` without a lesson: the workbook that lists, runs and keeps the ledger.

mod accepted;
mod host;
mod lessons;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use host::{Host, User};
use nix::libc;

fn workbook(arguments: &[&str]) -> Command {
    let mut command = lessons::command("workbook");
    command.args(arguments).env("XDG_STATE_HOME", "/nobody has been here");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the workbook prints UTF-8")
}

fn names_in_the_books_order() -> Vec<String> {
    let lessons = workbook::contents::lessons().expect("SUMMARY.md names the lessons");
    lessons.into_iter().map(|lesson| lesson.name).collect()
}

/// The lessons that the greeting lists, and whether they run here.
fn marks(greeting: &str) -> Vec<(String, bool)> {
    let marked = greeting.lines().filter_map(|line| {
        let (mark, rest) = line.split_once(' ')?;
        let name = rest.split_whitespace().next()?.to_string();
        ["runs", "partly", "cannot"].contains(&mark).then_some((name, mark != "cannot"))
    });
    marked.collect()
}

#[test]
fn alone_it_lists_the_lessons_in_the_books_order_and_says_what_is_next() {
    for user in [User::Root, User::Ordinary] {
        let output = host::run_as(&mut workbook(&[]), user).output().expect("it starts");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let marks = marks(&said);
        let listed: Vec<_> = marks.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(listed, names_in_the_books_order(), "{said}");
        for lesson in lessons::names() {
            let may = user == User::Root || !lessons::needs_root(&lesson);
            let runs = may && lessons::here().contains(&lesson);
            assert!(marks.contains(&(lesson.clone(), runs)), "{lesson}: {said}");
        }
        let first = marks.iter().find(|(_, runs)| *runs).expect("a lesson that runs");
        assert!(said.contains(&format!("next    cargo run --bin {}", first.0)), "{said}");
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
        for lesson in lessons::here().iter().filter(|lesson| lessons::makes_namespaces(lesson)) {
            let line = said.lines().find(|line| line.starts_with(&format!("cannot  {lesson} ")));
            let number = line.and_then(|line| line.rsplit(' ').next()).expect("a number");
            assert!(said.contains(&format!("\n{number} {call}")), "{lesson}: {said}");
        }
    }
}

/// What the greeting finds by trying is what the lessons find.
#[test]
fn the_greeting_and_the_lessons_agree() {
    let hosts = [Host::SharedRoot, Host::Chroot, Host::Seccomp, Host::NoUserNamespaces];
    for host in hosts {
        let greeting = host::run_on(&mut workbook(&[]), host).output().expect("it starts");
        let marks = marks(&text(&greeting.stdout));
        for lesson in lessons::here().into_iter().filter(|name| lessons::makes_namespaces(name)) {
            let ran = host::run_on(&mut lessons::command(&lesson), host).output();
            let ran = ran.expect("it starts").status.code() == Some(0);
            assert!(marks.contains(&(lesson.clone(), ran)), "{lesson} on {host:?}: {greeting:?}");
        }
    }
}

/// What the book shows: a host that forbids everything, and has no tools.
#[test]
fn doctor_says_what_cannot_run_why_and_what_to_do() {
    let command = &mut workbook(&["doctor"]);
    command.env("PATH", "").env_remove("GUEST_KERNEL");
    let output = host::run_on(command, Host::Shut).output().expect("it starts");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let said = text(&output.stdout);
    let (first, rest) = said.split_once('\n').expect("a line that says where we are");
    let release = first.strip_prefix("What runs on Linux ").expect("the kernel");
    let (_, user) = release.split_once(' ').expect("the user");
    let shown = format!("$ cargo run -- doctor\nWhat runs on Linux 6.12 {user}\n{rest}");
    let wide = shown.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "more than 80 columns");
    if cfg!(target_arch = "x86_64") {
        accepted::assert_accepted("workbook@doctor", &shown);
    }
}

/// A lesson that needs more than a kernel does not count.
#[test]
fn doctor_exits_0_if_every_core_lesson_runs() {
    for user in [User::Root, User::Ordinary] {
        let command = &mut workbook(&["doctor"]);
        let output = host::run_as(command.env("PATH", ""), user).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("cannot  vm-demo"), "{output:?}");
    }
    let refused = host::run_on(&mut workbook(&["doctor"]), Host::Seccomp).output();
    assert_eq!(refused.expect("it starts").status.code(), Some(69));
}

#[test]
fn doctor_tells_programs_what_it_tells_people() {
    for host in [Host::SharedRoot, Host::Shut, Host::Seccomp, Host::NoProc] {
        let said = |option: &[&str]| {
            let output = host::run_on(workbook(&["doctor"]).args(option), host).output();
            let output = output.expect("it starts");
            (output.status.code(), text(&output.stdout))
        };
        let ((code, people), (same_code, programs)) = (said(&[]), said(&["--json"]));
        assert_eq!(code, same_code, "{host:?}");
        assert_eq!(programs.lines().count(), 1, "a class's answers are a file of lines");
        let json: serde_json::Value = serde_json::from_str(&programs).expect("JSON");
        assert_eq!(json["core"], code == Some(0), "{host:?}: {json}");
        let lessons = json["lessons"].as_array().expect("a list");
        let names: Vec<_> = lessons.iter().map(|lesson| lesson["lesson"].as_str()).collect();
        assert!(names.iter().flatten().eq(names_in_the_books_order().iter()), "{names:?}");
        for lesson in lessons {
            let [name, verdict] = ["lesson", "verdict"].map(|key| lesson[key].as_str());
            let line = format!("{:<6}  {} ", verdict.expect("text"), name.expect("text"));
            assert!(people.contains(&line), "{host:?}: no {line:?} in {people}");
            if let Some(refusal) = lesson["refusal"].as_object() {
                for key in ["call", "cause"] {
                    let line = format!("{key:<8}{}\n", refusal[key].as_str().expect("text"));
                    assert!(people.contains(&line), "{host:?}: no {line:?} in {people}");
                }
            }
        }
    }
}

/// What the book shows of the table that refusals and doctor read.
#[test]
fn doctor_knows_these_causes() {
    let output = workbook(&["doctor", "--causes"]).output().expect("it starts");
    let causes = format!("$ cargo run -- doctor --causes\n{}", text(&output.stdout));
    let wide = causes.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "more than 80 columns");
    accepted::assert_accepted("workbook@causes", &causes);
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
    let (all, here) = (lessons::all().len(), lessons::here());
    let output = workbook(&["run", "--all"]).output().expect("it starts");
    let said = text(&output.stdout);
    for lesson in lessons::names() {
        let verdicts = if here.contains(&lesson) { ["holds ", "partly"] } else { ["cannot"; 2] };
        let lines = verdicts.map(|verdict| format!("{verdict}  {lesson} "));
        assert!(lines.iter().any(|line| said.contains(line)), "{lesson}: {said}");
    }
    let ran = said.lines().filter(|line| line.starts_with("holds ") || line.starts_with("partly"));
    let ran = ran.count();
    assert!(said.contains(&format!("{ran} of {all} lessons ran, {ran} hold")), "{said}");
    assert_eq!(output.status.code(), Some(if ran == all { 0 } else { 69 }), "{output:?}");

    let refused = host::run_on(&mut workbook(&["run", "--all"]), Host::NoUserNamespaces).output();
    let refused = refused.expect("it starts");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    for lesson in here.iter().filter(|lesson| lessons::makes_namespaces(lesson)) {
        assert!(text(&refused.stdout).contains(&format!("cannot  {lesson}")), "{refused:?}");
    }
}

#[test]
fn the_ledger_has_every_declared_claim_once_and_counts_them() {
    for user in [User::Root, User::Ordinary] {
        let output = host::run_as(&mut workbook(&["claims"]), user).output().expect("it starts");
        let ledger = text(&output.stdout);
        let mut verdicts = Vec::new();
        for lesson in lessons::all() {
            for (id, sentence) in lessons::claims(&lesson) {
                let end = format!("  {lesson:<17} {sentence}");
                let mut rows = ledger.lines().filter(|row| row.ends_with(&end));
                let row = rows.next().unwrap_or_else(|| panic!("no {id}: {end} in {ledger}"));
                assert!(row.starts_with(&format!("{id} ")) && rows.next().is_none(), "{row}");
                let verdict = row[id.len()..row.len() - end.len()].trim();
                let may = user == User::Root || !lessons::needs_root(&lesson);
                let expected: &[_] = match may && lessons::here().contains(&lesson) {
                    true => &["holds", "open"],
                    false => &["holds", "open", "not run"], // not run, or not among those wanted
                };
                assert!(expected.contains(&verdict), "{row}");
                verdicts.push(verdict.to_string());
            }
        }
        let hold = verdicts.iter().filter(|verdict| *verdict == "holds").count();
        let who = if user == User::Root { "root" } else { "an ordinary user" };
        let summary = format!("{hold} of {} hold on Linux ", verdicts.len());
        assert!(ledger.contains(&summary) && ledger.contains(&format!(" as {who}.\n")), "{ledger}");
        let not_run = verdicts.iter().any(|verdict| verdict == "not run");
        assert_eq!(output.status.code(), Some(if not_run { 69 } else { 0 }), "{ledger}");
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

/// In a folder that was moved or copied, with all that was compiled in it, cargo compiles nothing
/// again.
#[test]
fn it_reads_the_folder_that_it_is_in() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moved");
    let _ = fs::remove_dir_all(&folder);
    for part in ["book/src", "lessons", "target/debug"] {
        fs::create_dir_all(folder.join(part)).expect("a new folder");
    }
    let root = workbook::contents::root();
    fs::copy(root.join("lessons/pid-demo.rs"), folder.join("lessons/pid-demo.rs")).expect("a copy");
    fs::write(folder.join("book/src/SUMMARY.md"), "- [One](pid-demo.md)\n").expect("a file");
    // Not a copy: execve(2) refuses a file that a child of another test still has open to write.
    let program = folder.join("target/debug/workbook");
    fs::hard_link(lessons::program("workbook"), &program).expect("a link");

    let output = Command::new(program).args(["run", "nothing"]).output().expect("it starts");
    assert!(text(&output.stderr).contains("[possible values: pid-demo]"), "{output:?}");
}

#[test]
fn completions_and_the_man_page_come_from_the_arguments() {
    let bash = workbook(&["completions", "bash"]).output().expect("it starts");
    assert!(text(&bash.stdout).contains("--all"), "{bash:?}");
    let man = workbook(&["man"]).output().expect("it starts");
    assert!(text(&man.stdout).contains(".TH workbook 1"), "{man:?}");
}

/// What `exercises` does it does with the words that `workbook` was given, and its exit code is ours.
#[test]
fn study_start_and_check_are_handed_over() {
    lessons::program("exercises");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["study", "--help"], 0, "--plain"),
        (&["start", "--help"], 0, "--lang"),
        (&["check", "--help"], 0, "--watch"),
        (&["check", "--nonsense"], 2, "--nonsense"),
        (&["study", "no-demo"], 2, "no-demo"),
        (&["check", "--", "no-program"], 1, "There is no such program."),
    ];
    for (words, code, said) in cases {
        let output = workbook(words).output().expect("it starts");
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {printed}");
        assert!(printed.contains(said), "{words:?}: {printed}");
    }
}
