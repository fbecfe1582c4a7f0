//! Signals go down, never up or across.
//!
//! kill(2) from inside, from beside and from above; pid_namespaces(7).

use std::process::ExitCode;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pause};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::{mounts, proc, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("isolation-demo.rs"),
    claims: &[
        ("A8", "A process lists and signals those in its namespace, nobody above."),
        ("iso-1", "Nobody beside it either: kill(2) gives ESRCH, not EPERM."),
        ("iso-2", "Not even its own PID on the host is a PID inside."),
        ("iso-3", "From above, kill(2) reaches the processes in both namespaces."),
    ],
    shell: false,
    controls: &[Control {
        name: "newpid",
        what: "clone(2) without CLONE_NEWPID, and all reach all",
        breaks: &["A8", "iso-1", "iso-2"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(isolation_demo)
}

fn isolation_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let host = getpid();
    t.outside("getpid()", host);
    let mut flags = CloneFlags::CLONE_NEWNS; // for a /proc of its own
    if !t.without("newpid") {
        flags |= CloneFlags::CLONE_NEWPID;
    }
    let (a, mut from_a) = child::cloned("A", flags, t, |outside| inside_a(outside, host))?;
    let (b, mut from_b) = child::cloned("B", flags, t, |outside| inside_b(outside, [host, a]))?;
    let [_nspid, _fork] = from_a.hear(t)?;
    let mut list = String::new();
    if !t.without("newpid") {
        [list] = from_a.hear(t)?;
    }
    let [itself, its_child, its_host_pid, a_to_host] = from_a.hear(t)?;
    let [b_to_host, b_to_a] = from_b.hear(t)?;

    // ANCHOR: above
    let child = proc::children(a)?.first().copied(); // A's only one
    let child = child.ok_or(Errno::ESRCH).named("/proc/[0-9]*/status: PPid")?;
    t.outside(format!("/proc/{child}/status: NSpid"), proc::nspid(child)?);
    let child = Pid::from_raw(child as i32);
    let mut reached = 0;
    for pid in [a, b, child] {
        let answer = kill(pid, None);
        reached += i32::from(answer.is_ok());
        t.outside(format!("kill({pid}, 0)"), result(answer));
    }
    t.did(&format!("kill({child}, SIGKILL)"), kill(child, Signal::SIGKILL))?;
    from_a.go_on();
    let [end] = from_a.hear(t)?;
    // ANCHOR_END: above

    let no_such = "-1 ESRCH";
    let reaches_its_own = list == "/proc/1 /proc/2" && [itself, its_child] == ["0", "0"];
    if host.as_raw() > 2 {
        t.claim("A8", reaches_its_own && a_to_host == no_such);
        t.claim("iso-1", b_to_host == no_such && b_to_a == no_such);
        t.claim("iso-2", its_host_pid == no_such);
    } else {
        // We are the first in a container, and have a number that somebody inside has, too.
        t.open("A8", "a PID above 2");
        t.open("iso-1", "a PID above 2");
        t.open("iso-2", "a PID above 2");
    }
    t.claim("iso-3", reached == 3 && end == "SIGKILL");
    let by_hand = "unshare --map-root-user --pid --fork kill -0 $$ 2>&1 | grep -o 'No.*'";
    t.by_hand(by_hand, "No such process");
    from_a.leave(t)
}

// ANCHOR: inside
/// The whole life of A's first process.
fn inside_a(outside: &mut Outside, host: Pid) -> Result<(), Refusal> {
    let pids = proc::nspid("self")?; // this /proc is still the host's
    outside.tell("/proc/self/status: NSpid", &pids);
    let child = fork_one_that_waits(outside)?;
    if !outside.without("newpid") {
        mounts::make_private().named(mounts::MAKE_PRIVATE)?;
        mounts::mount_proc().named(mounts::MOUNT_PROC)?;
        let list: Vec<_> = proc::pids()?.iter().map(|pid| format!("/proc/{pid}")).collect();
        outside.tell("ls -d /proc/[0-9]*", list.join(" "));
    }
    let on_the_host = pids.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or(-1);
    for pid in [getpid(), child, Pid::from_raw(on_the_host), host] {
        // Signal 0 is sent to nobody: kill(2) looks for the process and says whether it could.
        outside.tell(format!("kill({pid}, 0)"), result(kill(pid, None)));
    }
    outside.wait();
    let end = match waitpid(child, None).named("waitpid(2)")? {
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        other => format!("{other:?}"),
    };
    outside.tell(format!("waitpid({child}): WTERMSIG"), end);
    Ok(())
}

/// The whole life of B's only process.
fn inside_b(outside: &mut Outside, others: [Pid; 2]) -> Result<(), Refusal> {
    for pid in others {
        outside.tell(format!("kill({pid}, 0)"), result(kill(pid, None)));
    }
    Ok(())
}
// ANCHOR_END: inside

fn fork_one_that_waits(outside: &mut Outside) -> Result<Pid, Refusal> {
    let parent = getpid();
    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            // As in visible-demo: where no PID 1 takes it along, it dies with its parent.
            if set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent {
                pause();
            }
            outside.exit()
        }
        ForkResult::Parent { child } => {
            outside.tell("fork()", child);
            Ok(child)
        }
    }
}
