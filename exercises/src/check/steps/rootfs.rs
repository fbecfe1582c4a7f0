//! A folder is its `/`, and the host's is out of reach.

use workbook::roots::identity;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;
use crate::check::view::{self, mount_point};

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::with_rootfs(stage)?;
    let (ours, hosts) = (identity(&stage.rootfs)?, identity("/")?);
    let its = container.probe.root()?;
    let folder = stage.rootfs.display();
    if its != ours {
        let why = match its == hosts {
            true => "Its / is still the host's: pivot_root(2).",
            false => "Its / is another folder than the one that was given.",
        };
        let miss = Miss::that(why).inside("stat /: device, inode", shown(its));
        let miss = miss.outside(format!("stat {folder}"), shown(ours));
        return Err(container.program.with_last_words(miss).into());
    }
    container.must_not_share("mnt", "CLONE_NEWNS")?;
    let Some(place) = old_root(stage, &container)? else { return Ok(()) };
    let why = match place.as_str() {
        "/" => {
            "The host's / is still mounted, below its own, and who has CAP_SYS_CHROOT gets back to \
             it. chroot(2) moves a process and no mount: it takes pivot_root(2), and then to let \
             go of the old root with umount2(2), MNT_DETACH."
        }
        _ => {
            "The host's / is still mounted there: umount2(2) with MNT_DETACH, after pivot_root(2)."
        }
    };
    let miss = Miss::that(why).inside("readlink(\"/proc/self/root\")", "/");
    Err(miss.inside("the host's /, in its mount namespace", place).into())
}

fn shown((device, inode): (u64, u64)) -> String {
    format!("{device:#x} {inode}")
}

/// Where the host's root is mounted in the mount namespace of the container, if it is.
fn old_root(stage: &Stage, container: &Container) -> Result<Option<String>, Trouble> {
    // The device and the folder on it: fields 3 and 4.
    let what = |line: &str| line.split(' ').skip(2).take(2).map(str::to_string).collect::<Vec<_>>();
    let hosts = view::mounts_in(&stage.host)?;
    let root = hosts.iter().rfind(|line| mount_point(line) == "/").map(|line| what(line));
    let its = container.probe.mounts()?;
    let found = its.iter().find(|line| Some(what(line)) == root);
    Ok(found.map(|line| mount_point(line).to_string()))
}
