//! What `/proc` says about a process, and how to hold on to one. The lessons that come first do it
//! themselves: visible-demo, namespaces-demo, pid-demo; setns-demo.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{read_dir, read_to_string};
use std::os::fd::{FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::libc;
use nix::unistd::Pid;

use crate::host::{Named as _, Refusal};

/// The namespace of this kind that a process is in, such as `uts:[4026531838]`: namespaces(7). The
/// process is a PID, or `self`; the kind is the name of the link, such as `uts`.
pub fn namespace(process: impl Display, kind: &str) -> Result<String, Refusal> {
    let link = format!("/proc/{process}/ns/{kind}");
    let target = readlink(&*link).named(format!("readlink({link:?})"))?;
    Ok(target.display().to_string())
}

/// The namespaces that a process is in, one of each kind that this kernel has. The two links that
/// say where its next children will be are left out.
pub fn namespaces(process: impl Display) -> Result<Vec<String>, Refusal> {
    let folder = format!("/proc/{process}/ns");
    let links = read_dir(&folder).named(format!("open({folder:?})"))?;
    let names = links.filter_map(|link| link.ok()?.file_name().into_string().ok());
    let mut kinds: Vec<_> = names.filter(|name| !name.ends_with("_for_children")).collect();
    kinds.sort();
    kinds.iter().map(|kind| namespace(&process, kind)).collect()
}

/// The kinds in which these namespaces are not among those, such as `ipc pid uts`.
pub fn unlike(these: &[String], those: &[String]) -> String {
    let new = these.iter().filter(|namespace| !those.contains(namespace));
    let kinds: Vec<_> = new.filter_map(|namespace| namespace.split(':').next()).collect();
    if kinds.is_empty() { "none".to_string() } else { kinds.join(" ") }
}

/// The PIDs of a process, from the namespace that this `/proc` belongs to down to the process's
/// own, such as `48213 1`: proc_pid_status(5), `NSpid`, since Linux 4.1.
pub fn nspid(process: impl Display) -> Result<String, Refusal> {
    let file = format!("/proc/{process}/status");
    let status = read_to_string(&file).named(format!("open({file:?})"))?;
    Ok(field(&status, "NSpid").unwrap_or_default())
}

/// A field of proc_pid_status(5), such as `NSpid`, in the text of such a file. Blanks are single.
pub fn field(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A field of proc_pid_stat(5), from the third on: the second, a name, may have anything in it.
pub fn stat_field(stat: &str, nth: usize) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(nth - 3)?.parse().ok()
}

/// What an id of ours is in a user namespace with this map: in each line the first id inside, the
/// first of ours, how many. user_namespaces(7).
pub fn id_inside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
        let [inside, ours, count] = numbers[..] else { return None };
        let nth = id.checked_sub(ours).filter(|nth| *nth < count)?;
        Some(inside + nth)
    })
}

/// The name of a process: proc_pid_comm(5).
pub fn comm(process: impl Display) -> Result<String, Refusal> {
    let file = format!("/proc/{process}/comm");
    let comm = read_to_string(&file).named(format!("open({file:?})"))?;
    Ok(comm.trim_end().to_string())
}

/// What ps(1) does first: the entries of `/proc` whose names are numbers are the processes. In
/// ascending order.
pub fn pids() -> Result<Vec<u32>, Refusal> {
    let proc = read_dir("/proc").named("open(\"/proc\")")?;
    let names = proc.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The children of a process: those whose parent it is, `PPid` of proc_pid_status(5).
pub fn children(parent: impl Display) -> Result<Vec<u32>, Refusal> {
    let line = format!("PPid:\t{parent}");
    let is_child = |pid: &u32| {
        let status = read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.lines().any(|other| other == line)) // or it has ended
    };
    Ok(pids()?.into_iter().filter(is_child).collect())
}

/// The processes in a PID namespace, as [`namespace`] names it: to each PID there, the PID here.
/// Those that we may not look into are left out.
pub fn pids_in(pid_namespace: &str) -> Result<BTreeMap<u32, u32>, Refusal> {
    let is_there = |pid: &u32| namespace(pid, "pid").is_ok_and(|its| its == pid_namespace);
    let pids_there = pids()?.into_iter().filter(is_there).filter_map(|pid| {
        let there = nspid(pid).ok()?.rsplit(' ').next()?.parse().ok()?;
        Some((there, pid))
    });
    Ok(pids_there.collect())
}

/// A file descriptor of a process: it stays that process's when the number has become another's.
/// pidfd_open(2), since Linux 5.3.
pub fn pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers and makes a file descriptor.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
