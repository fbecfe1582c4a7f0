//! A process is in one of each kind.
//!
//! clone(2), setns(2), mount(2) with MS_BIND; namespaces(7).

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use nix::fcntl::readlink;
use nix::libc::SIGCHLD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, clone, setns, unshare};
use nix::sys::stat::stat;
use nix::unistd::{ForkResult, Pid, fork, gethostname, sethostname};
use workbook::child;
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("namespaces-demo.rs"),
    claims: &[
        ("A6", "Mounts, PIDs, UTS, IPC, network, users: each can be new."),
        ("ns-1", "Two kinds have joined these six: cgroup and time."),
        ("ns-2", "Of a kind that no flag names, the child has its parent's."),
        ("ns-3", "An open file keeps a namespace that no process is in."),
        ("ns-4", "So does a bind mount, until it is unmounted."),
    ],
    shell: false,
    controls: &[Control {
        name: "bind-mount",
        what: "only the open file keeps the namespace, until it is closed",
        breaks: &["ns-4"],
    }],
};

// ANCHOR: kinds
/// The links in /proc/PID/ns, and the flag for a new one: the article's six, and two more.
const KINDS: [(&str, CloneFlags); 8] = [
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("user", CloneFlags::CLONE_NEWUSER), // made first, in any order of flags: it owns the others
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    // CLONE_NEWTIME is 0x80, and in that byte clone(2) takes the child's signal: see time-demo.
    ("time", CloneFlags::empty()),
];
// ANCHOR_END: kinds

const KEPT: &str = "/mnt/uts"; // in a file system in memory, in a mount namespace of our own
const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    LESSON.run(namespaces_demo)
}

fn namespaces_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER)
    let call = "readlink(\"/proc/self/ns/uts\")";
    t.outside(call, readlink("/proc/self/ns/uts").named(call)?.display());

    let flags: CloneFlags = KINDS.iter().map(|(_, flag)| *flag).collect();
    let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| {
        to_outside.live(|outside| outside.did("sethostname(\"kept\")", sethostname("kept")))
    });
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }
        .named(format!("clone({}|SIGCHLD)", names.join("|")))?;
    t.outside("clone(CLONE_NEWNS|CLONE_NEWPID|...|SIGCHLD)", pid);
    from_inside.start(pid, to_outside);
    let [_sethostname] = from_inside.hear(t)?;

    let [new, same] = compare(t, pid)?;
    let its_uts = format!("/proc/{pid}/ns/uts");
    let file = File::open(&its_uts).named(format!("open({its_uts:?})"))?;
    drop(from_inside); // the process inside ends, and we wait for it: waitpid(2)
    let link = readlink(&*its_uts).map(drop);
    t.outside(format!("readlink({its_uts:?})"), result(link));
    let [by_file, by_mount, by_neither] = keep(t, file)?;

    t.claim("A6", new.starts_with(&["mnt", "pid", "uts", "ipc", "net", "user"]));
    match same[..] {
        [] => t.open("ns-1", "a kernel with time namespaces"),
        _ => t.claim("ns-1", new.ends_with(&["cgroup"])),
    }
    t.claim("ns-2", same.iter().all(|kind| *kind == "time"));
    t.claim("ns-3", link.is_err() && by_file == "kept");
    t.claim("ns-4", by_mount == "kept" && by_neither == "-1 EINVAL");
    t.by_hand("ls /proc/self/ns | grep -vc _for_children", new.len() + same.len());
    Ok(())
}

/// In which kinds is the process in another namespace than we are, and in which in the same?
fn compare(t: &mut Transcript, pid: Pid) -> Result<[Vec<&'static str>; 2], Refusal> {
    let (mut new, mut same) = (Vec::new(), Vec::new());
    for (kind, _) in KINDS {
        let (ours, its) = (format!("/proc/self/ns/{kind}"), format!("/proc/{pid}/ns/{kind}"));
        let Ok(ours) = stat(&*ours) else { continue }; // this kernel has no such kind
        let its = stat(&*its).named(format!("stat({its:?})"))?;
        let call = format!("stat -Lc %i /proc/{{self,{pid}}}/ns/{kind}");
        t.outside(call, format!("{} {}", ours.st_ino, its.st_ino));
        // The two together are what a namespace is known by, for as long as it exists.
        let is_same = (its.st_dev, its.st_ino) == (ours.st_dev, ours.st_ino);
        if is_same { &mut same } else { &mut new }.push(kind);
    }
    Ok([new, same])
}

// ANCHOR: keep
/// No process is in the namespace. An open file leads there, then a bind mount, then nothing.
fn keep(t: &mut Transcript, file: File) -> Result<[String; 3], Refusal> {
    let fd = format!("/proc/self/fd/{}", file.as_raw_fd());
    let by_file = visit(t, "fd", &fd)?;

    // A place that nobody else sees and that goes away with us.
    unshare(CloneFlags::CLONE_NEWNS).named("unshare(CLONE_NEWNS)")?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)?; // as in visible-demo
    let tmpfs = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL);
    tmpfs.named("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)")?;
    File::create(KEPT).named("open(\"/mnt/uts\", O_CREAT)")?;
    if !t.without("bind-mount") {
        let bound = mount(Some(&*fd), KEPT, NULL, MsFlags::MS_BIND, NULL);
        t.did("mount(\"/proc/self/fd/...\", \"/mnt/uts\", NULL, MS_BIND, NULL)", bound)?;
    }
    drop(file); // close(2)
    let by_mount = visit(t, "open(\"/mnt/uts\")", KEPT)?;
    if !t.without("bind-mount") {
        t.did("umount2(\"/mnt/uts\", 0)", umount2(KEPT, MntFlags::empty()))?;
    }
    let by_neither = visit(t, "open(\"/mnt/uts\")", KEPT)?; // EINVAL: an ordinary file again
    Ok([by_file, by_mount, by_neither])
}
// ANCHOR_END: keep

/// A process of its own goes there, asks for the hostname, and ends: nobody stays.
fn visit(t: &mut Transcript, fd: &str, path: &str) -> Result<String, Refusal> {
    let (mut visitor, mut to_outside) = child::ends_of("visitor", t)?;
    // SAFETY: one thread here, too.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| {
            let file = File::open(path).named(format!("open({path:?})"))?;
            let name = setns(file, CloneFlags::CLONE_NEWUTS).and_then(|()| gethostname());
            let call = format!("setns({fd}, CLONE_NEWUTS); gethostname()");
            outside.tell(call, value(name.map(|name| name.to_string_lossy().into_owned())));
            Ok(())
        }),
        ForkResult::Parent { child } => visitor.start(child, to_outside),
    }
    let [name] = visitor.hear(t)?;
    Ok(name)
}
