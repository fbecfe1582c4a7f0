//! What this host allows, found by doing it: each try in a process of its own, which ends.

use std::fs::File;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::host::{self, Named as _, Refusal};
use crate::lesson::Options;
use crate::{child, guest, kvm, mounts, tool, user};

/// Can this host run a lesson with this source? Looks for the tools and the device that the source
/// names, and for a kernel if it boots one; tries the namespaces that it names, and a mount of sysfs
/// or proc if it makes one. Changes nothing here.
pub fn try_lesson(source: &str) -> Result<(), Refusal> {
    host::proc_is_ours()?;
    if source.contains("needs_root()") {
        user::needs_root()?;
    }
    for tool in source.split("tool::find(\"").skip(1) {
        tool::find(tool.split('"').next().unwrap_or_default())?;
    }
    if source.contains("guest::kernel()") {
        guest::kernel()?;
    }
    if source.contains(".open(\"/dev/kvm\")") {
        kvm::can_run_x86()?;
        File::options().read(true).write(true).open("/dev/kvm").named("open(\"/dev/kvm\")")?;
    }
    if !source.contains("CLONE_NEW") {
        return Ok(());
    }
    let flags = namespaces(source);
    let mounts_sysfs = source.contains("mount(Some(\"sysfs\")");
    let mounts_proc = ["mount(Some(\"proc\")", "mount_proc()"].iter().any(|s| source.contains(s));

    let (mut inside, mut outside) = child::ends_for("inside", "workbook", Options::default())?;
    // SAFETY: the workbook has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => outside.live(|_| {
            if !host::has_cap_sys_admin()? {
                user::enter_namespace()?;
            }
            unshare(flags).named(format!("unshare({})", name(flags)))?;
            if mounts_sysfs {
                mount_sysfs()?;
            }
            if mounts_proc { mount_proc() } else { Ok(()) }
        }),
        ForkResult::Parent { child } => inside.start(child, outside),
    }
    inside.leave_quietly()
}

/// nix has no name for it, so a lesson takes it from libc.
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// The namespaces that a lesson's source names: its `CloneFlags::CLONE_NEW...`.
fn namespaces(source: &str) -> CloneFlags {
    let mut code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let flags = code.clone().flat_map(|line| line.split("CloneFlags::").skip(1));
    let mut flags: CloneFlags = flags
        .map(|text| text.split(|c: char| !c.is_ascii_uppercase() && c != '_').next())
        .filter_map(|flag| CloneFlags::from_name(flag.unwrap_or_default()))
        .collect();
    flags.set(NEWTIME, code.any(|line| line.contains("libc::CLONE_NEWTIME")));
    flags
}

/// The flags as strace(1) shows them.
fn name(flags: CloneFlags) -> String {
    let names = flags.iter_names().map(|(name, _)| name);
    let time = flags.contains(NEWTIME).then_some("CLONE_NEWTIME");
    names.chain(time).collect::<Vec<_>>().join("|")
}

/// In the mount namespace that a lesson which mounts a sysfs has.
fn mount_sysfs() -> Result<(), Refusal> {
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .named("mount(\"sysfs\", \"/sys\", \"sysfs\", 0, NULL)")
}

/// Only a process of a PID namespace of ours can mount a proc: after unshare(2) that is our next
/// child. It mounts in a mount namespace that dies with it.
fn mount_proc() -> Result<(), Refusal> {
    // SAFETY: one thread, as above.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            let mounted = mounts::make_private().and_then(|()| mounts::mount_proc());
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(mounted.err().map_or(0, |errno| errno as i32)) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).named("waitpid(2)")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)).named(mounts::MOUNT_PROC),
            _ => Err(Refusal::ended_early()),
        },
    }
}
