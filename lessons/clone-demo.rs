//! One clone(2), several new namespaces.
//!
//! clone(2), clone3(2), namespaces(7); CLONE_NEWTIME: time_namespaces(7).

use std::fs::read_to_string;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc::{self, SIGCHLD};
use nix::sched::{CloneFlags, clone};
use nix::unistd::{Pid, getpid};
use workbook::child::{self, Inside, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::{namespaces, unlike};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("clone-demo.rs"),
    claims: &[
        ("A13", "One clone(2) makes a child in a new namespace for each flag."),
        ("clo-1", "Of every other kind the child has its parent's namespace."),
        ("clo-2", "The parent stays in the namespaces that it was in."),
        ("clo-3", "clone(2) takes CLONE_NEWTIME for a part of the exit signal."),
        ("clo-4", "clone3(2) makes a child in a new time namespace."),
    ],
    shell: true,
    controls: &[Control {
        name: "flags",
        what: "clone(2) without them, as fork(2) does it",
        breaks: &["A13"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(clone_demo)
}

fn clone_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let ours = namespaces("self")?;

    // ANCHOR: clone
    let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID;
    let (flags, call) = match t.without("flags") {
        true => (CloneFlags::empty(), "clone(SIGCHLD)"),
        false => (flags, "clone(CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWPID|SIGCHLD)"),
    };
    let (pid, mut from_inside) = child(t, flags, call)?.named(call)?;
    // ANCHOR_END: clone
    let [pid_inside] = from_inside.hear(t)?;
    let its = namespaces(pid)?;
    t.outside(format!("/proc/{pid}/ns unlike /proc/self/ns"), unlike(&its, &ours));
    let shared = its.iter().filter(|link| ours.contains(link)).count();
    t.outside(format!("/proc/{pid}/ns like /proc/self/ns"), format!("{shared} of {}", ours.len()));
    let ours_now = namespaces("self")?;
    t.outside("/proc/self/ns unlike before", unlike(&ours_now, &ours));

    let is_signal = clone_newtime(t, &ours)?;
    let time_new = clone3_newtime(t, &ours)?;

    let asked = |link: &&String| ["ipc:", "pid:", "uts:"].iter().any(|kind| link.starts_with(kind));
    t.claim("A13", ours.iter().filter(asked).all(|link| !its.contains(link)));
    t.claim("clo-1", ours.iter().all(|link| asked(&link) || its.contains(link)));
    t.claim("clo-2", ours_now == ours);
    t.claim("clo-3", is_signal);
    match time_new {
        Ok(new) => t.claim("clo-4", new == "time"),
        Err(Errno::ENOSYS) => t.open("clo-4", "clone3(2)"),
        Err(_) => t.open("clo-4", "a time namespace"),
    }
    t.by_hand("unshare --map-root-user --uts --ipc --pid --fork sh -c 'echo $$'", pid_inside);
    from_inside.leave(t)
}

type Child = (Pid, Inside);

/// Makes a child with these flags.
fn child(t: &mut Transcript, flags: CloneFlags, call: &str) -> Result<nix::Result<Child>, Refusal> {
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(inside));
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let made = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) };
    Ok(made.map(|pid| {
        t.outside(call, pid);
        from_inside.start(pid, to_outside);
        (pid, from_inside)
    }))
}

/// clone(2) reads the exit signal from the lowest eight bits of its flags. SIGCHLD is 0x11 and
/// CLONE_NEWTIME is 0x80: the sum is 0x91, a signal that does not exist. Is that how it is read?
fn clone_newtime(t: &mut Transcript, ours: &[String]) -> Result<bool, Refusal> {
    let call = "clone(CLONE_NEWTIME|SIGCHLD)";
    let newtime = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    let (pid, mut from_inside) = match child(t, newtime, call)? {
        // Since Linux 7.1 it looks whether there is such a signal.
        Err(Errno::EINVAL) => {
            t.outside(call, result(Err(Errno::EINVAL)));
            return Ok(true);
        }
        made => made.named(call)?,
    };
    let [_getpid] = from_inside.hear(t)?;
    let new = unlike(&namespaces(pid)?, ours);
    t.outside(format!("/proc/{pid}/ns unlike /proc/self/ns"), &new);
    let exit_signal = exit_signal(pid)?;
    t.outside(format!("/proc/{pid}/stat: exit_signal"), &exit_signal);
    Ok(new == "none" && exit_signal == (0x80 + SIGCHLD).to_string())
}

// ANCHOR: clone3
/// The kinds that are new for a child of clone3(2). Linux before 5.6 gives EINVAL, a seccomp
/// filter such as Docker's ENOSYS, for it cannot look into the struct.
fn clone3_newtime(t: &mut Transcript, ours: &[String]) -> Result<nix::Result<String>, Refusal> {
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // struct clone_args: eleven numbers of 64 bits. The exit signal has a place of its own.
    let mut args = [0_u64; 11];
    args[0] = libc::CLONE_NEWTIME as u64; // flags
    args[4] = SIGCHLD as u64; // exit_signal
    let call = "clone3({flags=CLONE_NEWTIME, ...}, 88)";
    // Without a stack, args[5], the child goes on with a copy of ours: this call returns twice.
    // SAFETY: one thread; the kernel reads `args` before it returns; the child never leaves
    // its arm of the match.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of_val(&args)) };
    let pid = match Errno::result(pid) {
        Ok(0) => to_outside.live(inside),
        Ok(pid) => Pid::from_raw(pid as i32),
        // One process too many: that says nothing about time namespaces.
        Err(Errno::EAGAIN) => return Err(Errno::EAGAIN).named(call),
        Err(errno) => {
            t.outside(call, result(Err(errno)));
            return Ok(Err(errno));
        }
    };
    // ANCHOR_END: clone3
    t.outside(call, pid);
    from_inside.start(pid, to_outside);
    let [_getpid] = from_inside.hear(t)?;
    let new = unlike(&namespaces(pid)?, ours);
    t.outside(format!("/proc/{pid}/ns unlike /proc/self/ns"), &new);
    Ok(Ok(new))
}

/// The whole life of each child.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("getpid()", getpid());
    Ok(())
}

/// What a process sends to its parent when it ends: field 38, proc_pid_stat(5).
fn exit_signal(pid: Pid) -> Result<String, Refusal> {
    let file = format!("/proc/{pid}/stat");
    let stat = read_to_string(&file).named(format!("open({file:?})"))?;
    // The name, field 2, is in brackets and may have blanks.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.nth(38 - 3).unwrap_or_default().to_string())
}
