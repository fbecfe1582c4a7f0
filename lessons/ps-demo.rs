//! A /proc shows the PID namespace it was mounted in.
//!
//! mount(2) of proc in new PID and mount namespaces;
//! pid_namespaces(7), "/proc and PID namespaces".

use std::process::ExitCode;

use nix::fcntl::readlink;
use nix::libc::SIGCHLD;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::mounts;
use workbook::proc::{comm, pids};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("ps-demo.rs"),
    claims: &[
        ("A17", "A new PID namespace alone still has the /proc of the host."),
        ("A18", "What reads that /proc, as ps does, sees the host's processes."),
        ("A19", "The PIDs it reads there mean nothing inside, or another process."),
        ("A16", "A proc mounted inside shows the processes inside, and no others."),
        ("ps-1", "The host's own /proc stays as it was."),
        ("ps-2", "In the /proc of a namespace without us, self points nowhere."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "proc-mount",
            what: "a new PID namespace and the old /proc, as in the article",
            breaks: &["A16", "ps-2"],
        },
        Control {
            name: "private",
            what: "outside plays a host whose / is shared; the mount reaches it",
            breaks: &["ps-1"],
        },
    ],
};

const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    LESSON.run(ps_demo)
}

fn ps_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    if t.without("private") {
        mounts::play_a_shared_host(t)?; // a mount namespace of its own, with a shared /
    }
    let host_pid = getpid().to_string();
    t.outside("getpid()", &host_pid);

    let (mut from_inside, mut to_outside) = child::ends(t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(inside));
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let call = "clone(CLONE_NEWPID|CLONE_NEWNS|SIGCHLD)";
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }.named(call)?;
    t.outside(call, pid);
    from_inside.start(pid, to_outside);

    let [pid_inside, self_old, kill_old, comm_old, count_old] = from_inside.hear(t)?;
    let comm_host = comm(1)?;
    t.outside("cat /proc/1/comm", &comm_host);
    from_inside.go_on();
    if !t.without("proc-mount") && !t.without("private") {
        let [_make_private] = from_inside.hear(t)?;
    }
    if !t.without("proc-mount") {
        let [_mount_proc] = from_inside.hear(t)?;
    }
    let [self_new, count_new] = from_inside.hear(t)?;
    let self_host = proc_self("/proc/self");
    t.outside("readlink(\"/proc/self\")", &self_host);
    let mut self_of_its_proc = self_host.clone(); // without private it is the only one here
    if !t.without("private") {
        // /proc/PID/root is the root directory as that process sees it: proc_pid_root(5).
        let link = format!("/proc/{pid}/root/proc/self");
        self_of_its_proc = proc_self(&link);
        t.outside(format!("readlink({link:?})"), &self_of_its_proc);
    }

    t.claim("A17", self_old == pid.to_string());
    t.claim("A18", count_old != "1");
    t.claim("A19", pid_inside == "1" && kill_old == "-1 ESRCH" && comm_old == comm_host);
    t.claim("A16", self_new == "1" && count_new == "1");
    t.claim("ps-1", self_host == host_pid);
    t.claim("ps-2", self_new == "1" && self_of_its_proc == "-1 ENOENT");
    t.by_hand("unshare --map-root-user --pid --fork ps -p 1 -o comm=", &comm_host);
    t.by_hand("unshare --map-root-user --pid --fork --mount-proc ps -o pid=,comm=", "1 ps");
    from_inside.leave(t)
}

// ANCHOR: old
/// The whole life of the process inside. It is alone in its PID namespace.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("getpid()", getpid());
    // Not broken: we have a PID in the namespace this proc was mounted in, too.
    let host_pid = proc_self("/proc/self");
    outside.tell("readlink(\"/proc/self\")", &host_pid);
    // Signal 0 asks whether there is such a process, and sends nothing: kill(2).
    let there = kill(Pid::from_raw(host_pid.parse().unwrap_or_default()), None);
    outside.tell(format!("kill({host_pid}, 0)"), result(there));
    outside.tell("cat /proc/1/comm", comm(1)?);
    outside.tell("ls -d /proc/[0-9]* | wc -l", pids()?.len());
    // ANCHOR_END: old
    outside.wait();

    // ANCHOR: new
    if !outside.without("proc-mount") {
        if !outside.without("private") {
            // As in mount-demo: where / is shared, the host would get the new proc.
            outside.did(mounts::MAKE_PRIVATE, mounts::make_private())?;
        }
        // The new proc belongs to the PID namespace of the process that mounts it.
        let mounted = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NULL);
        outside.did("mount(\"proc\", \"/proc\", \"proc\", 0, NULL)", mounted)?;
    }
    outside.tell("readlink(\"/proc/self\")", proc_self("/proc/self"));
    outside.tell("ls -d /proc/[0-9]* | wc -l", pids()?.len());
    // ANCHOR_END: new
    Ok(())
}

/// The reader's own PID in the namespace that a proc was mounted in. ENOENT: it has none.
fn proc_self(link: &str) -> String {
    match readlink(link) {
        Ok(pid) => pid.display().to_string(),
        Err(errno) => format!("-1 {errno:?}"),
    }
}
