//! A filter forbids calls, even to root.
//!
//! seccomp(2) with SECCOMP_SET_MODE_FILTER, PR_SET_NO_NEW_PRIVS(2const); proc_pid_status(5).

use std::mem::{offset_of, zeroed};
use std::process::{Command, ExitCode};
use std::thread;

use nix::errno::Errno;
use nix::libc::{self, BPF_JEQ, BPF_JGE, BPF_JSET, SECCOMP_RET_ALLOW, seccomp_data, sock_filter};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{get_no_new_privs, set_no_new_privs};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use workbook::bpf::{NAMESPACES, audit_arch, jump, load, ret};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};
use workbook::{tool, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("seccomp-demo.rs"),
    claims: &[
        ("sec-1", "A filter refuses a call also to those who have the right to it."),
        ("sec-2", "To forbid new namespaces it has to refuse all of clone3(2), too."),
        ("sec-3", "fork(2) and execve(2) keep the filter."),
        ("sec-4", "It stays for good: a filter on top that allows all does nothing."),
        ("sec-5", "Who lacks CAP_SYS_ADMIN has to set no_new_privs first: EACCES."),
        ("sec-6", "libc tries clone(2) if clone3(2) gives ENOSYS, and not if EPERM."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "clone3",
            what: "the filter forgets clone3(2), and that makes the namespace",
            breaks: &["sec-2", "sec-6"],
        },
        Control {
            name: "no-new-privs",
            what: "the filter is not accepted, and forbids nothing",
            breaks: &["sec-5", "sec-6"],
        },
    ],
};

fn main() -> ExitCode {
    LESSON.run(seccomp_demo)
}

fn seccomp_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let promised = get_no_new_privs().named("prctl(PR_GET_NO_NEW_PRIVS)")?;
    if promised && t.without("no-new-privs") {
        Err(Errno::EINVAL).named("prctl(PR_SET_NO_NEW_PRIVS, 0)")?; // nobody takes it back
    }
    let (_, mut from_inside) = child::forked("inside", t, inside)?;
    let [before, _seccomp, unshared, cloned, cloned3] = from_inside.hear(t)?;
    let [thread, mode, on_top, unshared_again] = from_inside.hear(t)?;
    let (_, mut from_other) = child::forked("other", t, other)?;
    let [_capset, not_promised] = from_other.hear(t)?;
    if !t.without("no-new-privs") {
        let [_prctl] = from_other.hear(t)?;
    }
    let [installed, other_thread] = from_other.hear(t)?;

    t.claim("sec-1", before == "0" && unshared == "-1 EPERM");
    t.claim("sec-2", cloned == "-1 EPERM" && cloned3 == "-1 ENOSYS");
    t.claim("sec-3", mode == "2");
    t.claim("sec-4", on_top == "0" && unshared_again == "-1 EPERM");
    if promised {
        t.open("sec-5", "a shell without no_new_privs");
    } else {
        t.claim("sec-5", not_promised == "-1 EACCES" && installed == "0");
    }
    if installed == "0" && other_thread == "0" {
        t.open("sec-6", "a libc that calls clone3(2)");
    } else {
        let falls_back = cloned3 == "-1 ENOSYS" && thread == "0";
        t.claim("sec-6", falls_back && other_thread == "-1 EPERM");
    }
    t.by_hand("setpriv --no-new-privs grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1");
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside. It has every capability in its user namespace.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    let uts = CloneFlags::CLONE_NEWUTS;
    outside.did("unshare(CLONE_NEWUTS)", unshare(uts))?;
    let clone3 = if outside.without("clone3") { SECCOMP_RET_ALLOW } else { errno(Errno::ENOSYS) };
    outside.did("seccomp(SECCOMP_SET_MODE_FILTER, filter)", seccomp(&filter(clone3)))?;
    outside.tell("unshare(CLONE_NEWUTS)", result(unshare(uts)));
    outside.tell("clone(CLONE_NEWUTS)", value(process(libc::SYS_clone)));
    outside.tell("clone3(CLONE_NEWUTS)", value(process(libc::SYS_clone3)));
    outside.tell("pthread_create(3)", result(start_a_thread()));
    let cat = Command::new("cat").arg("/proc/self/status").output().named("execve(\"cat\")")?;
    let status = tool::printed("cat", &cat)?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    outside.tell("fork(), execve(\"cat\"): Seccomp", mode.unwrap_or_default().trim());
    outside
        .tell("seccomp(..., filter that allows all)", result(seccomp(&[ret(SECCOMP_RET_ALLOW)])));
    outside.tell("unshare(CLONE_NEWUTS)", result(unshare(uts)));
    Ok(())
}

/// Another process. It gives its capabilities up, as if it had never been root.
fn other(outside: &mut Outside) -> Result<(), Refusal> {
    let (header, none) = ([0x2008_0522, 0], [0_u32; 6]); // _LINUX_CAPABILITY_VERSION_3, ourselves
    // SAFETY: the kernel reads two numbers and six.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) };
    outside.did("capset(no capability)", Errno::result(set).map(drop))?;
    let filter = filter(errno(Errno::EPERM));
    outside.tell("seccomp(..., clone3: EPERM)", result(seccomp(&filter)));
    if !outside.without("no-new-privs") {
        outside.did("prctl(PR_SET_NO_NEW_PRIVS, 1)", set_no_new_privs())?;
    }
    outside.tell("seccomp(..., clone3: EPERM)", result(seccomp(&filter)));
    outside.tell("pthread_create(3)", result(start_a_thread()));
    Ok(())
}
// ANCHOR_END: inside

// ANCHOR: filter
/// A program that the kernel runs at each call, on a small machine of its own: BPF. The machine has
/// one register and sees a struct seccomp_data: the call's number, architecture and six arguments.
fn filter(clone3: u32) -> [sock_filter; 15] {
    [
        load(offset_of!(seccomp_data, arch)),
        jump(BPF_JEQ, audit_arch(), 1, 0), // equal: leave out one instruction; else: none
        ret(libc::SECCOMP_RET_KILL_PROCESS), // for others the same numbers are other calls
        load(offset_of!(seccomp_data, nr)),
        jump(BPF_JGE, 0x4000_0000, 0, 1), // __X32_SYSCALL_BIT:
        ret(errno(Errno::ENOSYS)),        // a second number for each call of x86-64
        jump(BPF_JEQ, libc::SYS_unshare as u32, 0, 1),
        ret(errno(Errno::EPERM)),
        jump(BPF_JEQ, libc::SYS_clone3 as u32, 0, 1),
        ret(clone3), // its flags lie behind a pointer, and the machine follows none
        jump(BPF_JEQ, libc::SYS_clone as u32, 0, 3),
        load(offset_of!(seccomp_data, args)), // the lower half of the first: clone's flags
        jump(BPF_JSET, NAMESPACES as u32, 0, 1), // any of these bits
        ret(errno(Errno::EPERM)),
        ret(SECCOMP_RET_ALLOW),
    ]
}

fn errno(errno: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// Puts a filter on this thread. libc has no wrapper.
fn seccomp(program: &[sock_filter]) -> nix::Result<()> {
    let (len, filter) = (program.len() as u16, program.as_ptr().cast_mut());
    let (set, program) = (libc::SECCOMP_SET_MODE_FILTER, libc::sock_fprog { len, filter });
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, set, 0, &raw const program) };
    Errno::result(done).map(drop)
}
// ANCHOR_END: filter

/// A child in a new UTS namespace, by clone(2) or clone3(2). It ends at once.
fn process(call: libc::c_long) -> nix::Result<Pid> {
    let flags = libc::CLONE_NEWUTS as u64;
    // SAFETY: numbers and addresses, all of which may be 0.
    let args = libc::clone_args { flags, ..unsafe { zeroed() } };
    let child = match call {
        // SAFETY: without CLONE_VM, and without a stack, the child has a copy of ours, as after
        // fork(2).
        libc::SYS_clone => unsafe { libc::syscall(call, flags, 0, 0, 0, 0) },
        // SAFETY: the same.
        _ => unsafe { libc::syscall(call, &raw const args, size_of_val(&args)) },
    };
    match Errno::result(child)? {
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(0) },
        child => {
            let child = Pid::from_raw(child as i32);
            waitpid(child, Some(WaitPidFlag::__WALL))?; // it sends no signal at its end
            Ok(child)
        }
    }
}

/// What pthread_create(3) says.
fn start_a_thread() -> nix::Result<()> {
    let thread = thread::Builder::new().spawn(|| ());
    let thread = thread.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()));
    thread.map(|thread| drop(thread.join()))
}
