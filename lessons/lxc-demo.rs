//! LXC makes containers of namespaces.
//!
//! lxc-create(1), lxc-start(1), lxc-execute(1), lxc.container.conf(5); namespaces(7).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, SIGCHLD};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, clone};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::tool::{self, Tool};
use workbook::transcript::Transcript;
use workbook::{mounts, proc, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("lxc-demo.rs"),
    claims: &[
        ("A5", "LXC, a tool in user space, makes containers of namespaces."),
        ("lxc-1", "A container of LXC has six namespaces of its own."),
        ("lxc-2", "It shares the user and the time namespace with LXC."),
        ("lxc-3", "In a system container PID 1 is an init, with more processes."),
        ("lxc-4", "In an application container LXC is PID 1, the command PID 2."),
        ("lxc-5", "LXC that can make no cgroups leaves a container in its own."),
        ("lxc-6", "LXC that can make cgroups makes some for each container."),
    ],
    shell: true,
    controls: &[Control {
        name: "newnet",
        what: "LXC is told to share its network: lxc.net.0.type = none",
        breaks: &["lxc-1", "lxc-2"],
    }],
};

const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
const CONFIG: &str = "lxc.apparmor.profile = unconfined\nlxc.mount.auto = proc:rw\n";
const EXECUTE: &str = "lxc-execute -qP /run -n app -f conf -- sh -c";
const COMMAND: &str = "echo $$; sleep 1d; :"; // the last so that sh does not become sleep

fn main() -> ExitCode {
    LESSON.run(lxc_demo)
}

fn lxc_demo(t: &mut Transcript) -> Result<(), Refusal> {
    tool::find("lxc-start")?;
    tool::find("busybox")?;
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    t.outside("readlink(\"/proc/self/ns/pid\")", proc::namespace("self", "pid")?);

    let (mut from_lxc, mut to_outside) = child::ends_of("lxc", t)?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| to_outside.live(lxc));
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let call = "clone(CLONE_NEWPID|CLONE_NEWNS|CLONE_NEWNET|SIGCHLD)";
    // SAFETY: this program has one thread, so the child may do whatever we may.
    let room = unsafe { clone(process, &mut stack, flags, Some(SIGCHLD)) }.named(call)?;
    t.outside(call, room);
    from_lxc.start(room, to_outside);

    let [_create, _start, link] = from_lxc.hear(t)?;
    let sys = proc::pids_in(&link)?;
    let (init, init_name) = look(t, &sys, 1)?;
    let names: BTreeSet<_> = sys.values().flat_map(proc::comm).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(" ");
    t.outside("the processes in that PID namespace", &names);
    let unlike = proc::unlike(&proc::namespaces(init)?, &proc::namespaces(room)?);
    let is_new = |kind: &&str| unlike.split(' ').any(|new| new == *kind);
    let (new, shared): (Vec<_>, Vec<_>) = KINDS.into_iter().partition(is_new);
    t.outside(format!("new in sys: {}", new.join(" ")), new.len());
    t.outside(format!("shared with lxc: {}", shared.join(" ")), shared.len());
    let cgroups = |pid: &str| {
        let file = format!("/proc/{pid}/cgroup");
        fs::read_to_string(&file).named(format!("open({file:?})"))
    };
    let stays = cgroups(&init.to_string())? == cgroups("self")?;
    t.outside(format!("cmp /proc/{init}/cgroup /proc/self/cgroup"), u8::from(!stays));

    from_lxc.go_on();
    let [_execute, link_of_app] = from_lxc.hear(t)?;
    let app = proc::pids_in(&link_of_app)?;
    let [(_, first), (_, second)] = [look(t, &app, 1)?, look(t, &app, 2)?];
    proc::namespaces(init)?; // the first container is still there: what was seen of it counts

    t.claim("A5", new.contains(&"pid") && link != link_of_app);
    t.claim("lxc-1", new == ["cgroup", "ipc", "mnt", "net", "pid", "uts"]);
    t.claim("lxc-2", shared == ["time", "user"]);
    t.claim("lxc-3", init_name == "init" && names != "init");
    t.claim("lxc-4", first.contains("lxc") && second == "sh");
    t.claim("lxc-5", stays);
    t.open("lxc-6", "cgroups that end with a run");
    t.by_hand("unshare --map-root-user lxc-unshare -s UTSNAME -H sys hostname", "sys");
    from_lxc.leave(t)
}

// ANCHOR: room
/// The whole life of the process that LXC runs in. It is PID 1 of a PID namespace, so what LXC
/// starts dies with it. It has mounts of its own, so what LXC writes is in memory, and goes too.
fn lxc(outside: &mut Outside) -> Result<(), Refusal> {
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    mounts::mount_proc().named(mounts::MOUNT_PROC)?;
    for (place, flags) in [("/run", MsFlags::empty()), ("/sys/fs/cgroup", MsFlags::MS_RDONLY)] {
        let mounted = mount(Some("tmpfs"), place, Some("tmpfs"), flags, None::<&str>);
        mounted.named(format!("mount(\"tmpfs\", {place:?})"))?;
    }
    // LXC calls setgroups(2) if it has CAP_SETGID, and an ordinary user's namespace has given
    // that call up. So its programs shall not have that capability.
    const CAP_SETGID: libc::c_ulong = 6; // linux/capability.h
    // SAFETY: takes integers only.
    let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SETGID, 0, 0, 0) };
    Errno::result(dropped).named("prctl(PR_CAPBSET_DROP, CAP_SETGID)")?;
    // ANCHOR_END: room

    // ANCHOR: containers
    let net = if outside.without("newnet") { "none" } else { "empty" };
    let config = format!("lxc.net.0.type = {net}\n{CONFIG}");
    fs::write("/run/conf", &config).named("write(\"/run/conf\")")?;
    run("lxc-create -P /run -n sys -t busybox -f conf", outside)?;
    run("lxc-start -P /run -n sys -d", outside)?;
    // Its init starts getty when it has started all else.
    start("lxc-attach -qP /run -n sys -- sh -c", Some("until pidof getty; do :; done"))?
        .succeed()?;
    run("lxc-attach -qP /run -n sys readlink /proc/1/ns/pid", outside)?;
    outside.wait();

    fs::write("/run/conf", config + "lxc.console.path = none\n").named("write(\"/run/conf\")")?;
    let mut app = start(EXECUTE, Some(COMMAND))?;
    outside.tell(format!("{EXECUTE} '{COMMAND}'"), app.until("\n")?.trim_end());
    run("lxc-attach -qP /run -n app readlink /proc/1/ns/pid", outside)?;
    std::mem::forget(app); // it goes on, and ends when we do
    Ok(())
    // ANCHOR_END: containers
}

/// Runs one of LXC's programs and tells which namespace it printed, or that it succeeded.
fn run(line: &str, outside: &mut Outside) -> Result<(), Refusal> {
    let said = start(line, None)?.succeed()?;
    outside.tell(line, said.lines().find(|line| line.starts_with("pid:[")).unwrap_or("0"));
    Ok(())
}

/// Starts one of them. `last` is an argument with blanks in it.
fn start(line: &str, last: Option<&str>) -> Result<Tool, Refusal> {
    let mut words = line.split(' ').chain(last);
    let mut command = Command::new(words.next().unwrap_or_default());
    Tool::start(command.args(words).current_dir("/run"), Duration::from_secs(60))
}

/// Prints and gives the process that has this PID there: its PID here, and its name.
fn look(
    t: &mut Transcript,
    pids: &BTreeMap<u32, u32>,
    there: u32,
) -> Result<(u32, String), Refusal> {
    let here = pids.get(&there).copied().unwrap_or_default();
    let name = proc::comm(here)?;
    let call = format!("/proc/{here}/status: Name, NSpid (first, last)");
    t.outside(call, format!("{name} {here} {there}"));
    Ok((here, name))
}
