//! Inside, a process's own cgroup is the root.
//!
//! unshare(2) with CLONE_NEWCGROUP, /proc/PID/cgroup; cgroup_namespaces(7), cgroups(7).

use std::fs::read_to_string;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::{mounts, proc, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("cgroup-demo.rs"),
    claims: &[
        ("cg-1", "unshare(2) moves its caller into a new cgroup namespace."),
        ("cg-2", "There the cgroup that the caller is in is the root, /."),
        ("cg-3", "A process elsewhere is shown by a path that climbs out: /.."),
        ("cg-4", "A cgroup file system mounted there begins at that cgroup."),
        ("cg-5", "The host sees the caller where it was: no process has moved."),
    ],
    shell: true,
    controls: &[Control {
        name: "newcgroup",
        what: "inside stays in the cgroup namespace of the host",
        breaks: &["cg-1", "cg-2", "cg-3", "cg-4"],
    }],
};

const LINK: &str = "readlink(\"/proc/self/ns/cgroup\")";
// Not /sys/fs/cgroup: one file system twice on one mount point is EBUSY, and v2 is one.
const MOUNT_POINT: &str = "/mnt";

fn main() -> ExitCode {
    LESSON.run(cgroup_demo)
}

fn cgroup_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    let key = hierarchy()?;
    let [ours, inits] = [cgroup("self", &key)?, cgroup("1", &key)?];
    let host_link = proc::namespace("self", "cgroup")?;
    t.outside(LINK, &host_link);
    t.outside(format!("/proc/self/cgroup: {key}"), &ours);
    t.outside(format!("/proc/1/cgroup: {key}"), &inits);
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| inside(outside, &key)),
        ForkResult::Parent { child } => child,
    };
    from_inside.start(pid, to_outside);
    if !t.without("newcgroup") {
        let [_unshare] = from_inside.hear(t)?;
    }
    let [link, own, init] = from_inside.hear(t)?;
    let mut root = String::new();
    if !t.without("newcgroup") {
        let [_unshare, _private, _mount, its_root] = from_inside.hear(t)?;
        root = its_root;
    }
    let own_outside = cgroup(&pid.to_string(), &key)?;
    let root_outside = mounted_root(&pid.to_string())?;
    t.outside(format!("/proc/{pid}/cgroup: {key}"), &own_outside);
    t.outside(format!("/proc/{pid}/mountinfo: root of {MOUNT_POINT}"), &root_outside);

    t.claim("cg-1", link != host_link);
    if differ(&ours, &inits) {
        t.claim("cg-2", own == "/");
        t.claim("cg-3", init.starts_with("/..") && inits.ends_with(init.trim_start_matches("/..")));
        t.claim("cg-4", root == "/" && root_outside == ours);
    } else {
        // As in most containers: then there is nothing to tell apart.
        t.open("cg-2", "a cgroup other than /");
        t.open("cg-3", "a cgroup other than /");
        t.open("cg-4", "a cgroup other than /");
    }
    t.claim("cg-5", own_outside == ours);
    t.by_hand("unshare --map-root-user --cgroup cut -d: -f3 /proc/self/cgroup | uniq", &own);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside, key: &str) -> Result<(), Refusal> {
    if !outside.without("newcgroup") {
        outside.did("unshare(CLONE_NEWCGROUP)", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    outside.tell(LINK, proc::namespace("self", "cgroup")?);
    // The same file of the same /proc: what it says depends on who reads it.
    outside.tell(format!("/proc/self/cgroup: {key}"), cgroup("self", key)?);
    outside.tell(format!("/proc/1/cgroup: {key}"), cgroup("1", key)?);
    // ANCHOR_END: inside
    if outside.without("newcgroup") {
        // In the host's cgroup namespace a mount of cgroup2 by root would set the options
        // of the host's hierarchy anew, nsdelegate among them.
        return Ok(());
    }

    // ANCHOR: mount
    outside.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    outside.did(mounts::MAKE_PRIVATE, mounts::make_private())?;
    // v2 has no names. In v1 a hierarchy has the name of its controllers.
    let name = key.split(':').nth(1).filter(|name| !name.is_empty());
    let kind = if name.is_some() { "cgroup" } else { "cgroup2" };
    let data = name.map_or("NULL".to_string(), |name| format!("{name:?}"));
    let mounted = mount(Some("none"), MOUNT_POINT, Some(kind), MsFlags::empty(), name);
    outside.did(&format!("mount(\"none\", \"{MOUNT_POINT}\", {kind:?}, 0, {data})"), mounted)?;
    outside.tell(format!("/proc/self/mountinfo: root of {MOUNT_POINT}"), mounted_root("self")?);
    Ok(())
    // ANCHOR_END: mount
}

/// The first hierarchy, from v2 on, in which there is something to see; by the beginning of its
/// lines. `0::` is v2, `4:memory:` is v1.
fn hierarchy() -> Result<String, Refusal> {
    let text = text_of("/proc/self/cgroup")?;
    for key in text.lines().rev().filter_map(|line| line.get(..=line.find(":/")?)) {
        if differ(&cgroup("self", key)?, &cgroup("1", key)?) {
            return Ok(key.to_string());
        }
    }
    Ok("0::".to_string())
}

/// Can our cgroup be told from the root, and from that of init?
fn differ(ours: &str, inits: &str) -> bool {
    ours != "/" && !format!("{inits}/").starts_with(&format!("{ours}/"))
}

/// Where a process is in this hierarchy, as seen from the reader's cgroup namespace: cgroups(7).
fn cgroup(process: &str, key: &str) -> Result<String, Refusal> {
    let text = text_of(&format!("/proc/{process}/cgroup"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_string())
}

/// Which directory of the mounted file system is at its mount point: field 4 of
/// proc_pid_mountinfo(5). The last line is the mount on top.
fn mounted_root(process: &str) -> Result<String, Refusal> {
    let text = text_of(&format!("/proc/{process}/mountinfo"))?;
    let mut mounts = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let on_top = mounts.rfind(|mount| mount.get(4) == Some(&MOUNT_POINT));
    Ok(on_top.map_or("no mount", |mount| mount[3]).to_string())
}

fn text_of(file: &str) -> Result<String, Refusal> {
    read_to_string(file).named(format!("open({file:?})"))
}
