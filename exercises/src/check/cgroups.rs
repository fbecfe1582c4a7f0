//! The cgroups of a stage, where the checker can have one. It has the limits, and nobody on the
//! stage sees it:
//!
//! ```text
//! workbook-check    with the limits
//!   stage           the top of the hierarchy on the stage, and mounted where the host's is
//!     init.scope    the watcher; systemd has PID 1 in one of that name, and LXC looks for it
//!     program       the program
//! ```
//!
//! In v2 no process can be limited below a cgroup with processes in it: cgroups(7), "no internal
//! processes". So nobody is in the inner ones.

use std::collections::BTreeMap;
use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use workbook::cgroups::{self, Group};
use workbook::host::{Named as _, Refusal};

use super::stage::{NULL, kept_namespace, remount};
use super::view;

/// What all on the stage together may not exceed, where the host lets us say so: processes, and
/// bytes of memory.
pub const LIMITS: [(&str, &str); 2] = [("pids.max", "1000"), ("memory.max", "1073741824")];
const CONTROLLERS: [&str; 2] = ["pids", "memory"];
const NAME: &str = "workbook-check";
const TOP: &str = "stage";
const PROGRAM: &str = "stage/program";
const WATCHER: &str = "stage/init.scope";

/// The checker's, if it can have one: else the step limits says why not.
pub fn group() -> Option<Group> {
    // Not every kernel that counts processes counts memory.
    let group = Group::make(NAME, &CONTROLLERS).or_else(|_| Group::make(NAME, &CONTROLLERS[..1]));
    let group = group.ok()?;
    for (file, limit) in LIMITS {
        let _ = group.write(file, limit); // or there is no such controller
    }
    let _ = group.without_swap(LIMITS[1].1);
    Some(group)
}

/// Has the kernel ended somebody in it who took too much memory? v1 counts where that process is.
pub fn was_too_much(group: &Group) -> bool {
    let kills = |below| group.number_below(below, "memory.events", "oom_kill").unwrap_or_default();
    ["", TOP, PROGRAM].map(kills).iter().any(|kills| *kills > 0)
}

/// How a program comes to be where it shall.
pub struct Way {
    /// The files by which it goes into its cgroup; none if it stays in the host's.
    pub doors: Vec<File>,
    /// The cgroup namespace.
    pub namespace: File,
}

/// In the watcher: makes them all, and goes into its own. The rest of the host's can be read.
pub fn of_a_stage(group: Option<&Group>) -> Result<Way, Refusal> {
    let Some(group) = group else {
        read_only(&[])?;
        return Ok(Way { doors: Vec::new(), namespace: namespace(&[])? });
    };
    group.join().named("write(\"cgroup.procs\", \"0\")")?;
    for below in [TOP, WATCHER, PROGRAM] {
        group.make_below(below).named(format!("mkdir({below:?})"))?;
    }
    let doors = |below| group.doors(below).named(format!("open(\"{below}/cgroup.procs\")"));
    // Its root is the cgroup in which its maker is. So it comes before there is somebody below.
    let way = Way { namespace: namespace(&doors(TOP)?)?, doors: doors(PROGRAM)? };
    let call = format!("write(\"{WATCHER}/cgroup.procs\", \"0\")");
    cgroups::enter(&doors(WATCHER)?).named(call)?;
    for below in ["", TOP] {
        group.hand_down(below)?;
    }
    let places = CONTROLLERS.iter().filter_map(|controller| cgroups::of("self", controller));
    // In v2 it is one hierarchy for all.
    let tops: BTreeMap<_, _> = places.map(|(ours, top)| (top, ours)).collect();
    let tops = tops.into_iter().filter(|(_, ours)| ours.ends_with(WATCHER));
    let mut own = Vec::new();
    for (top, ours) in tops {
        let stage = ours.parent().unwrap_or(&top);
        let bound = mount(Some(stage), &top, NULL, MsFlags::MS_BIND, NULL);
        bound.named(format!("mount({stage:?}, {top:?}, NULL, MS_BIND, NULL)"))?;
        own.push(top);
    }
    read_only(&own)?;
    Ok(way)
}

/// A cgroup namespace with the cgroup of these doors as its root.
fn namespace(doors: &[File]) -> Result<File, Refusal> {
    kept_namespace("cgroup", "unshare(CLONE_NEWCGROUP)", || {
        cgroups::enter(doors)?;
        unshare(CloneFlags::CLONE_NEWCGROUP)
    })
}

/// Every mount of a cgroup file system but these.
fn read_only(own: &[PathBuf]) -> Result<(), Refusal> {
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let file = "/proc/self/mountinfo";
    let mounts = read_to_string(file).named(format!("open({file:?})"))?;
    let points = mounts.lines().filter(is_cgroup).map(|line| Path::new(view::mount_point(line)));
    for point in points.filter(|point| !own.iter().any(|own| own == point)) {
        let call = format!("mount(NULL, {point:?}, NULL, MS_REMOUNT|MS_BIND|MS_RDONLY|..., NULL)");
        match remount(point, MsFlags::MS_RDONLY) {
            Err(Errno::ENOENT | Errno::EINVAL) => {} // it is covered, as in a container it may be
            made => made.named(call)?,
        }
    }
    Ok(())
}
