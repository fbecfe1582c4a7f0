//! Hosts to run a lesson on, each made around one process and gone with it: the two kinds of
//! user, and the hosts that refuse. None needs root.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot, getegid, geteuid};

/// Who runs the lesson.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum User {
    /// uid 0 with every capability: the real root, or the root of a user namespace.
    Root,
    /// No capability: the real user, or, when the tests run as root, uid 1000 of a namespace.
    Ordinary,
}

/// What the host refuses.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    /// `user.max_user_namespaces` is 0.
    NoUserNamespaces,
    /// A seccomp filter as Docker's default: EPERM for whatever makes or changes a namespace.
    Seccomp,
    /// Nothing is mounted on /proc but an empty tmpfs.
    NoProc,
    /// No kernel image is where distributions keep them.
    NoKernel,
    /// There is one, for root alone, as on Ubuntu.
    ClosedKernel,
    /// There is no /dev/kvm.
    NoKvm,
    /// The /dev/kvm of another user.
    ClosedKvm,
    /// All of this: no user namespaces, no tools for administrators, the /dev/kvm of another user.
    Shut,
    /// The root is an ordinary directory.
    Chroot,
    /// A `/` that is shared, as systemd makes it.
    SharedRoot,
    /// A filter that lets one system call do nothing and report success.
    Pretends(libc::c_long),
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

/// Makes `command` run as an ordinary user on this host.
pub fn run_on(command: &mut Command, host: Host) -> &mut Command {
    let prepare = move || {
        user_namespace(1000)?;
        match host {
            Host::NoUserNamespaces => fs::write("/proc/sys/user/max_user_namespaces", "0"),
            Host::Seccomp => filter(&refusing()),
            Host::Pretends(call) => filter(&pretending(call)),
            Host::NoProc => {
                mount_namespace(MsFlags::MS_PRIVATE)?;
                mount_at(Some("tmpfs"), Path::new("/proc"), Some("tmpfs"), MsFlags::empty())
            }
            Host::NoKernel => no_kernel(),
            Host::ClosedKernel => {
                no_kernel()?;
                fs::write("/boot/vmlinuz-1", "")?;
                fs::set_permissions("/boot/vmlinuz-1", fs::Permissions::from_mode(0o000))
            }
            Host::NoKvm => empty_dev(),
            Host::ClosedKvm => closed_kvm(),
            Host::Shut => {
                closed_kvm()?;
                mount_at(Some("tmpfs"), Path::new("/usr/sbin"), Some("tmpfs"), MsFlags::empty())?;
                fs::write("/proc/sys/user/max_user_namespaces", "0")
            }
            Host::SharedRoot => mount_namespace(MsFlags::MS_SHARED),
            Host::Chroot => plain_chroot(),
        }
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(prepare) }
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

fn user_namespace(inside: u32) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {gid} 1"))
}

/// Private first: whatever follows stays here.
fn mount_namespace(propagation: MsFlags) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | propagation)
}

fn mount_at(what: Option<&str>, at: &Path, kind: Option<&str>, flags: MsFlags) -> io::Result<()> {
    Ok(mount(what, at, kind, flags, None::<&str>)?)
}

/// On Debian /boot is always there, and /usr/lib/modules with an installed kernel.
fn no_kernel() -> io::Result<()> {
    mount_namespace(MsFlags::MS_PRIVATE)?;
    for folder in ["/boot", "/usr/lib/modules"].map(Path::new) {
        if folder.exists() {
            mount_at(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty())?;
        }
    }
    Ok(())
}

fn empty_dev() -> io::Result<()> {
    mount_namespace(MsFlags::MS_PRIVATE)?;
    mount_at(Some("tmpfs"), Path::new("/dev"), Some("tmpfs"), MsFlags::empty())
}

fn closed_kvm() -> io::Result<()> {
    empty_dev()?;
    fs::write("/dev/kvm", "")?;
    fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(0o000))
}

/// Everything of `/` bound into a plain directory, and that made the root. The directory is on a
/// tmpfs of this mount namespace, over /mnt.
fn plain_chroot() -> io::Result<()> {
    mount_namespace(MsFlags::MS_PRIVATE)?;
    let entries: Vec<PathBuf> =
        fs::read_dir("/")?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    mount_at(Some("tmpfs"), Path::new("/mnt"), Some("tmpfs"), MsFlags::empty())?;
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

fn pretending(call: libc::c_long) -> Program {
    vec![
        step(LOAD, CALL, 0, 0),
        step(EQUAL, call as u32, 0, 1),
        return_errno(0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

fn filter(program: &Program) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: sets a flag of this process.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the program, which lives until the call returns.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
