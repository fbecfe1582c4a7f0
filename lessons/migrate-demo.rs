//! The same PIDs in two namespaces.
//!
//! clone3(2) with set_tid, since Linux 5.5; pid_namespaces(7).

use std::mem::zeroed;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc::{self, CLONE_NEWPID, SIGCHLD, clone_args};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pause};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::{namespace, pids_in};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("migrate-demo.rs"),
    claims: &[
        ("A10", "A process table can be made again, PID for PID, somewhere else."),
        ("mig-1", "On the host the processes of the two tables have other PIDs."),
        ("mig-2", "A PID that is taken is refused."),
        ("mig-3", "The first PID of a new namespace can only be 1."),
        ("mig-4", "Who has no power over a PID namespace chooses no PID in it."),
    ],
    shell: true,
    controls: &[Control {
        name: "set-tid",
        what: "in B the kernel chooses the PIDs",
        breaks: &["A10"],
    }],
};

const NEWPID: CloneFlags = CloneFlags::CLONE_NEWPID;
const NOT_MADE: &str = "no user namespace";

fn main() -> ExitCode {
    LESSON.run(migrate_demo)
}

fn migrate_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER)

    let (a, mut from_a) = child::cloned("A", NEWPID, t, |outside| make(outside, &[42, 4242]))?;
    let [_, _] = from_a.hear(t)?;
    let (table_a, on_host_a) = look_at(t, "A", a)?;

    // B gets to know what was read of A, and nothing else.
    let known = |nth| table_a.get(nth).filter(|_| !t.without("set-tid"));
    let wanted = [1, 2].map(|nth| known(nth).copied().unwrap_or(0));
    let (b, mut from_b) = child::cloned("B", NEWPID, t, |outside| {
        make(outside, &wanted)?;
        outside.wait();
        ask(outside)
    })?;
    let [_, _] = from_b.hear(t)?;
    let (table_b, on_host_b) = look_at(t, "B", b)?;
    from_b.go_on();
    let [taken, not_first, no_power] = from_b.hear(t)?;

    t.claim("A10", table_a.len() == 3 && table_a == table_b);
    t.claim("mig-1", on_host_b.len() == 3 && !on_host_b.iter().any(|pid| on_host_a.contains(pid)));
    t.claim("mig-2", taken == "-1 EEXIST");
    t.claim("mig-3", not_first == "-1 EINVAL");
    match no_power.as_str() {
        NOT_MADE => t.open("mig-4", "a user namespace in it"),
        _ => t.claim("mig-4", no_power == "-1 EPERM"),
    }
    let by_hand = "echo 776 >/proc/sys/kernel/ns_last_pid; :& echo $!";
    t.by_hand(&format!("unshare -rpf sh -c '{by_hand}'"), 777);
    from_b.leave(t)
}

// ANCHOR: make
/// Makes a child for each of these PIDs; 0 stands for whichever is next.
fn make(outside: &mut Outside, table: &[u32]) -> Result<(), Refusal> {
    for pid in table {
        let call =
            if *pid == 0 { "clone3()".to_string() } else { format!("clone3(set_tid=[{pid}])") };
        outside.tell(&call, clone3(0, *pid).named(&*call)?);
    }
    Ok(())
}

/// A child that waits for its end: it comes with the end of PID 1. libc has no wrapper.
fn clone3(flags: i32, set_tid: u32) -> nix::Result<u32> {
    // SAFETY: numbers and addresses, all of which may be 0.
    let mut args: clone_args = unsafe { zeroed() };
    args.flags = flags as u64;
    args.exit_signal = SIGCHLD as u64;
    if set_tid != 0 {
        args.set_tid = (&raw const set_tid) as u64; // a list: one PID for each level, from the
        args.set_tid_size = 1; // child's own namespace upwards
    }
    // SAFETY: without CLONE_VM the child has a copy of our memory, as after fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<clone_args>()) };
    match Errno::result(pid)? {
        0 => loop {
            pause();
        },
        pid => Ok(pid as u32),
    }
}
// ANCHOR_END: make

// ANCHOR: ask
/// Asks for what the kernel refuses.
fn ask(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("clone3(set_tid=[1])", result(clone3(0, 1).map(drop)));
    outside.tell("clone3(CLONE_NEWPID, set_tid=[5])", result(clone3(CLONE_NEWPID, 5).map(drop)));
    // Needs CAP_SYS_ADMIN, or since Linux 5.9 CAP_CHECKPOINT_RESTORE, in the user namespace that
    // owns the PID namespace. In a new user namespace one has no capability there any more.
    // SAFETY: one thread here too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            if unshare(CloneFlags::CLONE_NEWUSER).is_err() {
                outside.exit_with(254); // no errno
            }
            outside.exit_with(clone3(0, 77).err().map_or(0, |errno| errno as i32))
        }
        ForkResult::Parent { child } => {
            let call = "unshare(CLONE_NEWUSER), clone3(set_tid=[77])";
            let ended = waitpid(child, None).named("waitpid(2)").and_then(child::not_killed)?;
            let asked = match ended {
                WaitStatus::Exited(_, 254) => NOT_MADE.to_string(),
                WaitStatus::Exited(_, errno) if errno > 0 => {
                    let errno = Errno::from_raw(errno);
                    if errno == Errno::EAGAIN {
                        Err(errno).named(call)?; // one process too many: no answer about the PID
                    }
                    result(Err(errno))
                }
                _ => result(Ok(())),
            };
            outside.tell(call, asked);
        }
    }
    Ok(())
}
// ANCHOR_END: ask

/// The processes of a PID namespace, found by its link: their PIDs inside and on the host.
fn look_at(t: &mut Transcript, who: &str, init: Pid) -> Result<(Vec<u32>, Vec<u32>), Refusal> {
    let (inside, on_host): (Vec<u32>, Vec<u32>) =
        pids_in(&namespace(init, "pid")?)?.into_iter().unzip();
    let list = |pids: &[u32]| pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    t.outside(format!("NSpid of all in {who}: last field"), list(&inside));
    t.outside(format!("NSpid of all in {who}: first field"), list(&on_host));
    Ok((inside, on_host))
}
