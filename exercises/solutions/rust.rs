//! Runs a command in a container.
//!
//[1-8
//!     my-container COMMAND [ARG...]
//]
//[9
//!     my-container [--rootfs DIR] COMMAND [ARG...]
//]
//[13
//!     my-container --enter PID COMMAND [ARG...]
//]

//[1-11
use std::env::args_os;
//]
//[12
use std::env::{args_os, consts};
//]
use std::ffi::OsString;
//[2
use std::fmt::Display;
//]
//[6
use std::fs;
//]
//[3-7
use std::mem::forget;
//]
//[8-11
use std::mem::{forget, zeroed};
//]
//[12
use std::mem::{forget, offset_of, zeroed};
//]
//[8-12
use std::os::fd::AsRawFd as _;
//]
//[13
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
//]
use std::os::unix::process::CommandExt as _;
//[9-10
use std::path::Path;
//]
//[11
use std::path::{Path, PathBuf};
//]
use std::process::{Command, ExitCode};

//[2
//[8
use nix::errno::Errno;
//]
//[3
use nix::fcntl::OFlag;
//]
//[8-11
use nix::libc;
//]
//[12
use nix::libc::{self, c_long, c_ulong, seccomp_data, sock_filter, sock_fprog};
//]
//[4-8
use nix::mount::{MsFlags, mount};
//]
//[9
use nix::mount::{MntFlags, MsFlags, mount, umount2};
//]
//[2-12
use nix::sched::{CloneFlags, unshare};
//]
//[13
use nix::sched::{CloneFlags, setns, unshare};
//]
//[3-11
use nix::sys::prctl::set_pdeathsig;
//]
//[12
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
//]
//[3
use nix::sys::signal::{SigSet, Signal, kill};
//]
//[8
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
//]
//[3
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
//]
//[2-2
use nix::unistd::{geteuid, sethostname};
//]
//[3-5
use nix::unistd::{ForkResult, Pid, fork, geteuid, pipe2, read, sethostname};
//]
//[6-8
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe2, read, sethostname};
//]
//[9
use nix::unistd::{
    ForkResult, Pid, chdir, fork, getegid, geteuid, pipe2, pivot_root, read, sethostname,
};
//]

//]
//[4
const NULL: Option<&str> = None; // where mount(2) takes a string

//]
fn main() -> ExitCode {
    let words: Vec<OsString> = args_os().skip(1).collect();
    //[1-12
    match container(&words) {
    //]
    //[13
    let ran = match words.split_first() {
        Some((word, words)) if word == "--enter" => enter(words),
        _ => container(&words),
    };
    match ran {
    //]
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("my-container: {error}");
            ExitCode::FAILURE
        }
    }
}

//[2
/// Gives the error of a call its name.
fn did<T, E: Display>(call: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{call}: {error}"))
}

//]
/// Gives the exit status of the command.
fn container(words: &[OsString]) -> Result<u8, String> {
    //[1-1
    run(words)
    //]
    //[3
    did("sigprocmask", passed_on().thread_block())?;
    //]
    //[9
    let (rootfs, words) = match words {
        [option, folder, words @ ..] if option == "--rootfs" => (Some(Path::new(folder)), words),
        words => (None, words),
    };
    //]
    //[2-5
    // Who is not root may make the others only in a user namespace: user_namespaces(7).
    if !geteuid().is_root() {
        did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    }
    //]
    //[6
    user_namespace()?;
    //]
    //[3
    // Not we, but our next child is the first process in it.
    did("unshare(CLONE_NEWPID)", unshare(CloneFlags::CLONE_NEWPID))?;
    //]
    //[2-2
    inside(words)
    //]
    //[11
    let group = limited();
    if let Err(error) = &group {
        eprintln!("my-container: no limit of processes, for {error}");
    }
    let group = group.ok();
    //]
    //[3
    match forked()? {
        //[3-8
        ForkResult::Child => inside(words),
        //]
        //[9-10
        ForkResult::Child => inside(rootfs, words),
        //]
        //[11
        ForkResult::Child => inside(group.as_deref(), rootfs, words),
        //]
        //[3-10
        ForkResult::Parent { child } => wait_for(child),
        //]
        //[11
        ForkResult::Parent { child } => {
            let status = wait_for(child);
            if let Some(group) = group {
                // PID 1 has ended, and before it all that were in there.
                did("rmdir", fs::remove_dir(group))?;
            }
            status
        }
        //]
    }
    //]
}

//[6
/// A user namespace in which we are root, and outside who we were.
fn user_namespace() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid()); // without a map both are 65534
    did("unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    did("uid_map", fs::write("/proc/self/uid_map", format!("0 {uid} 1")))?;
    // Who could leave a group might get at what is kept from that group.
    did("setgroups", fs::write("/proc/self/setgroups", "deny"))?;
    did("gid_map", fs::write("/proc/self/gid_map", format!("0 {gid} 1")))
}

//]
//[11
/// A cgroup for at most 64 processes. Root has one, and who was given a part of the tree: cgroups(7).
fn limited() -> Result<PathBuf, String> {
    let ours = did("/proc/self/cgroup", fs::read_to_string("/proc/self/cgroup"))?;
    let in_v1 = ours.lines().find_map(|line| line.split_once(":pids:"));
    let in_v2 = ours.lines().find_map(|line| line.split_once("0::"));
    let parent = match (in_v1, in_v2) {
        (Some((_, path)), _) => PathBuf::from(format!("/sys/fs/cgroup/pids{path}")),
        (None, Some((_, path))) => hands_down(format!("/sys/fs/cgroup{path}").as_ref())?,
        (None, None) => return Err("/proc/self/cgroup: we are in none".to_string()),
    };
    let group = parent.join(format!("my-container-{}", Pid::this()));
    let _ = fs::remove_dir(&group); // of one that had our PID and was killed
    did("mkdir", fs::create_dir(&group))?;
    let set = fs::write(group.join("pids.max"), "64");
    did("pids.max", set.inspect_err(|_| drop(fs::remove_dir(&group))))?;
    Ok(group)
}

/// In v2 no process can be limited below a cgroup with processes in it, such as ours. So this is the
/// nearest above it that hands pids down.
fn hands_down(ours: &Path) -> Result<PathBuf, String> {
    let does = |folder: &&Path| {
        let on = fs::read_to_string(folder.join("cgroup.subtree_control"));
        on.is_ok_and(|on| on.split_whitespace().any(|controller| controller == "pids"))
    };
    let nearest = ours.ancestors().find(does);
    nearest.map(Path::to_path_buf).ok_or("no cgroup above ours hands pids down".to_string())
}

//]
//[2
//[2-8
/// What is made here is the container's.
fn inside(words: &[OsString]) -> Result<u8, String> {
//]
//[9-10
/// What is made here is the container's.
fn inside(rootfs: Option<&Path>, words: &[OsString]) -> Result<u8, String> {
//]
//[11
/// What is made here is the container's.
fn inside(group: Option<&Path>, rootfs: Option<&Path>, words: &[OsString]) -> Result<u8, String> {
//]
    //[11
    if let Some(group) = group {
        did("cgroup.procs", fs::write(group.join("cgroup.procs"), "0"))?; // 0: who writes it
    }
    //]
    did("unshare(CLONE_NEWUTS)", unshare(CloneFlags::CLONE_NEWUTS))?;
    did("sethostname", sethostname("container"))?;
    //[7
    did("unshare(CLONE_NEWIPC)", unshare(CloneFlags::CLONE_NEWIPC))?;
    //]
    //[8
    did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    did("lo up", lo_up())?;
    //]
    //[4
    did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    //[5
    // Our mounts are copies of the host's, and pass on to them what happens to them.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    did("mount / private", mount(NULL, "/", NULL, private, NULL))?;
    //]
    //[4-8
    // A proc shows the processes of the PID namespace of who mounts it.
    did("mount proc", mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NULL))?;
    //]
    //[9
    match rootfs {
        Some(folder) => change_root(folder)?,
        None => mount_proc("/proc".as_ref())?,
    }
    //]
    //]
    //[2-9
    run(words)
    //]
    //[10
    match forked()? {
        ForkResult::Child => run(words),
        ForkResult::Parent { child } => wait_for(child), // as PID 1
    }
    //]
}

//]
//[9
/// Makes a folder our `/`, and leaves no path that leads to the old one.
fn change_root(folder: &Path) -> Result<(), String> {
    // A root has to be a mount: pivot_root(2).
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    did("mount --rbind", mount(Some(folder), folder, NULL, bind, NULL))?;
    // Who is not root of the host may mount a proc only while another is in sight.
    mount_proc(&folder.join("proc"))?;
    did("chdir", chdir(folder))?;
    did("pivot_root", pivot_root(".", "."))?; // the old root is now mounted over the new one
    did("umount", umount2(".", MntFlags::MNT_DETACH))?;
    did("chdir", chdir("/"))
}

/// A proc shows the processes of the PID namespace of who mounts it.
fn mount_proc(place: &Path) -> Result<(), String> {
    did("mount proc", mount(Some("proc"), place, Some("proc"), MsFlags::empty(), NULL))
}

//]
//[8
/// A new network has one interface, and that is down: netdevice(7).
fn lo_up() -> nix::Result<()> {
    let to_net = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
    // SAFETY: it is numbers, and may be all zero.
    let mut lo: libc::ifreq = unsafe { zeroed() };
    [lo.ifr_name[0], lo.ifr_name[1]] = [b'l', b'o'].map(|byte| byte as libc::c_char);
    lo.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads an ifreq.
    let set = unsafe { libc::ioctl(to_net.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const lo) };
    Errno::result(set).map(drop)
}

//]
//[3
/// fork(2): a child that ends when we do. Should we be killed, nobody waits for it.
fn forked() -> Result<ForkResult, String> {
    let (end, ours) = did("pipe2", pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK))?;
    // SAFETY: this program has one thread.
    let forked = did("fork", unsafe { fork() })?;
    match forked {
        ForkResult::Parent { .. } => forget(ours), // it stays open until we end
        ForkResult::Child => {
            drop(ours);
            did("prctl(PR_SET_PDEATHSIG)", set_pdeathsig(Signal::SIGKILL))?;
            // Who ended before that gives no signal. getppid(2) does not tell: in a new PID
            // namespace it is 0 from the start. But the pipe is at its end then.
            if read(&end, &mut [0]) == Ok(0) {
                return Err("the process outside has ended".to_string());
            }
        }
    }
    Ok(forked)
}

/// The signals that the command gets from us, and SIGCHLD, which is for us.
fn passed_on() -> SigSet {
    use Signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    SigSet::from_iter([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
}

//[3-9
/// Passes on signals until the child ends. Gives its exit status as a shell does: 128 + n if signal
/// n has killed it.
//]
//[10
/// Passes on signals until the child ends, and reaps whoever else becomes our child. Gives the exit
/// status as a shell does: 128 + n if signal n has killed it.
//]
fn wait_for(child: Pid) -> Result<u8, String> {
    loop {
        let signal = did("sigwait", passed_on().wait())?;
        if signal != Signal::SIGCHLD {
            let _ = kill(child, signal); // or it has just ended
        }
        //[3-9
        match did("waitpid", waitpid(child, Some(WaitPidFlag::WNOHANG)))? {
            WaitStatus::Exited(_, status) => return Ok(status as u8),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as u8),
            _ => {} // it lives
        }
        //]
        //[10
        // One SIGCHLD may stand for several children.
        loop {
            match did("waitpid", waitpid(None, Some(WaitPidFlag::WNOHANG)))? {
                WaitStatus::Exited(pid, status) if pid == child => return Ok(status as u8),
                WaitStatus::Signaled(pid, signal, _) if pid == child => {
                    return Ok(128 + signal as u8);
                }
                WaitStatus::StillAlive => break,
                _ => {} // an orphan: pid_namespaces(7)
            }
        }
        //]
    }
}

//]
//[13
/// Runs a command in the container in which a process is.
fn enter(words: &[OsString]) -> Result<u8, String> {
    let (pid, words) = words.split_first().ok_or("--enter PID COMMAND [ARG...]")?;
    let pid: i32 = did("--enter PID", pid.to_string_lossy().parse())?;
    did("sigprocmask", passed_on().thread_block())?;
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = did("pidfd_open", Errno::result(fd))? as i32;
    // SAFETY: just made, and nobody else has it.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    // In it we have the capabilities that the others ask for.
    did("setns(CLONE_NEWUSER)", setns(&process, CloneFlags::CLONE_NEWUSER))?;
    let others = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    did("setns", setns(&process, others))?;
    // As with unshare(2): not we, but our next child is in the PID namespace.
    match forked()? {
        ForkResult::Child => run(words),
        ForkResult::Parent { child } => wait_for(child),
    }
}

//]
//[12
/// The capabilities that root of the container keeps: linux/capability.h.
const KEPT: [c_ulong; 8] = [
    0,  // CAP_CHOWN
    1,  // CAP_DAC_OVERRIDE
    3,  // CAP_FOWNER
    4,  // CAP_FSETID
    5,  // CAP_KILL
    6,  // CAP_SETGID
    7,  // CAP_SETUID
    10, // CAP_NET_BIND_SERVICE
];

/// execve(2) gives root what is in the bounding set.
fn fewer_powers() -> Result<(), String> {
    for capability in (0..64).filter(|capability| !KEPT.contains(capability)) {
        // SAFETY: takes two numbers.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
        match Errno::result(dropped) {
            Err(Errno::EINVAL) => break, // this kernel has no more
            dropped => did("prctl(PR_CAPBSET_DROP)", dropped)?,
        };
    }
    did("prctl(PR_SET_NO_NEW_PRIVS)", set_no_new_privs())?;
    let filter = filter();
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies the filter, which lives until the call returns.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) };
    did("seccomp", Errno::result(set)).map(drop)
}

/// The kernel runs this for every system call, over a struct seccomp_data: seccomp(2).
fn filter() -> Vec<sock_filter> {
    let errno = |errno: Errno| ret(libc::SECCOMP_RET_ERRNO | errno as u32);
    let [refused, no_such_call] = [Errno::EPERM, Errno::ENOSYS].map(errno);
    let mut filter = vec![
        // Another architecture has other numbers.
        load(offset_of!(seccomp_data, arch)),
        jump(libc::BPF_JEQ, ARCH, 1, 0),
        no_such_call,
        load(offset_of!(seccomp_data, nr)),
        jump(libc::BPF_JGE, 0x4000_0000, 0, 1), // x86's third set of numbers, x32
        no_such_call,
        // Its flags are in memory, where a filter cannot look. libc takes clone(2) then.
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1),
        no_such_call,
    ];
    for call in REFUSED {
        filter.extend([jump(libc::BPF_JEQ, call as u32, 0, 1), refused]);
    }
    filter.extend([
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 3),
        load(offset_of!(seccomp_data, args)),
        jump(libc::BPF_JSET, NAMESPACES, 0, 1),
        refused,
        ret(libc::SECCOMP_RET_ALLOW),
    ]);
    filter
}

/// Calls that make or enter namespaces, change mounts, or put code into the kernel.
const REFUSED: [c_long; 15] = [
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
];

/// The flags with which clone(2) makes a namespace.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

/// linux/audit.h: the machine as an ELF file names it, 64 bits, the lower byte first.
const ARCH: u32 = 0xc000_0000
    | match consts::ARCH.as_bytes() {
        b"x86_64" => libc::EM_X86_64 as u32,
        b"riscv64" => libc::EM_RISCV as u32,
        _ => libc::EM_AARCH64 as u32,
    };

/// BPF_STMT of linux/filter.h: loads four bytes of the call.
fn load(offset: usize) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32, 0, 0)
}

/// BPF_JUMP: leaves out `jt` instructions if the test is true, `jf` if not.
fn jump(test: u32, operand: u32, jt: u8, jf: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_K | test, operand, jt, jf)
}

/// BPF_STMT: ends it, and says what becomes of the call.
fn ret(action: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

//]
/// Becomes the command: it has our arguments and streams, and its end is ours.
fn run(words: &[OsString]) -> Result<u8, String> {
    let (command, arguments) = words.split_first().ok_or("which command?")?;
    //[12
    fewer_powers()?;
    //]
    //[3
    // What is blocked stays so across execve(2).
    did("sigprocmask", passed_on().thread_unblock())?;
    //]
    let error = Command::new(command).args(arguments).exec();
    Err(format!("{}: {error}", command.display()))
}
