//! Mounts of its own; the host keeps its table.
//!
//! unshare(2) with CLONE_NEWNS, mount(2), umount(2);
//! mount_namespaces(7), proc_pid_mountinfo(5).

use std::fmt::Display;
use std::fs::read_to_string;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::namespace;
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("mount-demo.rs"),
    claims: &[
        ("mnt-1", "A new mount namespace starts with a copy of the old one's mounts."),
        ("A7", "Mounts and unmounts inside do not reach the host's mount table."),
        ("mnt-2", "The host can read the table inside: it is in /proc/PID/mountinfo."),
    ],
    shell: true,
    controls: &[Control {
        name: "private",
        what: "outside plays a host whose / is shared; the mount reaches it",
        breaks: &["A7"],
    }],
};

const NULL: Option<&str> = None; // where mount(2) takes a string
const MAKE_PRIVATE: &str = "mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL)";
const MAKE_SHARED: &str = "mount(NULL, \"/\", NULL, MS_REC|MS_SHARED, NULL)";

fn main() -> ExitCode {
    LESSON.run(mount_demo)
}

fn mount_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    if t.without("private") {
        play_a_shared_host(t)?;
    }
    let (host_mnt, host_mounts) = (namespace("self", "mnt")?, mount_points("self")?);
    t.outside("readlink(\"/proc/self/ns/mnt\")", &host_mnt);
    t.outside("wc -l < /proc/self/mountinfo", host_mounts.len());
    let before = on_mnt("self")?;

    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let child = match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => child,
    };
    t.outside("fork()", child);
    from_inside.start(child, to_outside);
    let [_unshare, its_mnt, _count] = from_inside.hear(t)?;
    let its_mounts = mount_points(child)?;
    from_inside.go_on();
    if !t.without("private") {
        let [_make_private] = from_inside.hear(t)?;
    }
    let [_mount, mounted] = from_inside.hear(t)?;
    let (seen_from_here, during) = (on_mnt(child)?, on_mnt("self")?);
    t.outside(grep(child), &seen_from_here);
    t.outside(grep("self"), &during);
    from_inside.go_on();
    let [_umount, unmounted] = from_inside.hear(t)?;
    let after = on_mnt("self")?;
    t.outside(grep("self"), &after);

    t.claim("mnt-1", its_mnt != host_mnt && its_mounts == host_mounts);
    let inside_changed = mounted != before && unmounted == before;
    t.claim("A7", inside_changed && during == before && after == before);
    t.claim("mnt-2", inside_changed && seen_from_here == mounted);
    t.by_hand(
        "unshare --map-root-user --mount mount -v -t tmpfs mine /mnt",
        "mount: mine mounted on /mnt.",
    );
    let is = if after == "0" { "is not" } else { "is" };
    t.by_hand("mountpoint /mnt", format!("/mnt {is} a mountpoint"));
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    outside.tell("readlink(\"/proc/self/ns/mnt\")", namespace("self", "mnt")?);
    outside.tell("wc -l < /proc/self/mountinfo", mount_points("self")?.len());
    outside.wait();
    if !outside.without("private") {
        // A copied mount is a peer of the original: under a shared / what we mount would
        // appear on the host. Private first, so that nothing gets out. NULL: only the flags
        // count. MS_REC: / and every mount below it.
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        outside.did(MAKE_PRIVATE, mount(NULL, "/", NULL, flags, NULL))?;
    }
    let mounted = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL);
    outside.did("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)", mounted)?;
    outside.tell(grep("self"), on_mnt("self")?);
    outside.wait();
    outside.did("umount(\"/mnt\")", umount("/mnt"))?;
    outside.tell(grep("self"), on_mnt("self")?);
    Ok(())
}
// ANCHOR_END: inside

// ANCHOR: host
/// For the control: outside becomes its host. In a mount namespace of its own, and first cut off
/// from the real host, it makes / shared, as systemd does at boot.
fn play_a_shared_host(t: &mut Transcript) -> Result<(), Refusal> {
    t.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    let cut_off = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    t.did(MAKE_PRIVATE, mount(NULL, "/", NULL, cut_off, NULL))?;
    let share = MsFlags::MS_REC | MsFlags::MS_SHARED;
    t.did(MAKE_SHARED, mount(NULL, "/", NULL, share, NULL))
}
// ANCHOR_END: host

/// The mount points that a process sees: field 5 of proc_pid_mountinfo(5). Sorted, because a copy
/// need not come in the order of the original.
fn mount_points(process: impl Display) -> Result<Vec<String>, Refusal> {
    let file = format!("/proc/{process}/mountinfo");
    let table = read_to_string(&file).named(format!("open({file:?})"))?;
    let mut points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    points.sort_unstable();
    Ok(points.into_iter().map(str::to_string).collect())
}

/// How many mounts there are on /mnt in the table of a process.
fn on_mnt(process: impl Display) -> Result<String, Refusal> {
    let points = mount_points(process)?;
    Ok(points.iter().filter(|point| *point == "/mnt").count().to_string())
}

fn grep(process: impl Display) -> String {
    format!("grep -c ' /mnt ' /proc/{process}/mountinfo")
}
