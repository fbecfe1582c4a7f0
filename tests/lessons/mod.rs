//! The lessons as the tests see them: real programs, each run in a process of its own.

#![allow(dead_code)] // each test file uses its own part

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, thread};

/// The names of the lessons: the files in lessons/.
pub fn all() -> Vec<String> {
    let folder = workbook::contents::root().join("lessons");
    let files = fs::read_dir(folder).expect("lessons/ is a folder");
    let files = files.map(|file| file.expect("a readable entry").path());
    let mut names: Vec<_> = files.map(|file| stem(&file)).collect();
    names.sort();
    names
}

/// The lessons to test: all, or with `LESSON=uts-demo,pid-demo` those that somebody works on.
pub fn names() -> Vec<String> {
    let wanted = env::var("LESSON").unwrap_or_default();
    let is_wanted = |name: &String| wanted.is_empty() || wanted.split(',').any(|w| w == name);
    all().into_iter().filter(is_wanted).collect()
}

/// Those of them that can run here: each is tried, all at once. The others lack something that this machine does not have,
/// and are refused for that reason alone. In CI only hardware may be missing, or root.
pub fn here() -> Vec<String> {
    static HERE: OnceLock<Vec<String>> = OnceLock::new();
    let run = |name: &String| {
        let output = command(name).output().expect("the lesson starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let call = said.lines().find_map(|line| line.strip_prefix("call    "));
        let call = call.filter(|_| output.status.code() == Some(69)).unwrap_or_default();
        let lacks_tool = call.starts_with("execve(") && call.contains("ENOENT");
        let lacks_kernel = call.starts_with("open(\"/boot/vmlinuz-*\")"); // to boot as a guest
        let lacks_package = lacks_tool || lacks_kernel;
        assert!(!lacks_package || env::var_os("CI").is_none(), "{name}: {said}");
        // Root, a processor with KVM, a guest with the same kind of processor.
        let lacking = ["/proc/self/status: CapEff", "open(\"/dev/kvm\")", "execve(\"/init\")"];
        let lacks = lacks_package || lacking.iter().any(|lacking| call.starts_with(lacking));
        if lacks {
            eprintln!("not tried here: {name}: {call}");
        }
        !lacks
    };
    let run_all = || {
        thread::scope(|scope| {
            let runs: Vec<_> = names()
                .into_iter()
                .map(|name| scope.spawn(move || run(&name).then_some(name)))
                .collect();
            runs.into_iter().filter_map(|run| run.join().expect("it runs or is refused")).collect()
        })
    };
    HERE.get_or_init(run_all).clone()
}

/// Did sh(1), unshare(1) or strace(1) find a tool missing?
pub fn lacks_a_tool(printed: &[u8]) -> bool {
    let printed = String::from_utf8_lossy(printed);
    ["not found", "failed to execute", "Cannot find executable"]
        .iter()
        .any(|text| printed.contains(text))
}

/// Does it make namespaces as an ordinary user, so that a host that forbids them refuses it?
pub fn makes_namespaces(name: &str) -> bool {
    let marks = ["CLONE_NEW", "namespace_unless_root("];
    !needs_root(name) && marks.iter().any(|mark| source(name).contains(mark))
}

/// Does its source name a flag that begins so?
pub fn names_flag(name: &str, flag: &str) -> bool {
    source(name).contains(flag)
}

/// Does its chapter show who is in which namespace, as `workbook map` draws it?
pub fn has_a_map(name: &str) -> bool {
    names_flag(name, "CLONE_NEW")
}

/// Is it for root of the host alone?
pub fn needs_root(name: &str) -> bool {
    source(name).contains("needs_root()")
}

/// Can it do more for who has a cgroup: root, or whom root has given one?
pub fn wants_a_cgroup(name: &str) -> bool {
    source(name).contains("Group::make(")
}

fn source(name: &str) -> String {
    fs::read_to_string(source_file(name)).expect("a readable lesson")
}

/// The lesson itself.
pub fn source_file(name: &str) -> PathBuf {
    workbook::contents::root().join("lessons").join(name).with_extension("rs")
}

/// Does it have something to stand in?
pub fn has_shell(name: &str) -> bool {
    let help = command(name).arg("--help").output().expect("the lesson starts").stdout;
    String::from_utf8_lossy(&help).contains("--shell")
}

fn stem(file: &Path) -> String {
    file.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// The programs of other packages: before tests cargo builds those of the tests' own.
const OF_OTHERS: [(&str, &str); 2] = [("container-demo", "container"), ("exercises", "exercises")];

/// A lesson's program, or `exercises`: it stands beside the runner, which cargo names.
pub fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_workbook")).with_file_name(name);
    static BUILT: [OnceLock<()>; OF_OTHERS.len()] = [const { OnceLock::new() }; OF_OTHERS.len()];
    for ((other, package), built) in OF_OTHERS.iter().zip(&BUILT) {
        if name == *other && env::var_os("TRACES_WORKER").is_none() {
            built.get_or_init(|| build(&program, package));
        }
    }
    program
}

/// Has cargo build a program where it is expected.
fn build(program: &Path, package: &str) {
    let mut folders = program.ancestors().skip(1); // target/debug, target
    let profile = folders.next().expect("a profile").file_name().expect("a name");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package]);
    cargo.arg("--manifest-path").arg(workbook::contents::root().join("Cargo.toml"));
    cargo.arg("--target-dir").arg(folders.next().expect("a target directory"));
    cargo.arg("--profile").arg(if profile == "debug" { "dev".as_ref() } else { profile });
    assert!(cargo.status().expect("cargo starts").success(), "{program:?} cannot be built");
}

/// Where what the tests run keeps its progress: not where the reader's is.
pub const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// A lesson, ready to run: no input, none of the reader's settings, and it must not call cargo.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.stdin(Stdio::null()).env("XDG_STATE_HOME", STATE);
    for variable in ["CARGO", "SHELL", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

/// Each way to run a lesson: plainly, and without each of its ingredients.
pub fn runs(name: &str) -> Vec<Option<String>> {
    let controls = listed(name, "without").into_iter().map(|(control, _)| Some(control));
    std::iter::once(None).chain(controls).collect()
}

/// Tests each of these, a few at a time.
pub fn each<T: Sync>(all: &[T], test: impl Fn(&T) + Sync) {
    // A lesson waits a lot.
    let at_once = 2 * thread::available_parallelism().expect("a number").get();
    thread::scope(|scope| {
        for nth in 0..at_once {
            let share = all.iter().skip(nth).step_by(at_once);
            scope.spawn(|| share.for_each(&test));
        }
    });
}

/// The claims that a lesson declares: id and sentence.
pub fn claims(name: &str) -> Vec<(String, String)> {
    listed(name, "claim")
}

fn listed(name: &str, kind: &str) -> Vec<(String, String)> {
    let output = command(name).arg("--list").output().expect("the lesson starts");
    let text = String::from_utf8(output.stdout).expect("a lesson prints UTF-8");
    let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
    let pairs = lines.map(|line| line.trim().split_once(' ').expect("a name and a text"));
    pairs.map(|(name, text)| (name.to_string(), text.trim().to_string())).collect()
}
