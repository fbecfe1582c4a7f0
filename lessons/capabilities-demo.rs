//! Root is a set of capabilities.
//!
//! capset(2), execve(2), PR_CAPBSET_DROP(2const), PR_CAP_AMBIENT(2const);
//! capabilities(7), "Transformation of capabilities during execve()"; ip(7).

use std::fs::read_to_string;
use std::os::fd::AsRawFd as _;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use nix::unistd::{ForkResult, fork, getegid, geteuid};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::{tool, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("capabilities-demo.rs"),
    claims: &[
        ("cap-1", "Root may bind port 80 with CAP_NET_BIND_SERVICE, not without."),
        ("cap-2", "execve(2) gives root all that the bounding set has."),
        ("cap-3", "What the bounding set has lost does not come back at execve(2)."),
        ("cap-4", "A new user namespace fills the sets, but only over what it owns."),
        ("cap-5", "An ambient capability outlives execve(2), for any user."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "drop",
            what: "nothing is dropped from the bounding set",
            breaks: &["cap-3"],
        },
        Control {
            name: "ambient",
            what: "the capability is inheritable, and not ambient",
            breaks: &["cap-5"],
        },
    ],
};

/// linux/capability.h: its number is its bit in each set.
const CAP_NET_BIND_SERVICE: u32 = 10;
const BIT: u32 = 1 << CAP_NET_BIND_SERVICE;
/// Where capset(2) has these sets.
const EFFECTIVE: usize = 0;
const INHERITABLE: usize = 2;

fn main() -> ExitCode {
    LESSON.run(capabilities_demo)
}

fn capabilities_demo(t: &mut Transcript) -> Result<(), Refusal> {
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    let [_user, _map, _net, _sets, bound] = from_inside.hear(t)?;
    let [_capset, bound_without, exec] = from_inside.hear(t)?;
    if !t.without("drop") {
        let [_drop] = from_inside.hear(t)?;
    }
    let [exec_dropped, _user, sets_new, bound_old, _net, bound_new] = from_inside.hear(t)?;
    let [_capset] = from_inside.hear(t)?;
    if !t.without("ambient") {
        let [_raise] = from_inside.hear(t)?;
    }
    let [exec_ambient] = from_inside.hear(t)?;

    t.claim("cap-1", bound == "0" && bound_without == "-1 EACCES");
    t.claim("cap-2", exec == "Prm Eff Bnd");
    t.claim("cap-3", exec_dropped == "none");
    t.claim("cap-4", sets_new == exec && bound_old == "-1 EACCES" && bound_new == "0");
    t.claim("cap-5", exec_ambient == "Inh Prm Eff Bnd Amb");
    t.by_hand(
        "unshare -r setpriv --bounding-set -all grep CapEff /proc/self/status",
        "CapEff: 0000000000000000",
    );
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    let (uid, gid) = (geteuid(), getegid());
    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    user::map_to_root(uid, gid)?; // the three files of user-demo
    let map = format!("0 {uid} 1");
    outside.tell(format!("write(\"/proc/self/uid_map\", {map:?})"), map.len());
    outside.did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    show_sets(outside)?;
    try_port_80(outside)?;
    outside.did("capset(CapEff without NET_BIND_SERVICE)", capset(EFFECTIVE, false))?;
    try_port_80(outside)?; // EACCES, although we are user 0
    try_exec(outside)?;
    if !outside.without("drop") {
        // SAFETY: takes a number. There is no call that puts it back.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE) };
        let dropped = Errno::result(dropped).map(drop);
        outside.did("prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE)", dropped)?;
    }
    try_exec(outside)?;
    // ANCHOR_END: inside

    // ANCHOR: nested
    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    show_sets(outside)?;
    try_port_80(outside)?; // EACCES: this network belongs to the user namespace around ours
    outside.did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    try_port_80(outside)?;
    // Without a map we are nobody, and execve(2) gives us nothing for our number. What is ambient it
    // leaves, and only what is inheritable may become ambient: else EPERM.
    outside.did("capset(CapInh with NET_BIND_SERVICE)", capset(INHERITABLE, true))?;
    if !outside.without("ambient") {
        let (raise, cap) = (libc::PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE);
        // SAFETY: takes numbers. What it does not use must be 0.
        let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, cap, 0, 0) };
        let raised = Errno::result(raised).map(drop);
        outside.did("prctl(PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE)", raised)?;
    }
    try_exec(outside)
    // ANCHOR_END: nested
}

/// Port 80 of the network namespace that we are in, on all its addresses. The socket, and with it the
/// port, is gone when we return.
fn try_port_80(outside: &mut Outside) -> Result<(), Refusal> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .named("socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0)")?;
    let bound = bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 80));
    outside.tell("bind(0.0.0.0:80)", result(bound));
    Ok(())
}

/// In which of our sets is it?
fn show_sets(outside: &mut Outside) -> Result<(), Refusal> {
    let status = read_to_string("/proc/self/status").named("open(\"/proc/self/status\")")?;
    outside.tell("/proc/self/status: sets with NET_BIND_SERVICE", sets(&status));
    Ok(())
}

/// In which of the next program's?
fn try_exec(outside: &mut Outside) -> Result<(), Refusal> {
    let cat = Command::new("cat").arg("/proc/self/status").output().named("execve(\"cat\")")?;
    let status = tool::printed("cat", &cat)?;
    outside.tell("execve(\"cat\"): sets with NET_BIND_SERVICE", sets(&status));
    Ok(())
}

/// Of CapInh, CapPrm, CapEff, CapBnd and CapAmb those that have the bit: proc_pid_status(5).
fn sets(status: &str) -> String {
    let lines = status.lines().filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"));
    let has_it = |mask| u64::from_str_radix(mask, 16).is_ok_and(|bits| bits & u64::from(BIT) != 0);
    let with_it: Vec<_> = lines.filter(|(_, mask)| has_it(mask)).map(|(set, _)| set).collect();
    if with_it.is_empty() { "none".to_string() } else { with_it.join(" ") }
}

// ANCHOR: capset
/// Takes the one bit out of one of our sets, or puts it in.
fn capset(set: usize, with: bool) -> nix::Result<()> {
    let mut header = [0x2008_0522_u32, 0]; // _LINUX_CAPABILITY_VERSION_3, and our own thread
    let mut sets = [0_u32; 6]; // effective, permitted, inheritable; and for those from 32 on
    // SAFETY: in this version it reads two numbers and writes six.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    Errno::result(got)?;
    sets[set] = if with { sets[set] | BIT } else { sets[set] & !BIT };
    // SAFETY: it reads two numbers and six.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
    Errno::result(done).map(drop)
}
// ANCHOR_END: capset
