//! One process, a PID at every level.
//!
//! clone(2) with CLONE_NEWPID, three deep; pid_namespaces(7), proc_pid_status(5).

use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc::SIGCHLD;
use nix::sched::{CloneFlags, clone};
use nix::unistd::Pid;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::{mounts, proc, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("nested-pid-demo.rs"),
    claims: &[
        ("nest-1", "Three levels down a process has four PIDs, one in each namespace."),
        ("nest-2", "In its own it is 1, as the first there, whatever it is above."),
        ("nest-3", "A level down, one PID less: NSpid begins at the proc's own level."),
        ("nest-4", "A proc shows its own level and those below, and none above."),
    ],
    shell: true,
    controls: &[Control {
        name: "level-2",
        what: "the second process stays in the first one's PID namespace",
        breaks: &["nest-1", "nest-2", "nest-3", "nest-4"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(nested_pid_demo)
}

fn nested_pid_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let (mut from_1, mut to_outside) = child::ends_of("level 1", t)?;
    let (mut from_2, to_outside_2) = child::ends_of("level 2", t)?;
    let (mut from_3, to_outside_3) = child::ends_of("level 3", t)?;
    // Each level makes the next, so their ends go down with the first.
    let mut ends = vec![to_outside_2, to_outside_3];
    let (call, first) = clone_level(None, &mut to_outside, &mut ends)?;
    t.outside(call, first);
    from_1.start(first, to_outside);
    let [_second] = from_1.hear(t)?;
    let second = only_child(first)?;
    from_2.start(second, ends.remove(0));
    let [_third] = from_2.hear(t)?;
    let third = only_child(second)?;
    from_3.start(third, ends.remove(0));

    let mut by_host = Vec::new();
    for pid in [first, second, third] {
        let pids = proc::nspid(pid)?;
        t.outside(format!("/proc/{pid}/status: NSpid"), &pids);
        by_host.push(pids);
    }
    let mut lists = Vec::new();
    for from_level in [&mut from_1, &mut from_2, &mut from_3] {
        from_level.go_on();
        let [list] = from_level.hear(t)?;
        lists.push(list.split(" / ").map(String::from).collect::<Vec<_>>());
    }
    check(t, &by_host, &lists);
    let by_hand = "unshare -rpf --mount-proc unshare -pf grep NSpid /proc/self/status";
    t.by_hand(by_hand, "NSpid: 2 1");
    from_1.leave(t)
}

// ANCHOR: law
/// What a process's list of PIDs is in the three procs, level by level, is a law. The numbers are
/// accidents, but for the last.
fn check(t: &mut Transcript, by_host: &[String], lists: &[Vec<String>]) {
    t.claim("nest-1", by_host.iter().map(|pids| pids.split(' ').count()).eq(2..=4));
    t.claim("nest-2", by_host.iter().all(|pids| pids.ends_with(" 1")));
    // One level lower, the first number is gone. The process of the level above has no number left.
    let lower = |pids: &[String]| {
        let rest = pids.iter().filter_map(|pids| Some(pids.split_once(' ')?.1.to_string()));
        rest.collect::<Vec<_>>()
    };
    let [one, two, three] = [lower(by_host), lower(&lists[0]), lower(&lists[1])];
    t.claim("nest-3", lists == [one, two, three]);
    t.claim("nest-4", lists.iter().map(Vec::len).eq([3, 2, 1]));
}
// ANCHOR_END: law

/// The host's PID of the process that a level has made.
fn only_child(parent: Pid) -> Result<Pid, Refusal> {
    let child = proc::children(parent)?.first().copied();
    let child = child.ok_or(Errno::ESRCH).named("/proc/[0-9]*/status: PPid")?;
    Ok(Pid::from_raw(child as i32))
}

// ANCHOR: level
/// A level: a process in a PID namespace below the caller's. Its mount namespace is for its proc.
fn clone_level(
    mut maker: Option<&mut Outside>,
    its_ends: &mut Outside,
    ends: &mut Vec<Outside>,
) -> Result<(&'static str, Pid), Refusal> {
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let mut call = "clone(CLONE_NEWPID|CLONE_NEWNS|SIGCHLD)";
    if its_ends.without("level-2") && ends.len() == 1 {
        (flags, call) = (CloneFlags::CLONE_NEWNS, "clone(CLONE_NEWNS|SIGCHLD)");
    }
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| {
        // A killed maker would seem to be there as long as its child has copies of its ends.
        maker.iter_mut().for_each(|maker| maker.give_up());
        its_ends.live(|outside| level(outside, ends))
    });
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }.named(call)?;
    Ok((call, pid))
}

/// The whole life of the process at a level. `ends` are for the levels below.
fn level(outside: &mut Outside, ends: &mut Vec<Outside>) -> Result<(), Refusal> {
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    mounts::mount_proc().named(mounts::MOUNT_PROC)?;
    if !ends.is_empty() {
        let mut its_ends = ends.remove(0);
        let (call, pid) = clone_level(Some(outside), &mut its_ends, ends)?;
        outside.tell(call, pid);
        // The levels below have copies. Ours would keep the pipes open when they are gone.
        ends.clear();
    }
    outside.wait();
    let pids = proc::pids()?.into_iter().map(proc::nspid);
    let lists = pids.collect::<Result<Vec<_>, _>>()?;
    outside.tell("/proc/[0-9]*/status: NSpid", lists.join(" / "));
    Ok(())
}
// ANCHOR_END: level
