//! Root inside, the same user outside.
//!
//! unshare(2) with CLONE_NEWUSER; user_namespaces(7), "User and group ID mappings".

use std::fs::{File, read_dir, read_to_string};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{fstat, stat};
use nix::unistd::{ForkResult, Pid, Uid, fchown, fork, getegid, geteuid, getuid, setgroups, write};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("user-demo.rs"),
    claims: &[
        ("user-1", "Where there is no map, every user shows as 65534."),
        ("user-2", "The map makes a process root inside; outside it is who it was."),
        ("user-3", "A map is written once."),
        ("user-4", "From inside one may map oneself, and nobody else."),
        ("user-5", "A user who is not in the map cannot be given a file."),
        ("user-6", "Even as root one has given up setgroups(2)."),
        ("user-7", "A file of root inside is a file of yours outside."),
    ],
    shell: true,
    controls: &[Control {
        name: "map",
        what: "a user namespace without a map",
        breaks: &["user-2", "user-3", "user-7"],
    }],
};

/// What /proc/PID/fd calls a file in memory that memfd_create("made inside") has made.
const MADE_INSIDE: &str = "/memfd:made inside (deleted)";

fn main() -> ExitCode {
    LESSON.run(user_demo)
}

fn user_demo(t: &mut Transcript) -> Result<(), Refusal> {
    // A file in memory, without a name: who owns it?
    let file = memfd_create("made outside", MFdFlags::MFD_CLOEXEC).named("memfd_create(2)")?;
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| inside(outside, file)),
        ForkResult::Parent { child } => child,
    };
    from_inside.start(pid, to_outside);

    let [_unshare, unmapped, file_unmapped] = from_inside.hear(t)?;
    let us = getuid().to_string();
    t.outside("getuid()", &us);
    from_inside.go_on();
    let [other] = from_inside.hear(t)?;
    let mut again = String::new();
    if !t.without("map") {
        [_, again, _, _] = from_inside.hear(t)?;
    }
    let [mapped, file_mapped, give_away, groups, roots_inside] = from_inside.hear(t)?;
    let roots_outside = owner_of_its_file(pid)?;
    t.outside("stat(the same file): st_uid", &roots_outside);
    let its_uids = uids(pid)?;
    t.outside(format!("/proc/{pid}/status: Uid"), &its_uids);
    from_inside.go_on();

    let is_us = its_uids.split(' ').all(|uid| uid == us);
    t.claim("user-1", unmapped == "65534" && file_unmapped == "65534");
    t.claim("user-2", mapped == "0" && file_mapped == "0" && is_us);
    t.claim("user-3", again == "-1 EPERM");
    t.claim("user-4", other == "-1 EPERM");
    t.claim("user-5", give_away == "-1 EINVAL");
    t.claim("user-6", groups == "-1 EPERM");
    t.claim("user-7", roots_inside == "0" && roots_outside == us);
    t.by_hand("unshare --map-root-user id -u", mapped);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside, file: impl AsFd) -> Result<(), Refusal> {
    let (uid, gid) = (geteuid(), getegid()); // before: without a map we could not tell
    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    outside.tell("getuid()", getuid());
    outside.tell("fstat(file): st_uid", owner(&file)?);
    outside.wait();

    // A line of a map: the first ID inside, the first ID outside, how many.
    let other = format!("0 {} 1", uid.as_raw() + 1);
    let _ = put(outside, "/proc/self/uid_map", &other); // EPERM: it is not ours to give
    if !outside.without("map") {
        let map = format!("0 {uid} 1");
        put(outside, "/proc/self/uid_map", &map)?;
        let _ = put(outside, "/proc/self/uid_map", &map); // EPERM: there is a map
        // Since Linux 3.19 the group map is refused with EPERM until setgroups(2) is given up.
        put(outside, "/proc/self/setgroups", "deny")?;
        put(outside, "/proc/self/gid_map", &format!("0 {gid} 1"))?;
    }
    outside.tell("getuid()", getuid());
    outside.tell("fstat(file): st_uid", owner(&file)?);
    let given = fchown(&file, Some(Uid::from_raw(1)), None);
    outside.tell("fchown(file, 1, -1)", result(given));
    outside.tell("setgroups(0, [])", result(setgroups(&[])));
    let made = memfd_create("made inside", MFdFlags::MFD_CLOEXEC).named("memfd_create(2)")?;
    outside.tell("fstat(a file made inside): st_uid", owner(&made)?);
    outside.wait(); // outside looks at it
    Ok(())
}
// ANCHOR_END: inside

/// One write(2) is a whole map: the kernel takes it or refuses it.
fn put(outside: &mut Outside, file: &str, text: &str) -> Result<(), Refusal> {
    let open = File::options().write(true).open(file).named(format!("open({file:?})"))?;
    let written = write(&open, text.as_bytes());
    outside.tell(format!("write({file:?}, {text:?})"), value(written));
    written.map(drop).named(format!("write({file:?})"))
}

/// The owner of an open file, as the one who asks sees it.
fn owner(file: impl AsFd) -> Result<u32, Refusal> {
    Ok(fstat(file).named("fstat(2)")?.st_uid)
}

/// The owner of the file that the process inside has made, as we see it.
fn owner_of_its_file(pid: Pid) -> Result<String, Refusal> {
    let folder = format!("/proc/{pid}/fd");
    let links = read_dir(&folder).named(format!("open({folder:?})"))?;
    let mut links = links.filter_map(|link| Some(link.ok()?.path()));
    let is_it = |link: &PathBuf| readlink(link).is_ok_and(|name| name == MADE_INSIDE);
    let file = links.find(is_it).ok_or(Errno::ENOENT).named(format!("open({folder:?})"))?;
    Ok(stat(&file).named("stat(2)")?.st_uid.to_string())
}

/// Its user IDs, real, effective, saved and for files, as we see them: proc_pid_status(5).
fn uids(pid: Pid) -> Result<String, Refusal> {
    let file = format!("/proc/{pid}/status");
    let status = read_to_string(&file).named(format!("open({file:?})"))?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(uids.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}
