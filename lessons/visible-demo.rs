//! The host sees all, a container its own.
//!
//! clone(2) with CLONE_NEWPID and CLONE_NEWNS; pid_namespaces(7), proc_pid_status(5).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{read_dir, read_to_string};
use std::iter::successors;
use std::process::ExitCode;

use nix::libc::SIGCHLD;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::{set_child_subreaper, set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pause};
use workbook::child::{self, Inside, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("visible-demo.rs"),
    claims: &[
        ("A2", "A container's processes are on the host's list, by name and PID."),
        ("A3", "A container lists its own: not another's, and not the host's."),
        ("A4", "Namespaces shield them: a1 and b1 are both PID 1, each in its own."),
    ],
    shell: true,
    controls: &[Control {
        name: "namespaces",
        what: "A and B are ordinary processes, and all see all",
        breaks: &["A3", "A4"],
    }],
};

const OURS: &str = "/proc/[0-9]*/status: Name, if ours"; // of the host's long list
const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    LESSON.run(visible_demo)
}

fn visible_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER): "How a lesson is made"
    // Without PID namespaces a2, a3 and b2 outlive their parents, and become our children.
    set_child_subreaper(t.without("namespaces")).named("prctl(PR_SET_CHILD_SUBREAPER)")?;
    t.did("prctl(PR_SET_NAME, \"host\")", set_name(c"host"))?; // it runs in no container

    let mut from_a = container(t, "A", &[c"a1", c"a2", c"a3"])?;
    let mut from_b = container(t, "B", &[c"b1", c"b2"])?;
    for from in [&mut from_a, &mut from_b] {
        if !t.without("namespaces") {
            let [_private, _proc] = from.hear(t)?;
        }
        let [_name] = from.hear(t)?;
    }
    // Now all six are there, and each side looks.
    let ours = look(getpid())?;
    let host_sees = names(&ours);
    t.outside(OURS, &host_sees);
    from_a.go_on();
    let [a_sees] = from_a.hear(t)?;
    from_b.go_on();
    let [b_sees] = from_b.hear(t)?;
    let mut first_in_two = 0;
    for (name, pid) in &ours {
        let nspid = field(pid, "NSpid").unwrap_or_default();
        t.outside(format!("/proc/{pid}/status: Name, NSpid"), format!("{name} {nspid}"));
        first_in_two += i32::from(nspid == format!("{pid} 1"));
    }

    t.claim("A2", host_sees == "a1 a2 a3 b1 b2 host");
    t.claim("A3", a_sees == "a1 a2 a3" && b_sees == "b1 b2");
    t.claim("A4", first_in_two == 2);
    t.by_hand("unshare --map-root-user --pid --fork --mount-proc ps -e -o pid=,comm=", "1 ps");
    from_a.leave(t)?;
    drop(from_b);
    while wait().is_ok() {}
    Ok(())
}

// ANCHOR: container
/// A container: its first process has a PID and a mount namespace of its own.
fn container(t: &mut Transcript, who: &'static str, names: &[&CStr]) -> Result<Inside, Refusal> {
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let mut call = "clone(CLONE_NEWPID|CLONE_NEWNS|SIGCHLD)";
    if t.without("namespaces") {
        (flags, call) = (CloneFlags::empty(), "clone(SIGCHLD)");
    }
    let (mut from_inside, mut to_outside) = child::ends_of(who, t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(|outside| inside(outside, names)));
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let pid = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }.named(call)?;
    t.outside(call, pid);
    from_inside.start(pid, to_outside);
    Ok(from_inside)
}

/// The whole life of a container's first process.
fn inside(outside: &mut Outside, names: &[&CStr]) -> Result<(), Refusal> {
    if !outside.without("namespaces") {
        // Where / is shared, what we mount would appear on the host: private first.
        let private = mount(NULL, "/", NULL, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NULL);
        outside.did("mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL)", private)?;
        // A proc shows the PID namespace of the process that mounts it.
        let proc = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NULL);
        outside.did("mount(\"proc\", \"/proc\", \"proc\", 0, NULL)", proc)?;
    }
    let first = getpid();
    for name in &names[1..] {
        // A fork copies the name too, so nobody ever sees a process without its own.
        set_name(name).named("prctl(PR_SET_NAME)")?;
        // SAFETY: one thread here too.
        if let ForkResult::Child = unsafe { fork() }.named("fork()")? {
            // It dies with PID 1, as all in a PID namespace do. Without one, by this signal.
            if set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == first {
                pause();
            }
            outside.exit();
        }
    }
    outside.did(&format!("prctl(PR_SET_NAME, {:?})", names[0]), set_name(names[0]))?;
    outside.wait();
    // Our parent is outside: in a new PID namespace that is 0, and all are below it.
    let all = self::names(&look(getppid())?);
    let is_all = !outside.without("namespaces");
    outside.tell(if is_all { "/proc/[0-9]*/status: Name" } else { OURS }, all);
    Ok(())
}
// ANCHOR_END: container

// ANCHOR: look
/// Who is there, by name and PID: `first` and all below it. As ps(1) does: the entries of /proc
/// whose names are numbers are the processes.
fn look(first: Pid) -> Result<BTreeMap<String, String>, Refusal> {
    let proc = read_dir("/proc").named("open(\"/proc\")")?;
    let entries = proc.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = entries.filter(|name| name.parse::<u32>().is_ok());
    let up = |pid: &String| successors(Some(pid.clone()), |pid| field(pid, "PPid"));
    let ours = pids.filter(|pid| up(pid).any(|pid| pid == first.to_string()));
    Ok(ours.filter_map(|pid| Some((field(&pid, "Name")?, pid))).collect())
}

/// A field of a process's status: proc_pid_status(5). `None` when the process has ended.
fn field(pid: &str, name: &str) -> Option<String> {
    let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))?;
    Some(value.replace('\t', " "))
}
// ANCHOR_END: look

fn names(processes: &BTreeMap<String, String>) -> String {
    processes.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}
