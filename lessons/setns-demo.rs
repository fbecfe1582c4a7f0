//! setns(2) goes where another process is.
//!
//! setns(2), pidfd_open(2), nsenter(1); user_namespaces(7), pid_namespaces(7).

use std::fmt::Display;
use std::io::{Write as _, pipe, read_to_string};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, Pid, fork, gethostname, getpid, sethostname};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("setns-demo.rs"),
    claims: &[
        ("set-1", "setns(2) moves its caller into a namespace that exists."),
        ("set-2", "Who has no capabilities must join the user namespace first."),
        ("set-3", "Nobody can join the user namespace that they are in: EINVAL."),
        ("set-4", "With a pidfd one call joins several namespaces of a process."),
        ("set-5", "It moves no PID: the caller's next child is inside, as PID 2 here."),
        ("set-6", "From a sibling user namespace the link cannot be opened: EACCES."),
    ],
    shell: true,
    controls: &[Control {
        name: "user",
        what: "inside does not join the user namespace",
        breaks: &["set-1", "set-2", "set-4", "set-5"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(setns_demo)
}

fn setns_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
    let (a, mut from_a) = child::cloned("A", flags, t, |outside| {
        outside.did("sethostname(\"container\")", sethostname("container"))?;
        outside.wait();
        outside.tell("getpid()", getpid());
        Ok(())
    })?;
    let [_sethostname] = from_a.hear(t)?;
    let (_, mut from_inside) = child::forked("inside", t, |outside| inside(outside, a))?;
    let [_capset, early] = from_inside.hear(t)?;
    if !t.without("user") {
        let [_setns_user] = from_inside.hear(t)?;
    }
    let [again, by_pidfd, name, pid, _fork, pid_of_child] = from_inside.hear(t)?;
    let (_, mut from_sibling) = child::forked("sibling", t, |outside| sibling(outside, a))?;
    let [_unshare, opened] = from_sibling.hear(t)?;
    from_a.go_on();
    let [pid_of_a] = from_a.hear(t)?;

    t.claim("set-1", name == "container");
    t.claim("set-2", early == "-1 EPERM" && name == "container");
    t.claim("set-3", again == "-1 EINVAL");
    t.claim("set-4", by_pidfd == "0" && name == "container" && pid_of_child == "2");
    t.claim("set-5", pid != "2" && pid_of_child == "2" && pid_of_a == "1");
    match opened.as_str() {
        // Not even the folder of a process that is hidden can be opened: hidepid of proc(5).
        "-1 EPERM" | "-1 ENOENT" => t.open("set-6", "a /proc without hidepid"),
        _ => t.claim("set-6", opened == "-1 EACCES"),
    }
    t.by_hand(
        "unshare -ru sh -c 'strace -qqe setns nsenter -t $$ -u true 2>&1'",
        "setns(3, CLONE_NEWUTS) = 0",
    );
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside. It begins outside, as an ordinary user.
fn inside(outside: &mut Outside, a: Pid) -> Result<(), Refusal> {
    outside.did("capset({...}, {effective=0, permitted=0, ...})", no_capabilities())?;
    let early = link(a, "uts").and_then(|uts| setns(uts, CloneFlags::CLONE_NEWUTS));
    outside.tell(format!("setns(open(\"/proc/{a}/ns/uts\"), CLONE_NEWUTS)"), result(early));
    if !outside.without("user") {
        // The owner of a user namespace has every capability there, also from outside.
        let joined = link(a, "user").and_then(|user| setns(user, CloneFlags::CLONE_NEWUSER));
        outside.did(&format!("setns(open(\"/proc/{a}/ns/user\"), CLONE_NEWUSER)"), joined)?;
    }
    let again = link("self", "user").and_then(|ours| setns(ours, CloneFlags::CLONE_NEWUSER));
    outside.tell("setns(open(\"/proc/self/ns/user\"), CLONE_NEWUSER)", result(again));
    let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
    let joined = pidfd_open(a).and_then(|a| setns(a, flags));
    let call = format!("setns(pidfd_open({a}, 0), CLONE_NEWUTS|CLONE_NEWPID)");
    if !outside.without("user") {
        joined.named(&*call)?; // EINVAL: Linux before 5.8
    }
    outside.tell(call, result(joined));
    outside.tell("gethostname()", gethostname().named("gethostname()")?.display());
    outside.tell("getpid()", getpid());
    child_of_inside(outside)
}
// ANCHOR_END: inside

/// Makes a child that tells us which PID it has.
fn child_of_inside(outside: &mut Outside) -> Result<(), Refusal> {
    let (mut from_child, mut to_parent) = pipe().named("pipe2(O_CLOEXEC)")?;
    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            let _ = write!(to_parent, "{}", getpid()); // if nobody reads it, nobody is there
            outside.exit()
        }
        ForkResult::Parent { child } => outside.tell("fork()", child),
    }
    drop(to_parent);
    let pid = read_to_string(&mut from_child).named("read(2)")?;
    wait().named("wait(2)").and_then(child::not_killed)?;
    outside.tell("getpid()", pid);
    Ok(())
}

/// The whole life of a process in another user namespace, beside that of A.
fn sibling(outside: &mut Outside, a: Pid) -> Result<(), Refusal> {
    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    outside.tell(format!("open(\"/proc/{a}/ns/user\")"), result(link(a, "user").map(drop)));
    Ok(())
}

/// An open link keeps its namespace alive, and setns(2) takes it.
fn link(process: impl Display, kind: &str) -> nix::Result<OwnedFd> {
    open(&*format!("/proc/{process}/ns/{kind}"), OFlag::O_RDONLY, Mode::empty())
}

/// An ordinary user has none: capset(2).
fn no_capabilities() -> nix::Result<()> {
    let header = [0x2008_0522_u32, 0]; // the third version, and this process
    let none = [0_u32; 6]; // three sets of 64 bits
    // SAFETY: the kernel reads both before it returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &header, &none) }).map(drop)
}

fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers and makes a file descriptor.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
