//! A tree of processes, taken down and put back.
//!
//! criu(8), checkpoint and restore; pid_namespaces(7).

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{create_dir, read_to_string};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, SIGCHLD};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{
    Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, pipe2, read, setsid, write,
};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::Lesson;
use workbook::proc::{namespace, pids_in};
use workbook::tool::{self, Tool};
use workbook::transcript::{Transcript, result};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("criu-demo.rs"),
    claims: &[
        ("A10", "Processes that were taken down come back with the PIDs they had."),
        ("criu-1", "In between they are gone."),
        ("criu-2", "On the host they come back with other PIDs."),
        ("criu-3", "Their memory comes back with them."),
    ],
    shell: false,
    controls: &[],
};

const IMAGES: &str = "/run/img";

fn main() -> ExitCode {
    LESSON.run(criu_demo)
}

fn criu_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::needs_root()?; // no user namespace gives what CRIU needs
    tool::find("criu")?;
    tool::find("ip")?;
    // These play the host: all that CRIU does dies with them. It talks to the processes by abstract
    // sockets whose names hold their PIDs, and those belong to a network namespace.
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let (_, mut from_inside) = child::cloned("host", flags, t, host)?;

    let [_lo, _clone, inside, on_host, memory] = from_inside.hear(t)?;
    let [_dump, gone, _restore] = from_inside.hear(t)?;
    let [inside_again, on_host_again, memory_again] = from_inside.hear(t)?;

    t.claim("A10", inside == "1 2" && inside_again == inside);
    t.claim("criu-1", gone == "-1 ESRCH");
    let new = |pid| !on_host.split(' ').any(|old| old == pid);
    t.claim("criu-2", on_host_again.split(' ').all(new));
    t.claim("criu-3", memory.len() > 5 && memory_again == memory);
    t.by_hand("criu check", "Looks good.");
    from_inside.leave(t)
}

/// Plays the host. The images go to a tmpfs of its own, and so does what CRIU keeps in /run and tries
/// out in /tmp.
fn host(outside: &mut Outside) -> Result<(), Refusal> {
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    mounts::mount_proc().named(mounts::MOUNT_PROC)?;
    for place in ["/run", "/tmp"] {
        let mounted = mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>);
        mounted.named(format!("mount(\"tmpfs\", {place:?})"))?;
    }
    create_dir(IMAGES).named("mkdir(\"/run/img\")")?;

    run(outside, "ip link set lo up")?; // CRIU tries out TCP first

    let tree = plant()?;
    outside.tell("clone(CLONE_NEWPID|SIGCHLD)", tree);
    look_at(outside, tree)?;

    run(outside, &format!("criu dump -D {IMAGES} -t {tree} --manage-cgroups=ignore"))?;
    waitpid(tree, None).named("waitpid(2)")?; // CRIU ends what it has written down
    outside.tell(format!("kill({tree}, 0)"), result(kill(tree, None)));
    run(outside, &format!("criu restore -D {IMAGES} -d --manage-cgroups=ignore --pidfile pid"))?;
    let pid = read_to_string("/run/img/pid").named("open(\"/run/img/pid\")")?;
    look_at(outside, Pid::from_raw(pid.trim().parse().unwrap_or_default()))
}

// ANCHOR: tree
/// PID 1 of a new PID namespace, and its child. The end of the pipe closes when both have become
/// another program: then they are ready. Who cannot, writes why.
fn plant() -> Result<Pid, Refusal> {
    let (ready, planted) = pipe2(OFlag::O_CLOEXEC).named("pipe2(O_CLOEXEC)")?;
    let mut stack = vec![0; 256 * 1024];
    let process = Box::new(|| {
        let Err(errno) = grow();
        let _ = write(&planted, &[errno as u8]); // if nobody reads it, nobody is there
        1
    });
    // SAFETY: one thread here too.
    let pid = unsafe { clone(process, &mut stack, CloneFlags::CLONE_NEWPID, Some(SIGCHLD)) };
    let pid = pid.named("clone(CLONE_NEWPID|SIGCHLD)")?;
    drop(planted);
    let mut errno = [0];
    match read(ready, &mut errno).named("read(2)")? {
        0 => Ok(pid), // the end of the file
        _ => Err(Errno::from_raw(errno[0].into())).named("fork(), open(\"/dev/null\"), execve()"),
    }
}

/// A tree that can be taken away holds on to nothing outside of it: a session of its own, no open
/// file but /dev/null, and a program that was started in this mount namespace.
fn grow() -> nix::Result<Infallible> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let word = CString::new(format!("WORD={}", now.subsec_nanos())).unwrap_or_default();
    setsid()?;
    chdir("/run")?; // where CRIU, from inside, mounts a proc for a moment: that tmpfs is our own
    // SAFETY: one thread here too. Both processes go on below.
    unsafe { fork() }?;
    let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // SAFETY: marks them, and closes none that is in use.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    execve(c"/bin/sleep", &[c"sleep", c"infinity"], &[word])
}
// ANCHOR_END: tree

fn run(outside: &mut Outside, call: &str) -> Result<(), Refusal> {
    let mut words = call.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let (status, said) = Tool::start(command.args(words), Duration::from_secs(20))?.end()?;
    if !status.success() {
        return Err(Refusal::of_tool(call, &status.to_string(), &said));
    }
    outside.tell(call, 0);
    Ok(())
}

/// Every process in the PID namespace of this one: PIDs inside, PIDs on the host, memory.
fn look_at(outside: &mut Outside, init: Pid) -> Result<(), Refusal> {
    let (inside, on_host): (Vec<u32>, Vec<u32>) =
        pids_in(&namespace(init, "pid")?)?.into_iter().unzip();
    let list = |pids: Vec<u32>| pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    outside.tell("NSpid of the tree: last field", list(inside));
    outside.tell("NSpid of the tree: first field", list(on_host));

    // The environment is read from the memory of the process: proc_pid_environ(5).
    let file = format!("/proc/{init}/environ");
    let memory = read_to_string(&file).named(format!("open({file:?})"))?;
    outside.tell(format!("cat {file}"), memory.trim_end_matches('\0'));
    Ok(())
}
