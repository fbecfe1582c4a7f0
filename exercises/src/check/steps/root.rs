//! The command is root inside, and outside the user who runs it.

use nix::errno::Errno;
use nix::unistd::geteuid;
use workbook::host::Named as _;
use workbook::proc::id_inside;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// Who has no number in a map is this one: user_namespaces(7).
const NOBODY: u32 = 65534;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    let probe = &container.probe;
    if let Some(miss) = container.shares("user", "CLONE_NEWUSER")? {
        if geteuid().is_root() {
            // Root is root inside without doing anything for it: that shows nothing.
            Err(Errno::EPERM).named("geteuid() > 0")?;
        }
        return Err(miss.into());
    }
    let (uid_map, gid_map) = (probe.file("uid_map")?, probe.file("gid_map")?);
    let effective = |ids: String| ids.split(' ').nth(1).and_then(|id| id.parse::<u32>().ok());
    let outside = |field| Ok::<_, Trouble>(effective(probe.status(field)?).unwrap_or(NOBODY));
    let (uid, gid) = (outside("Uid")?, outside("Gid")?);
    let inside = |map, id| id_inside(map, id).unwrap_or(NOBODY);
    let (inner_uid, inner_gid) = (inside(&uid_map, uid), inside(&gid_map, gid));
    if (inner_uid, inner_gid) == (0, 0) {
        return Ok(());
    }
    let why = match (inner_uid, uid_map.is_empty()) {
        (0, _) => {
            "Its group is not 0: write \"deny\" to /proc/PID/setgroups, and then \"0 GID 1\" to \
             /proc/PID/gid_map, with the GID that you have outside."
        }
        (_, true) => {
            "The user namespace has no map, so its user is nobody, 65534: write \"0 UID 1\" to \
             /proc/PID/uid_map, with the UID that you have outside."
        }
        _ => "The first number in uid_map is the one inside: it has to be 0 for your own UID.",
    };
    let miss = Miss::that(why)
        .inside("id -u; id -g", format!("{inner_uid} {inner_gid}"))
        .inside("cat /proc/self/uid_map", shown(&uid_map))
        .inside("cat /proc/self/gid_map", shown(&gid_map))
        .outside("id -u; id -g", format!("{uid} {gid}"));
    Err(container.program.with_last_words(miss).into())
}

fn shown(map: &str) -> String {
    if map.is_empty() { "empty".to_string() } else { map.to_string() }
}
