//! PID 1 inside, an ordinary process outside.
//!
//! clone(2) with CLONE_NEWPID; pid_namespaces(7).

use std::fs::read_to_string;
use std::process::ExitCode;

use nix::fcntl::readlink;
use nix::libc::SIGCHLD;
use nix::sched::{CloneFlags, clone};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getpid, getppid};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("pid-demo.rs"),
    claims: &[
        ("A13", "A flag to clone(2) puts the child into a new namespace."),
        ("A20", "The first process in a new PID namespace has PID 1 there."),
        ("pid-1", "The next process there is not PID 1 but PID 2."),
        ("pid-2", "A parent outside has no PID there: getppid() gives 0."),
        ("A11", "A process in a PID namespace still has a PID on the host."),
        ("A9", "Its PID inside is not its PID on the host."),
    ],
    shell: true,
    controls: &[Control {
        name: "newpid",
        what: "clone(2) without CLONE_NEWPID makes an ordinary process",
        breaks: &["A13", "A20", "pid-1", "pid-2", "A9"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(pid_demo)
}

fn pid_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    t.outside("getpid()", getpid());

    // ANCHOR: clone
    let (flags, call) = if t.without("newpid") {
        (CloneFlags::empty(), "clone(SIGCHLD)")
    } else {
        (CloneFlags::CLONE_NEWPID, "clone(CLONE_NEWPID|SIGCHLD)")
    };
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(inside));
    // From here on there are two processes. Without CLONE_VM the new one has a copy of
    // our memory, as after fork(2). SIGCHLD is what we get when it ends: waitpid(2)
    // needs that.
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }.named(call)?;
    // ANCHOR_END: clone
    t.outside(call, pid);
    from_inside.start(pid, to_outside);

    let [pid_inside, parent_inside, next_inside] = from_inside.hear(t)?;

    let nspid = nspid(&format!("/proc/{pid}/status"))?;
    let ours = namespace("/proc/self/ns/pid")?;
    let its = namespace(&format!("/proc/{pid}/ns/pid"))?;
    t.outside(format!("/proc/{pid}/status: NSpid"), &nspid);
    t.outside("readlink(\"/proc/self/ns/pid\")", &ours);
    t.outside(format!("readlink(\"/proc/{pid}/ns/pid\")"), &its);

    t.claim("A13", its != ours);
    t.claim("A20", pid_inside == "1");
    t.claim("pid-1", next_inside == "2");
    t.claim("pid-2", parent_inside == "0");
    t.claim("A11", nspid.split(' ').next() == Some(&pid.to_string()));
    t.claim("A9", nspid == format!("{pid} {pid_inside}"));
    t.by_hand("unshare --map-root-user --pid --fork sh -c 'echo $$'", &pid_inside);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("getpid()", getpid());
    // Our parent is in another PID namespace, where we see nobody: the kernel says 0.
    outside.tell("getppid()", getppid());

    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => outside.exit(),
        ForkResult::Parent { child } => {
            outside.tell("fork()", child);
            waitpid(child, None).named("waitpid(2)")?;
        }
    }
    Ok(())
}
// ANCHOR_END: inside

/// Its PIDs, from this proc's namespace down to its own: proc_pid_status(5), Linux 4.1.
fn nspid(file: &str) -> Result<String, Refusal> {
    let status = read_to_string(file).named(format!("open({file:?})"))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    Ok(pids.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The namespace behind a link of /proc: its kind and inode, namespaces(7).
fn namespace(link: &str) -> Result<String, Refusal> {
    let target = readlink(link).named(format!("readlink({link:?})"))?;
    Ok(target.display().to_string())
}
