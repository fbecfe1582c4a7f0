//! A lesson that gets no memory, or no process, says so in the middle of whatever it does: exit 69
//! with that cause, nothing left. The limits go up in steps until the lesson holds.

mod census;
mod host;
mod lessons;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use census::Census;
use host::Host;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::geteuid;
use workbook::contents;

/// Sets a limit on what the program may have, before it starts.
fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, limit: u64) -> &mut Command {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    let set = move || {
        // SAFETY: the kernel reads the struct, which lives until the call returns.
        Ok(Errno::result(unsafe { libc::setrlimit(resource, &limit) }).map(drop)?)
    };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(set) }
}

fn with_memory(program: &str, bytes: u64) -> Command {
    let mut command = lessons::command(program);
    limit(&mut command, libc::RLIMIT_AS, bytes);
    command
}

/// Root has no limit on processes. For it somebody stands in who has no other process. Any other
/// user has some; in a user namespace only those there are counted, since Linux 5.14.
fn with_processes(lesson: &str, processes: u64) -> Command {
    const NOBODY_ELSE: u32 = 54321;
    let mut command = lessons::command(lesson);
    if geteuid().is_root() {
        command.uid(NOBODY_ELSE).gid(NOBODY_ELSE);
    } else {
        host::run_on(&mut command, Host::SharedRoot);
    }
    limit(&mut command, libc::RLIMIT_NPROC, processes);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Tools take long, so their lessons are tried with fewer limits.
fn starts_tools(lesson: &str) -> bool {
    lessons::all().iter().any(|name| name == lesson) && lessons::names_flag(lesson, "tool::find(")
}

/// With less than this many bytes a program does not come to its `main`: execve(2), the dynamic
/// loader or Rust's own start end it.
fn enough_to_start(program: &str) -> u64 {
    let mut steps = (1 << 20..16 << 20).step_by(64 << 10);
    let starts = |limit: &u64| {
        let output = with_memory(program, *limit).output();
        output.is_ok_and(|output| output.status.code() == Some(69))
    };
    steps.find(starts).expect("a program that starts is refused")
}

#[test]
fn a_limit_on_memory_is_named_or_leaves_enough() {
    let _turn = census::turn();
    for program in lessons::here().iter().map(String::as_str).chain(["workbook"]) {
        let before = Census::take(contents::root());
        let refused = |limit| {
            let output = with_memory(program, limit).output().expect("it starts");
            let said = said(&output);
            let named = said.contains("cause   a limit on memory (ulimit -v)");
            let expected = if named { 69 } else { 0 };
            assert_eq!(output.status.code(), Some(expected), "{program}, {limit} bytes: {said}");
            said.contains("call    mmap(NULL, ")
        };
        // Where the lesson comes to run at all, it has the least memory to do it with.
        let near = if starts_tools(program) { 1 << 20 } else { 4096 };
        let (mut low, mut high) = (enough_to_start(program), 256 << 20);
        assert!(refused(low) && !refused(high), "{program}: one of {low} and {high} bytes");
        while high - low > near {
            let middle = low.midpoint(high);
            *if refused(middle) { &mut low } else { &mut high } = middle;
        }
        before.assert_same_within(Duration::ZERO, program);
    }
}

#[test]
fn a_limit_on_processes_is_named_or_leaves_enough() {
    let _turn = census::turn();
    for lesson in lessons::here().into_iter().filter(|lesson| !lessons::needs_root(lesson)) {
        let before = Census::take(contents::root());
        let all: Vec<_> = (1..32).collect();
        for limit in if starts_tools(&lesson) { vec![1, 2, 3, 4] } else { all } {
            let output = match with_processes(&lesson, limit).output() {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    eprintln!("not tried, only root may run what is built here: {lesson}");
                    return;
                }
                output => output.expect("the lesson starts"),
            };
            let said = said(&output);
            if output.status.success() || said.contains("open(\"/dev/kvm\")") {
                break;
            }
            assert_eq!(output.status.code(), Some(69), "{lesson}, {limit} processes: {said}");
            let named = said.contains("cause   a limit on processes");
            assert!(named && limit < 31, "{lesson}, {limit} processes: {said}");
        }
        before.assert_same_within(Duration::ZERO, &lesson);
    }
}
