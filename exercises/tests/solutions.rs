//! The start states fail the first step; the worked program of each step takes it and all before it,
//! and not the next; and what is typically wrong is told with the right words.
//!
//! The Rust programs are built once, all of them, in a package that `start` has made.

#[path = "../../tests/host/mod.rs"]
mod host;
mod mistakes;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use exercises::check::view::send;
use exercises::solutions::cut;
use host::User;
use mistakes::MISTAKES;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use workbook::proc::{children, comm, nspid, pidfd};
use workbook::tool::Tool;

/// Both kinds of user.
const USERS: [User; 2] = [User::Ordinary, User::Root];
/// The step that not every host can check.
const LIMITS: usize = 11;

/// More than anything takes on a busy host.
const DEADLINE: Duration = Duration::from_secs(20);

/// A new folder of this name, which everybody may use.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("solutions").join(name);
    let _ = fs::remove_dir_all(&folder); // of the run before
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("our own");
    folder
}

fn exercises() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exercises"));
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned()
}

fn start(folder: &Path, language: &str) -> Output {
    exercises().arg("start").arg(folder).args(["--lang", language]).output().expect("it starts")
}

/// What the checker says of the program in this folder, as this user: a line of JSON.
fn check(folder: &Path, user: User, more: &[&str]) -> Value {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    fs::create_dir_all(&state).expect("a folder");
    fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("our own");
    let mut command = exercises();
    command.args(["check", "--json", "--dir"]).arg(folder).args(more).env("XDG_STATE_HOME", state);
    let output = host::run_as(&mut command, user).output().expect("it starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// The steps that were checked: the number of each, and what came of it.
fn outcomes(report: &Value) -> Vec<(usize, &str)> {
    let steps = report["steps"].as_array().expect("a list");
    let number = |step: &Value| step["number"].as_u64().expect("a number") as usize;
    steps.iter().map(|step| (number(step), step["outcome"].as_str().expect("a word"))).collect()
}

/// Can we try this language? If not, that is said.
fn is_here(language: &str) -> bool {
    let (tool, arguments) = match language {
        "python" => ("python3", ["-c", "import ctypes, fcntl"].as_slice()),
        "go" => ("go", ["version"].as_slice()),
        _ => return true, // what every host of this workbook has
    };
    let tried = Command::new(tool).args(arguments).output();
    let is_here = tried.is_ok_and(|tried| tried.status.success());
    if !is_here {
        eprintln!("{language}: not tried here, for there is no {tool}");
    }
    is_here
}

/// A folder of folders, each with a program `run`: the worked ones, and those with a mistake.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let package = folder("package");
    let made = start(&package, "rust"); // it is empty, and that is as good as not there
    assert!(made.status.success(), "{}", said(&made));
    let bins = package.join("src/bin");
    fs::create_dir(&bins).expect("a folder");
    let right = (1..=13)
        .map(|step| (format!("rust-{step}"), format!("#![deny(warnings)]\n{}", cut("rust", step))));
    let wrong = MISTAKES.iter().enumerate();
    let wrong = wrong.map(|(nth, mistake)| (format!("mistake-{nth}"), mistake.made()));
    let programs: Vec<_> = right.chain(wrong).collect();
    for (name, source) in &programs {
        fs::write(bins.join(format!("{name}.rs")), source).expect("a file");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--locked", "--bins"]).current_dir(&package);
    cargo.env("CARGO_TARGET_DIR", package.join("target")).env("CARGO_PROFILE_DEV_DEBUG", "false");
    cargo.env("CARGO_INCREMENTAL", "0");
    let built = cargo.env_remove("RUSTFLAGS").output().expect("cargo");
    assert!(built.status.success(), "{}", said(&built));
    for (name, _) in &programs {
        let program = package.join("target/debug").join(name);
        symlink(program, folder(name).join("run")).expect("a link");
    }
    package.parent().expect("made above").to_path_buf()
});

/// The folder with the worked program of a step.
fn solution(language: &str, step: usize) -> PathBuf {
    let name = format!("{language}-{step}");
    if language == "rust" {
        return PROGRAMS.join(name);
    }
    let folder = folder(&name);
    fs::write(folder.join("run"), cut(language, step)).expect("a file");
    fs::set_permissions(folder.join("run"), Permissions::from_mode(0o755)).expect("our own");
    folder
}

#[test]
fn a_start_state_fails_each_step() {
    for language in ["rust", "python", "c", "shell", "go"].into_iter().filter(|l| is_here(l)) {
        let folder = folder(&format!("start-{language}"));
        let made = start(&folder, language);
        assert_eq!(said(&made).lines().count(), 3, "{}", said(&made));
        for user in USERS {
            let report = check(&folder, user, &[]);
            assert_eq!(outcomes(&report), [(1, "not yet")], "{language}: {report}");
            let wanted = "exit status of the command";
            assert!(report.to_string().contains(wanted), "{language}: {report}");
            for step in 2..=13 {
                let report = check(&folder, user, &["--step", &step.to_string()]);
                // Root has no step 6, and not every host has cgroups to give.
                let may = [vec![(step, "not yet")], vec![(step, "not here")]];
                let may = if [6, 11].contains(&step) { &may[..] } else { &may[..1] };
                assert!(may.contains(&outcomes(&report)), "{language}: {report}");
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn start_overwrites_nothing_and_leaves_nothing_halfway() {
    let above = folder("taken");
    let folder = above.join("folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("mine"), "mine").expect("a file");
    for place in ["", "mine", "mine/below", "missing/below", ".."] {
        let refused = start(&folder.join(place), "rust");
        assert!(!refused.status.success(), "{place}");
        assert!(said(&refused).contains("nothing was changed"), "{}", said(&refused));
    }
    assert_eq!(names(&above), ["folder"]);
    assert_eq!(names(&folder), ["mine"]);
    assert_eq!(fs::read_to_string(folder.join("mine")).expect("a file"), "mine");
}

#[test]
fn what_a_killed_start_has_left_is_removed_by_the_next_and_nothing_else() {
    let above = folder("killed");
    let mut ended = Command::new("true").spawn().expect("it starts");
    ended.wait().expect("our child");
    let left = [".box.start-", ".other.start-"].map(|name| format!("{name}{}", ended.id()));
    let [ours, his] = [std::process::id(), 1].map(|pid| format!(".box.start-{pid}"));
    let others = [ours, his, format!("box.start-{}", ended.id()), ".box-7".to_string()];
    for name in left.iter().chain(&others) {
        fs::create_dir_all(above.join(name).join("src")).expect("a folder");
    }
    let made = start(&above.join("box"), "rust");
    assert!(made.status.success(), "{}", said(&made));
    let mut wanted = [others.to_vec(), vec!["box".to_string()]].concat();
    wanted.sort();
    assert_eq!(names(&above), wanted);
}

#[test]
fn a_killed_start_leaves_no_package() {
    if !host::has("strace") {
        return;
    }
    let above = folder("killed-start");
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", "trace=/^rename", "-e"]);
    strace.args(["inject=/^rename:signal=KILL", env!("CARGO_BIN_EXE_exercises"), "start"]);
    let killed = strace.arg(above.join("box")).output().expect("it starts");
    assert_eq!(killed.status.signal(), Some(libc::SIGKILL), "{}", said(&killed));
    assert!(names(&above)[0].starts_with(".box.start-"), "{:?}", names(&above));
    assert!(start(&above.join("other"), "python").status.success());
    assert_eq!(names(&above), ["other"]);
}

/// The worked programs of the steps to the last that this language takes.
fn each_takes_its_step_and_not_the_next(language: &str, last: usize) {
    if !is_here(language) {
        return;
    }
    for (step, user) in (1..=last).flat_map(|step| USERS.map(|user| (step, user))) {
        let report = check(&solution(language, step), user, &[]);
        let outcomes = outcomes(&report);
        let what = format!("{language} {step} as {user:?}: {report}");
        assert!(outcomes.len() >= step, "{what}");
        for outcome in &outcomes[..step] {
            assert!(outcome.1 == "passed" || *outcome == (LIMITS, "not here"), "{what}");
        }
        // What is mounted in a mount namespace of another user namespace never reaches the host.
        let is_given = step == 4 && user == User::Ordinary;
        if let Some((_, next)) = outcomes.get(step) {
            assert_eq!(*next == "passed", is_given, "{what}");
        }
    }
}

#[test]
fn a_worked_program_in_rust_takes_its_step_and_not_the_next() {
    each_takes_its_step_and_not_the_next("rust", 13);
}

#[test]
fn a_worked_program_in_python_takes_its_step_and_not_the_next() {
    each_takes_its_step_and_not_the_next("python", 13);
}

#[test]
fn a_worked_program_in_shell_takes_its_step_and_not_the_next() {
    each_takes_its_step_and_not_the_next("shell", 8);
}

#[test]
fn a_mistake_is_told() {
    for (nth, mistake) in MISTAKES.iter().enumerate() {
        for user in USERS {
            let folder = PROGRAMS.join(format!("mistake-{nth}"));
            let report = check(&folder, user, &["--step", &mistake.step.to_string()]);
            let wanted = if user == User::Root { mistake.root } else { mistake.ordinary };
            let is_told = match (outcomes(&report)[0], wanted) {
                ((LIMITS, "not here"), _) => true,
                ((_, "not yet"), words) => !words.is_empty() && report.to_string().contains(words),
                ((_, outcome), words) => words.is_empty() && outcome == "passed",
            };
            assert!(is_told, "{user:?}: {:?} is changed: {report}", mistake.find);
        }
    }
}

#[test]
fn a_child_whose_parent_was_killed_before_it_has_asked_for_that_runs_nothing() {
    if !host::has("strace") {
        return;
    }
    // From step 11 on who is killed leaves a cgroup, and there is no stage here to go with it.
    for (language, step) in [("rust", 3), ("rust", 10), ("python", 3), ("python", 10)] {
        if is_here(language) {
            let program = solution(language, step).join("run");
            // On a busy host it may have asked before we killed its parent.
            let ends = (0..5).any(|_| without_parent(&program).contains("outside has ended"));
            assert!(ends, "{language} {step}");
        }
    }
}

/// Kills it while its child is held up at its prctl(2). Gives what was printed until all had ended.
fn without_parent(program: &Path) -> String {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl"]);
    strace.args(["-e", "inject=prctl:delay_enter=500000:when=1"]); // in microseconds
    // strace(1) ends as its child does: this one is not killed.
    strace.args(["sh", "-c", "\"$0\" sh -c 'echo runs; sleep 100'; exit 0"]).arg(program);
    let strace = Tool::start(&mut strace, DEADLINE).expect("it starts");
    // Its first children are to find out what ptrace(2) can do here.
    let shell = child_of(strace.pid(), |child| comm(child).is_ok_and(|name| name == "sh"));
    let program = child_of(shell, |_| true);
    let fd = pidfd(program).expect("it waits for its child");
    child_of(program, |child| nspid(child).is_ok_and(|pids| pids.ends_with(" 1")));
    assert_eq!(child_of(shell, |_| true), program, "the file descriptor is another's");
    send(&fd, Signal::SIGKILL).expect("it waits for its child");
    strace.end().unwrap_or_else(|refusal| panic!("{program:?} runs on: {refusal}")).1
}

/// Waits until it has one like this.
fn child_of(parent: Pid, is_it: impl Fn(&u32) -> bool) -> Pid {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(child) = children(parent).expect("proc(5)").into_iter().find(&is_it) {
            return Pid::from_raw(child as i32);
        }
    }
    panic!("{parent} has no such child");
}

#[test]
fn a_worked_program_is_formatted() {
    let sources = (1..=13).map(|step| PROGRAMS.join(format!("package/src/bin/rust-{step}.rs")));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--check", "--edition", "2024", "--config-path"]).arg(root).args(sources);
    let checked = rustfmt.output().expect("rustfmt, a component of Rust");
    assert!(checked.status.success(), "{}", said(&checked));
}
