//! The errno does not say who refused.
//!
//! unshare(2), chroot(2), seccomp(2), mount(2); namespaces(7), user_namespaces(7).

use std::fs;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("refused-demo.rs"),
    claims: &[
        ("ref-1", "Who is not in the uid map makes no user namespace: EPERM."),
        ("ref-2", "In a chroot nobody makes a user namespace: EPERM, too."),
        ("ref-3", "A seccomp filter refuses any call with any errno: here EPERM."),
        ("ref-4", "A limit on user namespaces is ENOSPC. No disk is full."),
        ("ref-5", "Where a part of /proc is covered, a new proc is EPERM."),
    ],
    shell: true,
    controls: &[
        Control { name: "filter", what: "a process without the filter", breaks: &["ref-3"] },
        Control { name: "cover", what: "a /proc of which nothing is covered", breaks: &["ref-5"] },
    ],
};

const TMPFS: Option<&str> = Some("tmpfs"); // for mount(2): what, and of which type

fn main() -> ExitCode {
    LESSON.run(refused_demo)
}

fn refused_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::enter_namespace()?; // root, too: what follows is about namespaces of ours
    let (_, mut from_no_map) = child::forked("no map", t, no_map)?;
    let [_unshare, map, unmapped] = from_no_map.hear(t)?;
    let (pid, mut from_chroot) = child::forked("chroot", t, in_chroot)?;
    let [_chroot, chrooted] = from_chroot.hear(t)?;
    let link = format!("/proc/{pid}/root"); // its root directory: proc_pid_root(5)
    let root = value(readlink(&*link).map(|root| root.display().to_string()));
    t.outside(format!("readlink({link:?})"), &root);
    let (_, mut from_filter) = child::forked("filter", t, filter)?;
    if !t.without("filter") {
        let [_seccomp] = from_filter.hear(t)?;
    }
    let [seccomp, filtered] = from_filter.hear(t)?;
    let (_, mut from_limit) = child::forked("limit", t, limit)?;
    let [_unshare, most, limited] = from_limit.hear(t)?;
    let covered = covered(t)?;

    t.claim("ref-1", map == "0" && unmapped == "-1 EPERM");
    t.claim("ref-2", root == "/proc" && chrooted == "-1 EPERM");
    t.claim("ref-3", seccomp == "2" && filtered == "-1 EPERM");
    t.claim("ref-4", most == "0" && limited == "-1 ENOSPC");
    t.claim("ref-5", covered == "-1 EPERM");
    let by_hand = "unshare --map-root-user --root=/usr unshare --user true 2>&1";
    t.by_hand(by_hand, "unshare: unshare failed: Operation not permitted");
    from_limit.leave(t)
}

// ANCHOR: hosts
/// The same call on each host. ENOSPC would come before EPERM, from a limit of the real host.
fn ask(outside: &mut Outside) -> Result<(), Refusal> {
    let made = unshare(CloneFlags::CLONE_NEWUSER);
    if made == Err(Errno::ENOSPC) {
        return made.named("unshare(CLONE_NEWUSER)");
    }
    outside.tell("unshare(CLONE_NEWUSER)", result(made));
    Ok(())
}

fn no_map(outside: &mut Outside) -> Result<(), Refusal> {
    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    outside.tell("wc -l < /proc/self/uid_map", text("/proc/self/uid_map")?.lines().count());
    ask(outside)
}

fn in_chroot(outside: &mut Outside) -> Result<(), Refusal> {
    outside.did("chroot(\"/proc\")", chroot("/proc"))?; // or any other directory but /
    ask(outside)
}

fn limit(outside: &mut Outside) -> Result<(), Refusal> {
    user::enter_namespace()?; // another one, for a limit of its own
    outside.tell("unshare(CLONE_NEWUSER)", 0);
    let file = "/proc/sys/user/max_user_namespaces";
    fs::write(file, "0").named(format!("write({file:?})"))?;
    outside.tell(format!("cat {file}"), text(file)?.trim());
    outside.tell("unshare(CLONE_NEWUSER)", result(unshare(CloneFlags::CLONE_NEWUSER)));
    Ok(())
}
// ANCHOR_END: hosts

// ANCHOR: filter
/// The kernel runs these four instructions before each system call: seccomp(2).
fn filter(outside: &mut Outside) -> Result<(), Refusal> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW};
    let step = |code, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0), // load the number of the call
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, libc::SYS_unshare as u32), // another: skip one
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW),
    ];
    if !outside.without("filter") {
        let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies the program, which lives until the call returns.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
        let call = "prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ...)";
        outside.did(call, Errno::result(set).map(drop))?;
    }
    let status = text("/proc/self/status")?;
    let mark = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    outside.tell("/proc/self/status: Seccomp", mark.unwrap_or_default().trim());
    ask(outside)
}
// ANCHOR_END: filter

// ANCHOR: cover
/// Outside covers a part of /proc, as Docker does. A process with fewer rights mounts a new one.
fn covered(t: &mut Transcript) -> Result<String, Refusal> {
    t.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    t.did(mounts::MAKE_PRIVATE, mounts::make_private())?;
    if !t.without("cover") {
        let cover = mount(TMPFS, "/proc/sys", TMPFS, MsFlags::empty(), None::<&str>);
        t.did("mount(\"tmpfs\", \"/proc/sys\", \"tmpfs\", 0, NULL)", cover)?;
    }
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (_, mut from_covered) = child::cloned("covered", flags, t, |outside| {
        let mounted = mounts::mount_proc();
        if outside.without("cover") {
            mounted.named(mounts::MOUNT_PROC)?; // EPERM: the host had covered it before us
        }
        outside.tell(mounts::MOUNT_PROC, result(mounted));
        Ok(())
    })?;
    from_covered.hear(t).map(|[mounted]| mounted)
}
// ANCHOR_END: cover

fn text(file: &str) -> Result<String, Refusal> {
    fs::read_to_string(file).named(format!("open({file:?})"))
}
