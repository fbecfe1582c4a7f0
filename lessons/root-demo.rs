//! Root of what its namespace owns.
//!
//! unshare(2), execve(2), ioctl_ns(2); user_namespaces(7), "Capabilities"; capabilities(7).

use std::fs::{File, read_to_string};
use std::os::fd::AsRawFd as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{ForkResult, fork, getegid, geteuid, gethostname, read, sethostname, write};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::namespace;
use workbook::tool::Tool;
use workbook::transcript::{Transcript, result, value};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("root-demo.rs"),
    claims: &[
        ("root-1", "Whoever makes a user namespace has every capability in it."),
        ("root-2", "The next program keeps them if the map makes it root."),
        ("root-3", "They open a file if its owner is in the map."),
        ("root-4", "They do nothing to what an outer user namespace owns."),
        ("root-5", "What is made inside is owned inside: there root is root."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "map",
            what: "every capability, but no user 0",
            breaks: &["root-2", "root-3"],
        },
        Control {
            name: "newuts",
            what: "inside stays in a UTS namespace that is not its own",
            breaks: &["root-5"],
        },
    ],
};

const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    LESSON.run(root_demo)
}

fn root_demo(t: &mut Transcript) -> Result<(), Refusal> {
    let host_user = namespace("self", "user")?;
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| inside(outside, &host_user)),
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    let [_unshare] = from_inside.hear(t)?;
    t.outside("readlink(\"/proc/self/ns/user\")", &host_user);
    from_inside.go_on();
    let [its_user, caps, caps_exec, file] = from_inside.hear(t)?;
    let [mut caps_root, mut file_root] = [const { String::new() }; 2];
    if !t.without("map") {
        [_, caps_root, file_root] = from_inside.hear(t)?;
    }
    let refused: [String; 4] = from_inside.hear(t)?;
    if !t.without("newuts") {
        let [_unshare] = from_inside.hear(t)?;
    }
    let [owner, renamed] = from_inside.hear(t)?;
    let host_name = gethostname().named("gethostname()")?;
    t.outside("gethostname()", host_name.display());

    t.claim("root-1", caps == "all");
    t.claim("root-2", caps_exec == "none" && caps_root == "all");
    t.claim("root-3", file == "-1 EACCES" && file_root == "5");
    t.claim("root-4", refused.iter().all(|result| result == "-1 EPERM"));
    t.claim("root-5", owner == its_user && renamed == "0" && host_name != "container");
    t.by_hand("unshare --user grep CapEff /proc/self/status", "CapEff: 0000000000000000");
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside, host_user: &str) -> Result<(), Refusal> {
    let (uid, gid) = (geteuid(), getegid());
    let file = memfd_create("file", MFdFlags::MFD_CLOEXEC).named("memfd_create(2)")?;
    write(&file, b"yours").named("write(2)")?;
    fchmod(&file, Mode::empty()).named("fchmod(2)")?; // mode 000: closed to its owner, too
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());

    outside.did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    outside.wait();
    let our_user = namespace("self", "user")?;
    outside.tell("readlink(\"/proc/self/ns/user\")", &our_user);
    if our_user == host_user {
        outside.exit(); // what follows leaves the host alone only from another one
    }
    outside.tell("/proc/self/status: CapEff", cap_eff(&text("/proc/self/status")?)?);
    try_powers(outside, &link)?;
    if !outside.without("map") {
        user::map_to_root(uid, gid)?; // the three files of user-demo
        let map = format!("0 {uid} 1");
        outside.tell(format!("write(\"/proc/self/uid_map\", {map:?})"), map.len());
        try_powers(outside, &link)?;
    }
    // SAFETY: two null pointers. The kernel asks for CAP_SYS_TIME, and then has nothing to set.
    let time = unsafe { libc::syscall(libc::SYS_settimeofday, 0, 0) };
    outside.tell("settimeofday(NULL, NULL)", result(Errno::result(time).map(drop)));
    let mounted = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL);
    outside.tell("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)", result(mounted));
    try_name(outside)?;
    if !outside.without("newuts") {
        outside.did("unshare(CLONE_NEWUTS)", unshare(CloneFlags::CLONE_NEWUTS))?;
    }
    try_name(outside)
}
// ANCHOR_END: inside

/// What are the capabilities worth for the next program, and for the file that is closed?
fn try_powers(outside: &mut Outside, link: &str) -> Result<(), Refusal> {
    let cat = Tool::start(Command::new("cat").arg("/proc/self/status"), Duration::from_secs(60))?
        .succeed()?;
    outside.tell("execve(\"cat\"); CapEff", cap_eff(&cat)?);
    let open = open(link, OFlag::O_RDONLY, Mode::empty());
    outside.tell("read(open(file of mode 000))", value(open.and_then(|fd| read(fd, &mut [0; 9]))));
    Ok(())
}

// ANCHOR: name
/// Which user namespace owns our UTS namespace, and may we set the hostname in it?
fn try_name(outside: &mut Outside) -> Result<(), Refusal> {
    let uts = File::open("/proc/self/ns/uts").named("open(\"/proc/self/ns/uts\")")?;
    // SAFETY: takes no argument, and makes a file descriptor. EPERM: the owner is further out.
    let owner = Errno::result(unsafe { libc::ioctl(uts.as_raw_fd(), libc::NS_GET_USERNS) });
    let owner = owner.and_then(|fd| readlink(&*format!("/proc/self/fd/{fd}")));
    let owner = owner.map(|link| link.display().to_string());
    outside.tell("ioctl(uts, NS_GET_USERNS)", value(owner));
    outside.tell("sethostname(\"container\")", result(sethostname("container")));
    Ok(())
}
// ANCHOR_END: name

/// The effective set in a /proc/PID/status, a bit for each capability.
fn cap_eff(status: &str) -> Result<String, Refusal> {
    let last: u32 = text("/proc/sys/kernel/cap_last_cap")?.trim().parse().unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.unwrap_or_default().trim();
    Ok(match u64::from_str_radix(mask, 16) {
        Ok(0) => "none".to_string(),
        Ok(bits) if bits == u64::MAX >> (63 - last) => "all".to_string(),
        _ => mask.to_string(),
    })
}

fn text(file: &str) -> Result<String, Refusal> {
    read_to_string(file).named(format!("open({file:?})"))
}
