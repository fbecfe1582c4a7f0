//! PID 1 gets orphans, and has to reap them.
//!
//! wait(2), "NOTES"; pid_namespaces(7), "The namespace init process".

use std::fs::read_to_string;
use std::process::ExitCode;

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, pause};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::{mounts, proc, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("orphan-demo.rs"),
    claims: &[
        ("orph-1", "The new parent of an orphan is PID 1 of its namespace."),
        ("orph-2", "What has ended is a zombie until its parent waits for it."),
        ("orph-3", "No signal removes a zombie, not even SIGKILL."),
        ("orph-4", "When PID 1 waits for it, it is gone."),
    ],
    shell: true,
    controls: &[Control {
        name: "wait",
        what: "PID 1 does not wait for the orphan",
        breaks: &["orph-4"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(orphan_demo)
}

fn orphan_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let (_, mut from_inside) = child::cloned("inside", flags, t, inside)?;

    let [_private, _proc] = from_inside.hear(t)?;
    let [_parent, _orphan, parent_before] = from_inside.hear(t)?;
    let [_waitpid, parent_after] = from_inside.hear(t)?;
    let [_kill, ended, _again, still] = from_inside.hear(t)?;
    if !t.without("wait") {
        let [_waitpid] = from_inside.hear(t)?;
    }
    let [left] = from_inside.hear(t)?;

    t.claim("orph-1", parent_before == "2" && parent_after == "1");
    t.claim("orph-2", ended == "Z (zombie)");
    t.claim("orph-3", still == "Z (zombie)");
    t.claim("orph-4", left == "-1 ESRCH");
    t.by_hand(
        "unshare -rpf --mount-proc sh -c 'sh -c \"sleep 9 &\"; ps -o ppid= -p 3'",
        parent_after,
    );
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of PID 1.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.did(mounts::MAKE_PRIVATE, mounts::make_private())?;
    outside.did(mounts::MOUNT_PROC, mounts::mount_proc())?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let parent = match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => parent_of_the_orphan(outside)?,
        ForkResult::Parent { child } => child,
    };
    waitpid(parent, None).named("waitpid(2)").and_then(child::not_killed)?;
    outside.tell(format!("waitpid({parent}, NULL, 0)"), parent);

    // Who is there besides us? We have never made it.
    let pids = proc::pids()?;
    let orphan = Pid::from_raw(pids.into_iter().max().unwrap_or_default() as i32);
    outside.tell(format!("/proc/{orphan}/status: PPid"), status(orphan, "PPid")?);

    for _ in 0..2 {
        outside.did(&format!("kill({orphan}, SIGKILL)"), kill(orphan, Signal::SIGKILL))?;
        // Waits until it has ended, and with WNOWAIT leaves it as it is.
        waitid(Id::Pid(orphan), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).named("waitid(2)")?;
        outside.tell(format!("/proc/{orphan}/status: State"), status(orphan, "State")?);
    }
    if !outside.without("wait") {
        waitpid(orphan, None).named("waitpid(2)")?;
        outside.tell(format!("waitpid({orphan}, NULL, 0)"), orphan);
    }
    outside.tell(format!("kill({orphan}, 0)"), result(kill(orphan, None)));
    Ok(())
}
// ANCHOR_END: inside

// ANCHOR: parent
/// The whole life of PID 2. It has a child and does not wait for it.
fn parent_of_the_orphan(outside: &mut Outside) -> Result<Pid, Refusal> {
    outside.tell("getpid()", getpid());
    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => pause(), // the whole life of PID 3
        ForkResult::Parent { child } => {
            outside.tell("fork()", child);
            outside.tell(format!("/proc/{child}/status: PPid"), status(child, "PPid")?);
        }
    }
    outside.exit()
}
// ANCHOR_END: parent

/// A field of proc_pid_status(5).
fn status(pid: Pid, field: &str) -> Result<String, Refusal> {
    let file = format!("/proc/{pid}/status");
    let text = read_to_string(&file).named(format!("open({file:?})"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.unwrap_or_default().trim().to_string())
}
