//! A root of its own, and no way back.
//!
//! pivot_root(2), umount2(2) with MNT_DETACH; path_resolution(7).

use std::env;
use std::fs::{File, copy, create_dir, create_dir_all, read_to_string};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::unistd::{chdir, chroot, pivot_root};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};
use workbook::{guest, mounts, roots, tool, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("rootfs-demo.rs"),
    claims: &[
        ("rfs-1", "A program and its libraries are a whole root file system."),
        ("rfs-2", "After pivot_root(2) and umount2(2) the way out ends in the new /."),
        ("rfs-3", "The old root and all below it are gone from the list of mounts."),
    ],
    shell: false,
    controls: &[
        Control {
            name: "pivot",
            what: "chroot(2) in the place of pivot_root(2)",
            breaks: &["rfs-2", "rfs-3"],
        },
        Control {
            name: "umount",
            what: "pivot_root(2), and the old root stays mounted",
            breaks: &["rfs-2", "rfs-3"],
        },
    ],
};

const NULL: Option<&str> = None; // where mount(2) takes a string
const POINTS: &str = "cut -d ' ' -f 5 /proc/self/mountinfo";

fn main() -> ExitCode {
    // In the new root this program is executed once more.
    if env::var_os("WORKBOOK_ROOTFS").is_some() {
        return in_the_new_root();
    }
    LESSON.run(rootfs_demo)
}

fn rootfs_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let host = mount_points()?;
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let (_, mut from_inside) = child::cloned("inside", flags, t, |outside| inside(outside, &host))?;
    let [_tmpfs, _cp, _null, _proc] = from_inside.hear(t)?;
    let [_root] = from_inside.hear(t)?;
    if !t.without("pivot") && !t.without("umount") {
        let [_umount] = from_inside.hear(t)?;
    }
    let [host_file, written, _escape, escaped, points] = from_inside.hear(t)?;

    t.claim("rfs-1", host_file == "-1 ENOENT" && written == "5");
    t.claim("rfs-2", escaped == "new root");
    t.claim("rfs-3", points == "/ /dev/null /proc");
    t.by_hand("readlink /proc/self/root", "/");
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside, host: &[String]) -> Result<(), Refusal> {
    mounts::make_private().named(mounts::MAKE_PRIVATE)?; // as in mount-demo
    // mode=755: in a /dev where all may write, a sticky one, opening null with O_CREAT is EACCES.
    let tmpfs = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("mode=755"));
    outside.did("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, \"mode=755\")", tmpfs)?;
    build("/mnt".as_ref()).named("cp rootfs-demo and its libraries to /mnt")?;
    outside.tell("cp rootfs-demo and its libraries to /mnt", 0);
    // Root of a user namespace may make no device, but it may mount one that is there.
    let null = mount(Some("/dev/null"), "/mnt/dev/null", NULL, MsFlags::MS_BIND, NULL);
    outside.did("mount(\"/dev/null\", \"/mnt/dev/null\", MS_BIND)", null)?;
    // Now, or never: to mount a proc, one must be able to see another, whole.
    let proc = mount(Some("proc"), "/mnt/proc", Some("proc"), MsFlags::empty(), NULL);
    outside.did("mount(\"proc\", \"/mnt/proc\", \"proc\", 0, NULL)", proc)?;

    let (old, new) = (roots::identity("/")?, roots::identity("/mnt")?);
    if outside.without("pivot") {
        outside.did("chroot(\"/mnt\"), chdir(\"/\")", chroot("/mnt").and_then(|()| chdir("/")))?;
    } else {
        chdir("/mnt").named("chdir(\"/mnt\")")?;
        // The old root is now mounted on the new one: at the same place, and over it.
        outside.did("pivot_root(\".\", \".\")", pivot_root(".", "."))?;
        if !outside.without("umount") {
            outside.did("umount2(\".\", MNT_DETACH)", umount2(".", MntFlags::MNT_DETACH))?;
        }
    }
    run_a_program(outside)?;
    outside.did(roots::ESCAPE, roots::escape())?; // as in chroot-demo
    let root = match roots::identity("/")? {
        root if root == new => "new root",
        root if root == old => "old root",
        _ => "another directory",
    };
    outside.tell("stat(\"/\")", root);
    let points = mount_points()?;
    let has_the_hosts = points.len() > 3 && host.iter().all(|point| points.contains(point));
    outside.tell(POINTS, if has_the_hosts { "the host's".into() } else { points.join(" ") });
    Ok(())
}
// ANCHOR_END: inside

// ANCHOR: build
/// This program, and what it is linked with: the dynamic loader and the libraries that are mapped.
fn build(root: &Path) -> io::Result<()> {
    create_dir(root.join("proc"))?; // to mount on
    create_dir(root.join("dev"))?;
    File::create(root.join("dev/null"))?;
    copy("/proc/self/exe", root.join("rootfs-demo"))?;
    for library in guest::libraries() {
        let file = root.join(library.trim_start_matches('/'));
        create_dir_all(file.parent().unwrap_or(root))?;
        copy(&library, file)?;
    }
    Ok(())
}

/// fork(2), execve(2), and all that the kernel and the loader look for is in the new root.
fn run_a_program(outside: &mut Outside) -> Result<(), Refusal> {
    let call = "execve(\"/rootfs-demo\")";
    let run = Command::new("/rootfs-demo").env("WORKBOOK_ROOTFS", "1").output().named(call)?;
    for line in tool::printed("/rootfs-demo", &run)?.lines() {
        let (what, result) = line.split_once('\t').unwrap_or((line, ""));
        outside.tell(format!("{call}; {what}"), result);
    }
    Ok(())
}

/// The whole life of that program.
fn in_the_new_root() -> ExitCode {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let host_file = File::open("/etc/os-release").map(drop);
    println!("open(\"/etc/os-release\")\t{}", result(host_file.map_err(errno)));
    let written = File::create("/dev/null").and_then(|mut null| null.write(b"hello"));
    println!("write(\"/dev/null\")\t{}", value(written.map_err(errno)));
    ExitCode::SUCCESS
}
// ANCHOR_END: build

/// Field 5 of proc_pid_mountinfo(5), of the mounts that can be reached from our /.
fn mount_points() -> Result<Vec<String>, Refusal> {
    let table = read_to_string("/proc/self/mountinfo").named("open(\"/proc/self/mountinfo\")")?;
    let mut points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    points.sort_unstable();
    Ok(points.into_iter().map(str::to_string).collect())
}
