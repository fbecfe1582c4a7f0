//! A folder is its `/`, and the host's is out of reach.

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use workbook::host::Named as _;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::{Stage, identity};
use crate::check::view::{mount_point, mounts};

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::with_rootfs(stage)?;
    let pid = container.probe.pid;
    let (ours, hosts) = (identity(&stage.rootfs)?, identity("/".as_ref())?);
    let its = identity(Path::new(&format!("/proc/{pid}/root/")))?;
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
            "The host's / is still that of the mount namespace: chroot(2) moves a process and no \
             mount, and who has CAP_SYS_CHROOT gets out of it. pivot_root(2), and then let go of \
             the old root: umount2(2) with MNT_DETACH."
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
    let host = mounts(stage.host)?;
    let what = |line: &str| line.split(' ').skip(2).take(2).map(str::to_string).collect::<Vec<_>>();
    let hosts = host.iter().rfind(|line| mount_point(line) == "/").map(|line| what(line));
    // setns(2) leads to the root of the namespace, wherever the command's own may be. The container's
    // /proc is not asked.
    let proc =
        open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).named("open(\"/proc\")")?;
    let list = container.probe.visit("mnt", || {
        let file = openat(&proc, "self/mountinfo", OFlag::O_RDONLY, Mode::empty())?;
        let mut text = String::new();
        let _ = File::from(file).read_to_string(&mut text); // what is not read is not found
        Ok(text)
    })?;
    let list = list.named("open(\"/proc/self/mountinfo\")")?;
    let found = list.lines().find(|line| Some(what(line)) == hosts);
    Ok(found.map(|line| mount_point(line).to_string()))
}
