//! Every lesson on every host: it runs, or it says what this host refuses and why.
//!
//! A line of [`HOSTS`] is a host, which `tests/host` makes. What comes of it is one table, which the
//! book shows in "On your machine". What cannot be tried here keeps its accepted sign. guest-demo
//! takes seconds, so it is tried only where a machine, a file or a process may be missing;
//! `EVERY_CELL=1` tries it everywhere.

mod accepted;
mod census;
mod host;
mod lessons;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::{env, thread};

use census::{Census, Pidfd};
use host::{Cgroup, Host};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use workbook::contents;

/// A column of the table: hosts that are to a lesson as one, and in what words it may say why it
/// cannot run there. The table names the first cause.
struct Column {
    hosts: &'static [Host],
    words: &'static str,
    causes: &'static [&'static str],
}

const fn on(
    hosts: &'static [Host],
    words: &'static str,
    causes: &'static [&'static str],
) -> Column {
    Column { hosts, words, causes }
}

const SYS_ADMIN: nix::libc::c_ulong = 21; // linux/capability.h
const SETFCAP: nix::libc::c_ulong = 31;

use Host::*;
#[rustfmt::skip] // a line each
const HOSTS: &[Column] = &[
    on(&[Plain], "nothing is refused", &[]),
    on(&[SharedRoot], "/ is shared, as systemd makes it", &[]),
    on(&[Container], "a container, whose PID 1 the lesson is", &[]),
    on(&[NoUserNamespaces], "user.max_user_namespaces = 0", &["user.max_user_namespaces is 0"]),
    on(&[No("pid")], "user.max_pid_namespaces = 0", &["user.max_pid_namespaces is 0"]),
    on(&[No("mnt")], "user.max_mnt_namespaces = 0", &["user.max_mnt_namespaces is 0"]),
    on(&[No("uts")], "user.max_uts_namespaces = 0", &["user.max_uts_namespaces is 0"]),
    on(&[No("ipc")], "user.max_ipc_namespaces = 0", &["user.max_ipc_namespaces is 0"]),
    on(&[No("net")], "user.max_net_namespaces = 0", &["user.max_net_namespaces is 0"]),
    on(&[No("cgroup")], "user.max_cgroup_namespaces = 0", &["user.max_cgroup_namespaces is 0"]),
    on(&[No("time")], "user.max_time_namespaces = 0", &["user.max_time_namespaces is 0"]),
    on(&[DeepestUser], "user namespaces as deep as they go", &["levels of them"]),
    on(&[DeepestPid], "PID namespaces as deep as they go", &["levels of them"]),
    on(&[Unmapped], "a user namespace without a map", &["no place in the map"]),
    on(&[RootWithout(&[SYS_ADMIN])], "root without CAP_SYS_ADMIN", &[]),
    on(&[RootWithout(&[SYS_ADMIN, SETFCAP])], "and without CAP_SETFCAP", &["lacks CAP_SETFCAP"]),
    on(&[Seccomp], "Docker's seccomp filter", &["a seccomp filter"]),
    on(&[Docker], "Docker, as root", &["a seccomp filter"]),
    on(&[NoPidfd], "a kernel without pidfd_open", &["no pidfd_open"]),
    on(&[NoClone3], "a filter that hides clone3", &["a seccomp filter hides clone3", "a seccomp filter is on all"]),
    on(&[SecurityModule], "a security module that denies", &["a Linux security module"]),
    on(&[NoTime], "a kernel without time namespaces", &["no time namespaces"]),
    on(&[NoNewPrivileges], "no_new_privs", &[]),
    on(&[CoveredProc], "files of /proc covered, as in Docker", &["parts of /proc are covered"]),
    on(&[ReadOnlyProcSys], "/proc/sys read-only, as in Docker", &["parts of /proc are covered", "/proc/sys is mounted read-only"]),
    on(&[ReadOnlyProc], "/proc read-only", &["/proc is mounted read-only"]),
    on(&[NoProc], "no /proc", &["no proc file system"]),
    on(&[ForeignProc], "another PID namespace's /proc", &["in another PID namespace"]),
    on(&[HiddenProc], "/proc with hidepid", &["hidepid"]),
    on(&[Chroot], "a chroot", &["we are in a chroot"]),
    on(&[ReadOnlyRoot], "/ read-only", &[]),
    on(&[FullTmpdir, ReadOnlyTmpdir], "TMPDIR full, or read-only", &[]),
    on(&[NoKvm], "nothing in /dev", &["there is no /dev", "no directory /dev/shm", "no KVM", "KVM is not loaded"]),
    on(&[CgroupV2], "/sys/fs/cgroup is v2", &[]),
    on(&[CgroupV1], "/sys/fs/cgroup is v1 without v2", &[]),
    on(&[NoCgroup], "no /sys/fs/cgroup", &["no directory /sys/fs/cgroup", "/sys is read-only or partly covered"]),
    on(&[FreeProcesses(0)], "no free PID", &["a limit on processes"]),
    on(&[FreeProcesses(1)], "1 free PID", &["a limit on processes"]),
    on(&[FreeProcesses(2)], "2 free PIDs", &["a limit on processes"]),
    on(&[FreeProcesses(3)], "3 free PIDs", &["a limit on processes"]),
    on(&[FreeProcesses(5)], "5 free PIDs", &["a limit on processes"]),
    on(&[Memory(32 << 20), Memory(64 << 20)], "32 MB of memory, 64 MB", &["a limit on memory"]),
    on(&[Memory(1 << 30)], "1 GB of memory", &["a limit on memory"]),
    on(&[OpenFiles(4), OpenFiles(30)], "4 open files, 30 open files", &["a limit on open files"]),
    on(&[OpenFiles(40)], "40 open files", &["a limit on open files"]),
    on(&[FullDisk], "output to a full disk", &["is full"]),
    on(CLOSED, "stdin, stdout, stderr closed, any", &[]),
    on(&[Shell("/no/such/shell"), Shell("/etc/passwd")], "--shell, $SHELL is no program", &[]),
    on(&[NoShell], "--shell, and no /bin/sh", &["/bin/sh"]),
    on(&[NoEnvironment], "no environment, so no PATH", &["PATH is not set"]),
    on(&[NoHome], "no HOME", &[]),
];

const CLOSED: &[Host] = &[
    Closed(&[0]),
    Closed(&[1]),
    Closed(&[2]),
    Closed(&[0, 1]),
    Closed(&[0, 2]),
    Closed(&[1, 2]),
    Closed(&[0, 1, 2]),
];

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const RUNS: char = '.';
const RUNS_IN_PART: char = 'o';
const REFUSED: char = 'x';
/// What cannot be asked: `--shell` of a lesson that has nothing to stand in.
const NOT_ASKED: char = '-';
const NOT_KNOWN: char = '?';
const OF_CGROUPS: [&str; 3] = ["cgroup-demo", "limits-demo", "freeze-demo"];
const ROOT: &str = "needs root of the host";
const DEADLINE: Duration = Duration::from_secs(60);

/// What came of a lesson on a host.
struct Run {
    code: Option<i32>,
    /// The line `call` of a refusal.
    call: String,
    /// Its line `cause`.
    cause: String,
    stdout: String,
    stderr: String,
}

#[test]
fn every_lesson_runs_on_every_host_or_says_why_not() {
    let mut table = Table::accepted();
    let here = lessons::here();
    let mut faults = Vec::new();
    for (nth, column) in HOSTS.iter().enumerate() {
        let wanted = here.iter().filter(|lesson| table.is_compared(lesson));
        let wanted = wanted.filter(|lesson| *lesson != "guest-demo" || matters_to_a_guest(column));
        for (lesson, sign) in column_of(column, wanted.cloned().collect()) {
            match sign {
                Ok(sign) => table.set(&lesson, nth, sign),
                Err(fault) => faults.push(fault),
            }
        }
    }
    println!("{table}");
    assert!(faults.is_empty(), "{} faults\n\n{}", faults.len(), faults.join("\n\n"));
    accepted::assert_accepted("tests@hosts", &table.to_string());
}

fn matters_to_a_guest(column: &Column) -> bool {
    let matters = |host: &Host| {
        matches!(
            host,
            Plain
                | NoProc
                | ForeignProc
                | FreeProcesses(0..=3)
                | OpenFiles(..32)
                | Memory(_)
                | NoEnvironment
        )
    };
    env::var_os("EVERY_CELL").is_some() || column.hosts.iter().any(matters)
}

/// The signs of the lessons on these hosts; or what went wrong. Two lessons at a time, and what they
/// leave behind is looked for when all have run.
fn column_of(column: &Column, lessons: Vec<String>) -> Vec<(String, Result<char, String>)> {
    let before = Census::take(contents::root());
    let [ordinary, root] = [false, geteuid().is_root()].map(|as_root| {
        let make: Make = if as_root { host::run_on_as_root } else { host::run_on };
        column.hosts.iter().map(|host| doctor(*host, make)).collect::<Vec<_>>()
    });
    let (queue, signs) = (Mutex::new(lessons), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(lesson) = queue.lock().expect("no panic").pop() else { return };
            let doctors = if is_run_as_root(&lesson) { &root } else { &ordinary };
            if let Some(sign) = sign(&lesson, column, doctors) {
                signs.lock().expect("no panic").push((lesson, sign));
            }
        }
    };
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(work);
        }
    });
    let signs = signs.into_inner().expect("no panic");
    if signs.iter().all(|(_, sign)| sign.is_ok()) {
        before.assert_same_within(Duration::ZERO, column.words);
    } else {
        census::processes_left(DEADLINE); // who was killed had no time to tidy up
    }
    signs
}

/// The one sign of a lesson on all hosts of a column. `None` if this machine cannot make one.
fn sign(lesson: &str, column: &Column, doctors: &[Option<Value>]) -> Option<Result<char, String>> {
    let mut signs = BTreeSet::new();
    for (host, doctor) in column.hosts.iter().zip(doctors) {
        if is_played(lesson, *host) {
            return Some(Ok(NOT_ASKED));
        }
        let run = run(lesson, *host)?;
        let fault = match (run.sign(lesson, *host, column.causes), doctor) {
            (Err(fault), _) => fault.to_string(),
            (Ok(sign), Some(doctor)) if !run.is_as_said(&doctor[lesson], sign) => {
                format!("doctor says {}", doctor[lesson])
            }
            (Ok(NOT_KNOWN), _) => continue, // stdout is closed: nobody can see it
            (Ok(sign), _) => {
                signs.insert(sign);
                continue;
            }
        };
        let Run { code, stdout, stderr, .. } = run;
        return Some(Err(format!("{lesson} on {host:?}: {fault}: {code:?}\n{stdout}{stderr}")));
    }
    let one = signs.first().copied().filter(|_| signs.len() == 1);
    Some(one.ok_or(format!("{lesson}: {signs:?} on {:?}", column.hosts)))
}

/// How to make a host around a program.
type Make = fn(&mut Command, Host) -> &mut Command;

fn is_run_as_root(lesson: &str) -> bool {
    geteuid().is_root() && lessons::needs_root(lesson)
}

/// Some hosts are played, by a filter, and not for all: CRIU notices the filter; a kernel without
/// time namespaces has no link to one, and clone3(2) refuses them where a filter cannot look. And
/// whether root of a user namespace has cgroups is a matter of who has made it.
fn is_played(lesson: &str, host: Host) -> bool {
    match host {
        SecurityModule | NoPidfd => lesson == "criu-demo",
        NoTime => ["criu-demo", "namespaces-demo", "clone-demo"].contains(&lesson),
        RootWithout(_) | Docker => ["limits-demo", "freeze-demo"].contains(&lesson),
        _ => false,
    }
}

/// Runs a lesson on a host. `None` if this machine cannot make that host.
fn run(lesson: &str, host: Host) -> Option<Run> {
    let mut command = lessons::command(lesson);
    let [mut stdout, mut stderr] = [(); 2].map(|()| memory());
    command.stdout(stdout.try_clone().expect("a copy"));
    command.stderr(stderr.try_clone().expect("a copy"));
    let mut cgroup = None;
    if let (FreeProcesses(free), true) = (host, geteuid().is_root()) {
        cgroup = Some(Cgroup::of(free + 1)?);
    }
    if let Some(cgroup) = &cgroup {
        cgroup.hold(&mut command);
    }
    let make: Make = if is_run_as_root(lesson) { host::run_on_as_root } else { host::run_on };
    make(&mut command, host);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{lesson} on {host:?}: {error}"));
    let process = Pidfd::open(Pid::from_raw(child.id() as i32)).expect("our child");
    if !process.ended_within(DEADLINE) {
        process.send(Signal::SIGKILL);
    }
    let code = child.wait().expect("our child").code();
    let [stdout, stderr] = [&mut stdout, &mut stderr].map(text);
    let line = |name| stderr.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let [call, cause] = ["call    ", "cause   "].map(|name| line(name).to_string());
    Some(Run { code, call, cause, stdout, stderr })
}

/// A file without a name: unlike a pipe it is never full, and has no end to wait for.
fn memory() -> File {
    File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC).expect("memfd_create(2)"))
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a memfd");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Run {
    /// What the table says of it; or what is wrong with it.
    fn sign(&self, lesson: &str, host: Host, causes: &[&str]) -> Result<char, &'static str> {
        let stdout_is_closed = matches!(host, Closed(streams) if streams.contains(&1));
        let lines = |start| self.stdout.lines().filter(|line| line.starts_with(start)).count();
        let [holds, open, fails] = ["holds ", "open ", "FAILS "].map(lines);
        let is_cause = |cause: &&str| self.cause.contains(cause);
        match self.code {
            _ if fails > 0 => Err("a wrong claim"),
            _ if ["panicked", "os error"].iter().any(|words| self.stderr.contains(words)) => {
                Err("bare words")
            }
            Some(0) if stdout_is_closed => Ok(NOT_KNOWN),
            Some(0) if holds + open != lessons::claims(lesson).len() => Err("not all claims"),
            Some(0) => Ok(if open == 0 { RUNS } else { RUNS_IN_PART }),
            Some(2) if self.stderr.contains("'--shell'") => Ok(NOT_ASKED),
            Some(69) if holds + open > 0 && host != NoShell => Err("refused after a claim"),
            // On a host that is made of a user namespace nobody is root of the host.
            Some(69) if lessons::needs_root(lesson) && is_cause(&ROOT) => Ok(REFUSED),
            Some(69) if causes.iter().any(is_cause) => Ok(REFUSED),
            Some(69) => Err("a wrong cause"),
            _ => Err("it did not end as lessons do"),
        }
    }

    /// Is it what doctor says: does it run, and if not, with which errno and why? A tool's refusal
    /// has no errno.
    fn is_as_said(&self, said: &Value, sign: char) -> bool {
        let refusal = &said["refusal"];
        let errno = self.call.split(" = -1 ").nth(1).and_then(|rest| rest.split(' ').next());
        match sign {
            RUNS => said["verdict"] == "runs",
            RUNS_IN_PART => said["verdict"] == "partly",
            _ => {
                said["verdict"] == "cannot"
                    && refusal["cause"] == self.cause
                    && errno.is_none_or(|errno| refusal["errno"] == errno)
            }
        }
    }
}

/// What doctor says there of each lesson, where that is to be what a lesson does. It tries one thing
/// at a time, so how many processes a lesson needs it cannot tell; nor how many files CRIU opens.
fn doctor(host: Host, make: Make) -> Option<Value> {
    let is_of_one_run = matches!(host, FullDisk | Closed(_) | Shell(_) | NoShell | Memory(_));
    if is_of_one_run || matches!(host, FreeProcesses(_) | OpenFiles(32..)) {
        return None;
    }
    let mut command = lessons::command("workbook");
    let output = make(command.args(["doctor", "--json"]), host).output();
    let output = output.expect("doctor starts");
    let mut said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("doctor on {host:?}: {error}: {output:?}"));
    let lessons = said["lessons"].as_array_mut().expect("a list").drain(..);
    let name = |said: &Value| said["lesson"].as_str().expect("a name").to_string();
    Some(lessons.map(|said| (name(&said), said)).collect())
}

/// The signs: a line a lesson, in the book's order, a letter a host.
struct Table {
    signs: BTreeMap<String, Vec<char>>,
    not_compared: BTreeSet<String>,
}

impl Table {
    fn accepted() -> Self {
        let file = contents::root().join("tests/snapshots/tests@hosts.snap");
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut signs: BTreeMap<_, _> = lessons::all()
            .into_iter()
            .map(|lesson| (lesson, vec![NOT_KNOWN; HOSTS.len()]))
            .collect();
        for line in text.lines() {
            let Some((lesson, accepted)) = line.split_once(' ') else { continue };
            if let Some(signs) = signs.get_mut(lesson) {
                signs.iter_mut().zip(accepted.trim().chars()).for_each(|(sign, c)| *sign = c);
            }
        }
        Self { signs, not_compared: BTreeSet::new() }
    }

    /// Notes what came of a lesson on the host of this column. The first is the plain one: on a
    /// machine with other cgroups, the lessons on them leave other claims open, and are not compared.
    fn set(&mut self, lesson: &str, column: usize, sign: char) {
        let Some(signs) = self.signs.get_mut(lesson) else { return };
        if column == 0 && OF_CGROUPS.contains(&lesson) && ![sign, NOT_KNOWN].contains(&signs[0]) {
            eprintln!("not tried here, where the cgroup is another: {lesson}");
            self.not_compared.insert(lesson.to_string());
        } else {
            signs[column] = sign;
        }
    }

    fn is_compared(&self, lesson: &str) -> bool {
        !self.not_compared.contains(lesson)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(f, "$ cargo test --test hosts -- --nocapture\n")?;
        writeln!(f, "{:18} {}", "", &LETTERS[..HOSTS.len()])?;
        for contents::Entry { name, .. } in contents::lessons().expect("SUMMARY.md") {
            writeln!(f, "{name:18} {}", self.signs[&name].iter().collect::<String>())?;
        }
        writeln!(f, "\n. runs   o runs, with a claim left open   x refused   - cannot be asked\n")?;
        for (letter, Column { words, causes, .. }) in LETTERS.chars().zip(HOSTS) {
            let cause = causes.first().copied().unwrap_or_default();
            writeln!(f, "{}", format!("{letter}  {words:36}  {cause}").trim_end())?;
        }
        Ok(())
    }
}
