//! Hosts to run a lesson on, each made around one process and gone with it: the two kinds of
//! user, and the hosts that refuse. None needs root, but for a cgroup without free PIDs.

#![allow(dead_code)] // each test file uses its own part

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, chroot, fork, getegid, geteuid, getpid};

const NULL: Option<&str> = None; // where mount(2) takes a string

/// Is this program here? In CI it has to be.
pub fn has(program: &str) -> bool {
    let missing = workbook::tool::find(program).err();
    if let Some(refusal) = &missing {
        assert!(env::var_os("CI").is_none(), "{refusal}");
        eprintln!("not tried here: {refusal}");
    }
    missing.is_none()
}

/// Who runs the lesson.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum User {
    /// uid 0 with every capability: the real root, or the root of a user namespace.
    Root,
    /// No capability: the real user, or, when the tests run as root, uid 1000 of a namespace.
    Ordinary,
}

/// What the host refuses, or lacks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Host {
    /// Nothing.
    Plain,
    /// `user.max_user_namespaces` is 0.
    NoUserNamespaces,
    /// Another of these limits is 0: `uts` is `user.max_uts_namespaces`.
    No(&'static str),
    /// No room for a user namespace in this one: it is as deep as the kernel allows.
    DeepestUser,
    /// No room for a PID namespace in this one.
    DeepestPid,
    /// A user namespace without a map.
    Unmapped,
    /// A root that lacks these capabilities: linux/capability.h.
    RootWithout(&'static [libc::c_ulong]),
    /// A seccomp filter as Docker's default: EPERM for whatever makes or changes a namespace.
    Seccomp,
    /// Docker as it starts a container for root: the same filter, few capabilities, parts of /proc and
    /// /sys covered or read-only.
    Docker,
    /// A filter that knows no pidfd_open(2), as Linux before 5.3.
    NoPidfd,
    /// A filter that knows no clone3(2), and nothing else.
    NoClone3,
    /// A filter in the place of a security module: EACCES for a user namespace.
    SecurityModule,
    /// A filter in the place of a kernel without time namespaces: EINVAL.
    NoTime,
    /// A filter that lets one system call do nothing and report success.
    Pretends(libc::c_long),
    /// Nobody gains a capability by a program: PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// Files of /proc are covered, as in Docker.
    CoveredProc,
    /// /proc/sys is read-only, as in Docker.
    ReadOnlyProcSys,
    /// The whole of /proc is read-only.
    ReadOnlyProc,
    /// Nothing is mounted on /proc but an empty tmpfs.
    NoProc,
    /// A container, and its first process is the lesson.
    Container,
    /// The /proc of another PID namespace.
    ForeignProc,
    /// A /proc with hidepid, and a PID 1 that it hides.
    HiddenProc,
    /// The root is an ordinary directory.
    Chroot,
    /// The root's file system is read-only.
    ReadOnlyRoot,
    /// A `/` that is shared, as systemd makes it.
    SharedRoot,
    /// There is no /dev/kvm, nor anything else in /dev.
    NoKvm,
    /// The /dev/kvm of another user.
    ClosedKvm,
    /// All of this: no user namespaces, no tools for administrators, no cgroups, the /dev/kvm of
    /// another user.
    Shut,
    /// No kernel image is where distributions keep them.
    NoKernel,
    /// There is one, for root alone, as on Ubuntu.
    ClosedKernel,
    /// /sys/fs/cgroup is cgroup v2.
    CgroupV2,
    /// /sys/fs/cgroup has v1 hierarchies and no v2.
    CgroupV1,
    /// /sys/fs is empty.
    NoCgroup,
    /// TMPDIR is a tmpfs without a free block.
    FullTmpdir,
    /// TMPDIR is read-only.
    ReadOnlyTmpdir,
    /// So many more processes may be made: RLIMIT_NPROC; for root, a cgroup's pids.max.
    FreeProcesses(u32),
    /// So much memory may be mapped: RLIMIT_AS.
    Memory(u64),
    /// So many files may be open: RLIMIT_NOFILE.
    OpenFiles(u64),
    /// Standard output is a file on a full disk.
    FullDisk,
    /// These of the standard streams are closed.
    Closed(&'static [i32]),
    /// The lesson gets `--shell`, and this is the reader's `$SHELL`.
    Shell(&'static str),
    /// The lesson gets `--shell`, and `/bin/sh` cannot be run.
    NoShell,
    /// No environment variable is set.
    NoEnvironment,
    /// HOME is not set.
    NoHome,
}

/// Makes `command` run as this kind of user.
pub fn run_as(command: &mut Command, user: User) -> &mut Command {
    let is_root = geteuid().is_root();
    if is_root == (user == User::Root) {
        return command;
    }
    let inside = if user == User::Root { 0 } else { 1000 };
    // SAFETY: between fork and exec it makes system calls and allocates; glibc's allocator is
    // usable after fork.
    unsafe { command.pre_exec(move || user_namespace(inside)) }
}

/// Makes `command` run as an ordinary user on this host; on one that is about root, as root.
pub fn run_on(command: &mut Command, host: Host) -> &mut Command {
    let inside = if matches!(host, Host::RootWithout(_) | Host::Docker) { 0 } else { 1000 };
    around(command, host);
    let prepare = move || {
        if host == Host::Unmapped {
            return Ok(unshare(CloneFlags::CLONE_NEWUSER)?);
        }
        user_namespace(inside)?;
        prepare(host)
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(prepare) }
}

/// Makes `command` run as the real root on this host. Root of a user namespace, where the host is a
/// matter of that: the limits of the first one are everybody's.
pub fn run_on_as_root(command: &mut Command, host: Host) -> &mut Command {
    use Host::{DeepestPid, DeepestUser, No, NoUserNamespaces, RootWithout, Shut, Unmapped};
    match host {
        DeepestPid | DeepestUser | No(_) | NoUserNamespaces | RootWithout(_) | Shut | Unmapped => {
            run_on(command, host)
        }
        // SAFETY: as above.
        _ => unsafe { around(command, host).pre_exec(move || prepare(host)) },
    }
}

/// What a host hands to a program: arguments, environment, standard streams.
fn around(command: &mut Command, host: Host) -> &mut Command {
    match host {
        Host::FullDisk => command.stdout(full_disk()),
        Host::NoShell => command.arg("--shell"),
        Host::Shell(shell) => command.arg("--shell").env("SHELL", shell),
        Host::NoEnvironment => command.env_clear(),
        Host::FullTmpdir | Host::ReadOnlyTmpdir => command.env("TMPDIR", "/mnt"),
        Host::NoHome => command.env_remove("HOME"),
        _ => command,
    }
}

/// A file that is never written: null(4).
pub fn full_disk() -> File {
    File::options().write(true).open("/dev/full").expect("/dev/full: null(4)")
}

/// What a host is besides, for a process that has every capability in its user namespace.
fn prepare(host: Host) -> io::Result<()> {
    match host {
        Host::NoUserNamespaces => forbid("user"),
        Host::No(kind) => forbid(kind),
        Host::DeepestUser => until_no_space(|| user_namespace(1000)),
        Host::DeepestPid => {
            until_no_space(new_pid_namespace)?;
            mount_proc("")
        }
        Host::RootWithout(capabilities) => capabilities.iter().try_for_each(|c| lose(*c)),
        Host::Seccomp => filter(&refusing()),
        Host::Docker => docker(),
        Host::NoPidfd => filter(&answering(libc::SYS_pidfd_open, libc::ENOSYS)),
        Host::NoClone3 => filter(&answering(libc::SYS_clone3, libc::ENOSYS)),
        Host::SecurityModule => {
            filter(&denying(libc::SYS_clone, libc::CLONE_NEWUSER, libc::EACCES))
        }
        // A flag of unshare(2) and clone3(2), and a filter cannot see what clone3(2) is asked for.
        Host::NoTime => filter(&denying(libc::SYS_unshare, libc::CLONE_NEWTIME, libc::EINVAL)),
        Host::Pretends(call) => filter(&answering(call, 0)),
        Host::NoNewPrivileges => Ok(set_no_new_privs()?),
        Host::FreeProcesses(free) => limit(libc::RLIMIT_NPROC, u64::from(free) + 1), // and us
        Host::Memory(bytes) => limit(libc::RLIMIT_AS, bytes),
        Host::OpenFiles(files) => limit(libc::RLIMIT_NOFILE, files),
        Host::Container => {
            new_pid_namespace()?;
            mount_proc("")
        }
        Host::ForeignProc => new_pid_namespace(),
        Host::HiddenProc => hidden_proc(),
        Host::Closed(streams) => {
            for stream in streams {
                // SAFETY: nobody uses it between fork and exec.
                unsafe { libc::close(*stream) };
            }
            Ok(())
        }
        Host::SharedRoot => mount_namespace(MsFlags::MS_SHARED),
        _ => {
            mount_namespace(MsFlags::MS_PRIVATE)?;
            cover(host)
        }
    }
}

/// What a host is by its mounts.
fn cover(host: Host) -> io::Result<()> {
    match host {
        Host::CoveredProc => {
            let docker = ["/proc/keys", "/proc/kcore", "/proc/timer_list"].map(Path::new);
            docker
                .into_iter()
                .filter(|file| file.exists())
                .try_for_each(|file| bind("/dev/null", file))
        }
        Host::ReadOnlyProcSys => {
            bind("/proc/sys", Path::new("/proc/sys"))?;
            read_only("/proc/sys")
        }
        Host::ReadOnlyProc => read_only("/proc"),
        Host::ReadOnlyRoot => read_only("/"),
        Host::NoProc => tmpfs("/proc"),
        Host::Chroot => plain_chroot(),
        Host::NoKernel => no_kernel(),
        Host::ClosedKernel => {
            no_kernel()?;
            closed_file("/boot/vmlinuz-1")
        }
        Host::NoKvm => tmpfs("/dev"),
        Host::ClosedKvm => closed_kvm(),
        Host::Shut => {
            closed_kvm()?;
            tmpfs("/usr/sbin")?;
            tmpfs("/sys/fs/cgroup")?;
            forbid("user")
        }
        Host::CgroupV2 if Path::new(UNIFIED).exists() => bind(UNIFIED, Path::new(CGROUP)),
        Host::CgroupV1 if Path::new(UNIFIED).exists() => tmpfs(UNIFIED),
        Host::NoCgroup => tmpfs("/sys/fs"),
        Host::FullTmpdir => {
            mount(NULL, "/mnt", Some("tmpfs"), MsFlags::empty(), Some("size=4k"))?;
            fs::write("/mnt/full", [0; 4096])
        }
        Host::ReadOnlyTmpdir => {
            tmpfs("/mnt")?;
            read_only("/mnt")
        }
        Host::NoShell => bind("/dev/null", &fs::canonicalize("/bin/sh")?),
        _ => Ok(()),
    }
}

/// Makes `command` run as root of a host of its own: names, network, IPC objects and mounts are its
/// own affair, and its `/` is shared, as systemd makes it.
pub fn run_as_root_of_a_shared_host(command: &mut Command) -> &mut Command {
    let prepare = || {
        let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET;
        // Who is no root, or a root without capabilities, becomes one first.
        unshare(flags).or_else(|_| user_namespace(0).and_then(|()| Ok(unshare(flags)?)))?;
        mount_namespace(MsFlags::MS_SHARED)?;
        // The IPC namespace's own queues; and the files in /dev/shm are objects, too.
        for (kind, folder) in [("mqueue", "/dev/mqueue"), ("tmpfs", "/dev/shm")] {
            if Path::new(folder).exists() {
                mount_at(Some(kind), Path::new(folder), Some(kind), MsFlags::empty())?;
            }
        }
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(prepare) }
}

/// Makes `command` run as root under a filter: the user namespace, if one is needed, comes first.
pub fn run_as_root_under_seccomp(command: &mut Command) -> &mut Command {
    run_as(command, User::Root);
    // SAFETY: as above.
    unsafe { command.pre_exec(|| filter(&refusing())) }
}

/// A cgroup for so many processes, which is how root comes to be short of them. It goes with this
/// value.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where we may make none: v1 has a folder for the controller, v2 has one for all.
    pub fn of(processes: u32) -> Option<Self> {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let name = format!("workbook-{}-{nth}", getpid());
        ["/sys/fs/cgroup/pids", CGROUP].into_iter().find_map(|hierarchy| {
            let folder = Path::new(hierarchy).join(&name);
            fs::create_dir(&folder).ok()?;
            let made = Self(folder);
            let mut limit = File::options().write(true).open(made.0.join("pids.max")).ok()?;
            limit.write_all(processes.to_string().as_bytes()).ok().map(|()| made)
        })
    }

    /// Makes `command` run in it.
    pub fn hold<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let file = self.0.join("cgroup.procs");
        // SAFETY: as above.
        unsafe { command.pre_exec(move || fs::write(&file, "0")) } // 0: the process that writes
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0); // when a test has failed somebody may still be in it
    }
}

fn user_namespace(inside: u32) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {gid} 1"))
}

/// In the user namespace that we are in, and those below it: namespaces(7).
fn forbid(kind: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/user/max_{kind}_namespaces"), "0")
}

/// Goes one namespace deeper, until the kernel says that this was the last.
fn until_no_space(deeper: fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        match deeper() {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
            deeper => deeper?,
        }
    }
}

/// Goes on as PID 1 of a new PID namespace.
fn new_pid_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    stay_behind()
}

/// Goes on as a child. This process waits for it, and ends as it ends.
fn stay_behind() -> io::Result<()> {
    // SAFETY: between fork and exec there is one thread.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(set_pdeathsig(Signal::SIGKILL)?),
        ForkResult::Parent { child } => {
            // One of them says, by its end, that exec has worked.
            // SAFETY: here nobody uses a file any more.
            unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
            let code = match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                _ => 128,
            };
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A proc of our PID namespace, in a mount namespace of our own.
fn mount_proc(options: &str) -> io::Result<()> {
    mount_namespace(MsFlags::MS_PRIVATE)?;
    Ok(mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some(options))?)
}

/// PID 1 may be traced by nobody who lacks a capability, so a proc with hidepid does not show it.
fn hidden_proc() -> io::Result<()> {
    new_pid_namespace()?;
    mount_proc("hidepid=ptraceable")?; // of a group that may see all, 2 would make an exception
    set_dumpable(false)?;
    stay_behind()
}

fn docker() -> io::Result<()> {
    // linux/capability.h: from CAP_CHOWN, 0, to CAP_SETFCAP, 31.
    const GIVEN: [libc::c_ulong; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    mount_namespace(MsFlags::MS_PRIVATE)?;
    cover(Host::CoveredProc)?;
    cover(Host::ReadOnlyProcSys)?;
    read_only("/sys")?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let all = 0..=last.trim().parse().map_err(io::Error::other)?;
    all.filter(|capability| !GIVEN.contains(capability)).try_for_each(lose)?;
    filter(&refusing())
}

fn lose(capability: libc::c_ulong) -> io::Result<()> {
    // SAFETY: takes integers only.
    let lost = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    Ok(Errno::result(lost).map(drop)?)
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let most = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the kernel reads the struct before it returns.
    Ok(Errno::result(unsafe { libc::setrlimit(resource, &most) }).map(drop)?)
}

/// Private first: whatever follows stays here.
fn mount_namespace(propagation: MsFlags) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | propagation)
}

fn mount_at(what: Option<&str>, at: &Path, kind: Option<&str>, flags: MsFlags) -> io::Result<()> {
    Ok(mount(what, at, kind, flags, NULL)?)
}

fn tmpfs(at: &str) -> io::Result<()> {
    mount_at(Some("tmpfs"), Path::new(at), Some("tmpfs"), MsFlags::empty())
}

fn bind(what: &str, at: &Path) -> io::Result<()> {
    mount_at(Some(what), at, None, MsFlags::MS_BIND | MsFlags::MS_REC)
}

/// A mount that came from a more privileged namespace must keep the flags that it has:
/// mount_namespaces(7).
fn read_only(at: &str) -> io::Result<()> {
    let has = MsFlags::from_bits_truncate(statvfs(at)?.flags().bits());
    let kept = has & (MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept;
    mount_at(None, Path::new(at), None, flags)
}

fn closed_file(file: &str) -> io::Result<()> {
    fs::write(file, "")?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o000))
}

fn closed_kvm() -> io::Result<()> {
    tmpfs("/dev")?;
    closed_file("/dev/kvm")
}

const CGROUP: &str = "/sys/fs/cgroup";
/// Where systemd mounts v2 on a hybrid host.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// On Debian /boot is always there, and /usr/lib/modules with an installed kernel.
fn no_kernel() -> io::Result<()> {
    let folders = ["/boot", "/usr/lib/modules"];
    folders.into_iter().filter(|folder| Path::new(folder).exists()).try_for_each(tmpfs)
}

/// Everything of `/` bound into a plain directory, and that made the root. The directory is on a
/// tmpfs of this mount namespace, over /mnt.
fn plain_chroot() -> io::Result<()> {
    let entries: Vec<PathBuf> =
        fs::read_dir("/")?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    tmpfs("/mnt")?;
    let root = Path::new("/mnt/root");
    fs::create_dir(root)?;
    for entry in entries.iter().filter(|entry| *entry != Path::new("/mnt")) {
        let copy = root.join(entry.strip_prefix("/").map_err(io::Error::other)?);
        let kind = fs::symlink_metadata(entry)?.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(entry)?, copy)?;
        } else if kind.is_dir() {
            fs::create_dir(&copy)?;
            mount_at(entry.to_str(), &copy, None, MsFlags::MS_BIND | MsFlags::MS_REC)?;
        }
    }
    chroot(root)?;
    Ok(chdir("/")?)
}

/// A BPF program for seccomp(2): struct sock_filter is code, jt, jf, k.
type Program = Vec<libc::sock_filter>;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Offsets in struct seccomp_data: the call's number, the lower half of its first argument.
const CALL: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn return_errno(errno: i32) -> libc::sock_filter {
    step(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0)
}

/// As Docker's default profile for a process without CAP_SYS_ADMIN.
fn refusing() -> Program {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    let mut program = vec![
        step(LOAD, CALL, 0, 0),
        step(EQUAL, libc::SYS_clone3 as u32, 0, 1),
        return_errno(libc::ENOSYS), // its flags lie in memory: libc must fall back to clone
    ];
    for call in [
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_sethostname,
    ] {
        program.extend([step(EQUAL, call as u32, 0, 1), return_errno(libc::EPERM)]);
    }
    program.extend([
        step(EQUAL, libc::SYS_clone as u32, 0, 3),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(ANY_BIT, namespaces as u32, 0, 1),
        return_errno(libc::EPERM),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]);
    program
}

/// This call does nothing; it gives this errno, or success.
fn answering(call: libc::c_long, errno: i32) -> Program {
    vec![
        step(LOAD, CALL, 0, 0),
        step(EQUAL, call as u32, 0, 1),
        return_errno(errno),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

/// This flag of unshare(2), and of another call that takes it first, gives this errno.
fn denying(call: libc::c_long, flag: i32, errno: i32) -> Program {
    vec![
        step(LOAD, CALL, 0, 0),
        step(EQUAL, libc::SYS_unshare as u32, 1, 0),
        step(EQUAL, call as u32, 0, 3),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(ANY_BIT, flag as u32, 0, 1),
        return_errno(errno),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

fn filter(program: &Program) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    set_no_new_privs()?;
    // SAFETY: the kernel copies the program, which lives until the call returns.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
