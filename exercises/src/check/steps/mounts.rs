//! What is mounted in the container is not seen on the host.

use nix::mount::{MsFlags, mount};
use workbook::host::Named as _;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;
use crate::check::view::mount_point;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    if let Some(miss) = container.shares("mnt", "CLONE_NEWNS")? {
        let place = stage.leaked()?.first().map(|line| mount_point(line).to_string());
        let reached = |miss: Miss, place| miss.outside("/proc/self/mountinfo, new", place);
        return Err(place.into_iter().fold(miss, reached).into());
    }
    // One more, whatever the command itself may mount.
    let mounted = container.probe.visit("mnt", || {
        let tmpfs = |at| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>);
        tmpfs("/tmp").map(|()| "/tmp").or_else(|_| tmpfs("/").map(|()| "/")).map(str::to_string)
    })?;
    let place = mounted.named("mount(\"tmpfs\", \"/tmp\", \"tmpfs\", 0, NULL)")?;
    let leaked = stage.leaked()?;
    let Some(line) = leaked.first() else { return Ok(()) };
    let miss = Miss::that(
        "This mount reached the host, and was undone with it. A new mount namespace is a copy, and \
         shared mounts tell their copies what happens to them. First of all make them private: \
         mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL).",
    );
    let miss = miss.inside(format!("mount -t tmpfs tmpfs {place}"), "mounted");
    Err(miss.outside("/proc/self/mountinfo, new", mount_point(line)).into())
}
