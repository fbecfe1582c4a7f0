//! unshare(2) moves its caller, not its PID.
//!
//! unshare(2), unshare(1); pid_namespaces(7), time_namespaces(7).

use std::fs::read_dir;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use nix::fcntl::readlink;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, pause};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::{namespaces, unlike};
use workbook::tool::{self, Tool};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("unshare-demo.rs"),
    claims: &[
        ("A14", "unshare(2) moves its caller to several new namespaces at once."),
        ("uns-1", "A new PID namespace is for the next child, not for the caller."),
        ("uns-2", "A new time namespace is for the next child, too."),
        ("uns-3", "pid_for_children leads to the namespace that the child is in."),
        ("uns-4", "To ask for a PID namespace twice is EINVAL."),
        ("uns-5", "To ask for a user namespace with a second thread is EINVAL, too."),
        ("A15", "unshare(1) runs a program where the same call takes its caller."),
    ],
    shell: false,
    controls: &[Control { name: "thread", what: "the child has one thread", breaks: &["uns-5"] }],
};

fn main() -> ExitCode {
    LESSON.run(unshare_demo)
}

fn unshare_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let ours = namespaces("self")?;
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    let (mut from_child, mut child_to_outside) = child::ends_of("child", t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| inside(outside, &mut child_to_outside)),
        ForkResult::Parent { child } => child,
    };
    from_inside.start(pid, to_outside);
    let [_unshare, newtime, pid_now, link_now, for_children, twice, child] = from_inside.hear(t)?;
    let moved = unlike(&namespaces(pid)?, &ours);
    t.outside(format!("/proc/{pid}/ns unlike /proc/self/ns"), &moved);

    from_child.start(Pid::from_raw(child.parse().unwrap_or_default()), child_to_outside);
    let [pid_of_child, _threads, newuser] = from_child.hear(t)?;
    let its = namespaces(&child)?;
    let childs = unlike(&its, &ours);
    t.outside(format!("/proc/{child}/ns unlike /proc/self/ns"), &childs);
    drop(from_child); // it ends, and inside goes on
    let [for_children_now] = from_inside.hear(t)?;
    let run = run_by_unshare(t, &ours)?;

    t.claim("A14", moved == "ipc uts");
    let stays = pid_now == pid.to_string() && ours.contains(&link_now);
    t.claim("uns-1", stays && pid_of_child == "1" && childs.contains("pid"));
    match newtime.as_str() {
        "0" => t.claim("uns-2", !moved.contains("time") && childs.contains("time")),
        _ => t.open("uns-2", "a time namespace"),
    }
    // Before the child there is nothing to lead to: ENOENT. Since Linux 7.1 there is.
    let before = for_children == "-1 ENOENT" || for_children == for_children_now;
    t.claim("uns-3", before && its.contains(&for_children_now));
    t.claim("uns-4", twice == "-1 EINVAL");
    t.claim("uns-5", newuser == "-1 EINVAL");
    match run {
        Some(run) => t.claim("A15", run == moved),
        None => t.open("A15", "unshare(1)"),
    }
    t.by_hand(
        "strace -qqe trace=unshare unshare --map-root-user --uts --ipc true 2>&1",
        "unshare(CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER) = 0",
    );
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside. It has a child of its own.
fn inside(outside: &mut Outside, child_to_outside: &mut Outside) -> Result<(), Refusal> {
    let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID;
    outside.did("unshare(CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWPID)", unshare(flags))?;
    let newtime = unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME));
    outside.tell("unshare(CLONE_NEWTIME)", result(newtime));
    outside.tell("getpid()", getpid());
    outside.tell("readlink(\"/proc/self/ns/pid\")", link("pid"));
    outside.tell("readlink(\"/proc/self/ns/pid_for_children\")", link("pid_for_children"));
    outside.tell("unshare(CLONE_NEWPID)", result(unshare(CloneFlags::CLONE_NEWPID)));
    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            outside.give_up();
            child_to_outside.live(child)
        }
        ForkResult::Parent { child } => {
            child_to_outside.give_up();
            outside.tell("fork()", child); // the child waits until outside knows its number
            waitpid(child, None).named("waitpid(2)").and_then(child::not_killed)?;
        }
    }
    outside.tell("readlink(\"/proc/self/ns/pid_for_children\")", link("pid_for_children"));
    Ok(())
}
// ANCHOR_END: inside

/// The whole life of the child. It has all the capabilities that this call needs.
fn child(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("getpid()", getpid());
    if !outside.without("thread") {
        // It waits for a signal, and ends with the process.
        thread::Builder::new().spawn(pause).named("clone(CLONE_THREAD)")?;
    }
    let threads = read_dir("/proc/self/task").named("open(\"/proc/self/task\")")?.count();
    outside.tell("ls /proc/self/task | wc -l", threads);
    outside.tell("unshare(CLONE_NEWUSER)", result(unshare(CloneFlags::CLONE_NEWUSER)));
    Ok(())
}

fn link(name: &str) -> String {
    match readlink(&*format!("/proc/self/ns/{name}")) {
        Ok(namespace) => namespace.display().to_string(),
        Err(errno) => format!("-1 {errno:?}"),
    }
}

/// The kinds that are new for what unshare(1) runs. Without `--fork` it becomes that program and
/// keeps its PID. When cat(1) answers, it has.
fn run_by_unshare(t: &mut Transcript, ours: &[String]) -> Result<Option<String>, Refusal> {
    let Ok(unshare) = tool::find("unshare") else { return Ok(None) };
    let mut unshare = Command::new(unshare);
    let cat = unshare.args(["--uts", "--ipc", "--pid", "cat"]);
    let mut cat = Tool::start(cat, Duration::from_secs(60))?;
    t.outside("unshare --uts --ipc --pid cat & echo $!", cat.pid());
    cat.send("there\n");
    cat.until("there\n")?;
    let new = unlike(&namespaces(cat.pid())?, ours);
    t.outside(format!("/proc/{}/ns unlike /proc/self/ns", cat.pid()), &new);
    Ok(Some(new))
}
