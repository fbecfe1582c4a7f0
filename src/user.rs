//! The user namespace that an ordinary user needs before any other: user_namespaces(7).
//!
//! Making a namespace of any other kind needs CAP_SYS_ADMIN. A user namespace needs nothing, and
//! its creator has every capability inside it. So an ordinary user makes one first, and owns what
//! is made there. The book shows these few calls in "How a lesson is made".

use std::fmt::Display;
use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::host::{self, Named as _, Refusal};
use crate::transcript::Transcript;

/// Makes a user namespace and becomes root in it, unless this process may already make
/// namespaces. Prints the one call that matters.
pub fn namespace_unless_root(t: &mut Transcript) -> Result<(), Refusal> {
    if host::has_cap_sys_admin()? {
        return Ok(());
    }
    enter_namespace()?;
    t.outside("unshare(CLONE_NEWUSER)", 0);
    Ok(())
}

/// Refuses to go on unless we are root of the host: for what no user namespace gives.
pub fn needs_root() -> Result<(), Refusal> {
    match is_root_of_host()? {
        true => Ok(()),
        false => Err(Refusal::not_root()),
    }
}

/// Have we what only root of the host has?
pub fn is_root_of_host() -> Result<bool, Refusal> {
    Ok(in_first_namespace()? && host::has_cap_sys_admin()?)
}

/// The first user namespace is the one whose map leaves nobody out.
fn in_first_namespace() -> Result<bool, Refusal> {
    let file = "/proc/self/uid_map";
    let map = fs::read_to_string(file).named(format!("open({file:?})"))?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

// ANCHOR: enter
/// A new user namespace in which our user and group are root. Changes the calling process only.
pub fn enter_namespace() -> Result<(), Refusal> {
    let uid = geteuid(); // read before: inside, until there is a map, we are 65534
    let gid = getegid();
    unshare(CloneFlags::CLONE_NEWUSER).named("unshare(CLONE_NEWUSER)")?;
    map_to_root(uid, gid)
}

/// Inside a new user namespace: makes this user and this group, who are ours outside, root.
pub fn map_to_root(uid: Uid, gid: Gid) -> Result<(), Refusal> {
    // Since Linux 3.19 the group map is refused with EPERM until setgroups(2) is given up.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}
// ANCHOR_END: enter

/// Outside: writes the maps of a process's new user namespace. Who is not root may write one line,
/// and the group map only after setgroups(2) is given up.
pub fn map(process: impl Display, uid_map: &str, gid_map: &str) -> Result<(), Refusal> {
    if !geteuid().is_root() {
        write(&format!("/proc/{process}/setgroups"), "deny")?;
    }
    write(&format!("/proc/{process}/uid_map"), uid_map)?;
    write(&format!("/proc/{process}/gid_map"), gid_map)
}

fn write(file: &str, text: &str) -> Result<(), Refusal> {
    fs::write(file, text).named(format!("write({file:?})"))
}
