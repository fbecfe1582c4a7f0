//! The stage: a set of namespaces that plays the host, for one step, and is gone after it. A
//! program that renames it, mounts things on it or forks without end does that to nobody else.
//!
//! ```text
//! checker   on the host; reads what the watcher tells
//! watcher   PID 1 of the stage, in mounts of its own that the program cannot touch: it starts the
//!           program, looks, judges; when it ends, the kernel kills all that is on the stage
//! program   the reader's; it starts in the stage's mounts, which are shared, as systemd makes them
//! ```
//!
//! The stage has a user namespace, in which the watcher has every capability. An ordinary user is the
//! same user there, and the program has no capability: execve(2) takes them from who is not root, see
//! capabilities(7). Root is root of the stage and, outside, a user that nobody else is: what asks
//! for root of the host, such as the clock or most of /proc/sys, refuses it. So both stand there as
//! they stand on a real host.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _, pipe};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, geteuid, gethostname, pause, sethostname};
use workbook::cgroups::Group;
use workbook::host::{Named as _, Refusal};
use workbook::roots::identity;
use workbook::{guest, mounts, netlink, proc};

use super::cgroups::{self, Way};
use super::finding::Miss;
use super::target::Target;
use super::view;

/// Where mount(2) takes a string.
pub const NULL: Option<&str> = None;
/// The stage's hostname.
pub const NAME: &str = "host";
/// How long a step may take: a step takes a fraction of a second, so only what hangs needs so long.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A tmpfs of the stage's own, in which the new root is: a folder that every host has, and in which
/// nobody keeps programs.
const SHM: &str = "/dev/shm";
/// Two copies of the probe, with its libraries, and what a tool keeps there.
const SHM_OPTIONS: &str = "mode=1777,size=256m";
/// The flags that have the same bits in statvfs(3) and mount(2).
const LOCKED: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME)
    .union(MsFlags::MS_NODIRATIME);
/// What the new root has beside the probe: places for what a container mounts.
const FOLDERS: [&str; 6] = ["proc", "sys", "dev", "etc", "tmp", "mnt"];

/// The stage, as its watcher holds it.
pub struct Stage<'target> {
    /// What is checked.
    pub target: &'target Target,
    /// The stage's mounts: a namespace that this file keeps.
    pub host: File,
    /// The program's cgroup.
    pub cgroup: Way,
    /// The folder that shall become `/` of a container.
    pub rootfs: PathBuf,
    /// A name of the probe's file that everybody can use, and that it also has in the new root.
    pub probe: String,
    /// The probe's file by device and inode: on the host, and in the new root.
    pub probes: Vec<(u64, u64)>,
    /// Has it a cgroup of its own, below which the program can make one?
    pub has_cgroup: bool,
    /// What was mounted on the host before the program.
    before: Vec<String>,
    /// When the step must be done.
    pub deadline: Instant,
}

impl<'target> Stage<'target> {
    /// In the watcher: makes the rest of it.
    pub fn set_up(target: &'target Target, group: Option<&Group>) -> Result<Self, Refusal> {
        sethostname(NAME).named(format!("sethostname({NAME:?})"))?;
        netlink::lo_up().named(netlink::LO_UP)?;
        mounts::make_private().named(mounts::MAKE_PRIVATE)?;
        mounts::mount_proc().named(mounts::MOUNT_PROC)?;
        // A host may give user namespaces to its root alone.
        kept_namespace("user", "unshare(CLONE_NEWUSER)", || unshare(CloneFlags::CLONE_NEWUSER))?;
        let tmpfs = mount(Some("tmpfs"), SHM, Some("tmpfs"), MsFlags::empty(), Some(SHM_OPTIONS));
        tmpfs.named(format!("mount(\"tmpfs\", {SHM:?}, \"tmpfs\", 0, {SHM_OPTIONS:?})"))?;
        let rootfs = Path::new(SHM).join("rootfs");
        let probe = open_to_all(&target.probe)?;
        let mut probes = vec![identity(&probe)?];
        if target.wants_rootfs() {
            fill(&rootfs, &probe)?;
            probes.push(identity(rootfs.join(probe.trim_start_matches('/')))?);
        }
        let cgroup = cgroups::of_a_stage(group)?;
        let host = shared_mounts()?;
        let before = view::mounts_in(&host)?;
        let (has_cgroup, deadline) = (group.is_some(), Instant::now() + DEADLINE);
        Ok(Self { target, host, cgroup, rootfs, probe, probes, has_cgroup, before, deadline })
    }

    /// The host's namespace of this kind, such as `uts:[4026531838]`.
    pub fn namespace(&self, kind: &str) -> Result<String, Refusal> {
        match kind {
            "mnt" => Ok(format!("mnt:[{}]", self.host.metadata().named("fstat(2)")?.ino())),
            _ => proc::namespace("self", kind),
        }
    }

    /// The mounts that the host has not had before: lines of proc_pid_mountinfo(5).
    pub fn leaked(&self) -> Result<Vec<String>, Refusal> {
        let now = view::mounts_in(&self.host)?;
        Ok(now.into_iter().filter(|line| !self.before.contains(line)).collect())
    }

    /// What the program has done to the host besides, if the miss does not tell it already.
    pub fn with_traces(&self, mut miss: Miss) -> Miss {
        let name = gethostname().unwrap_or_default();
        let name = name.to_string_lossy();
        if name != NAME && !miss.tells(&name) {
            miss = miss.outside("hostname, undone with the host", name);
        }
        for line in self.leaked().unwrap_or_default() {
            let place = view::mount_point(&line);
            if !miss.tells(place) {
                miss = miss.outside("mounted on the host, undone with it", place);
            }
        }
        miss
    }
}

/// A name of the probe's file for who is in a user namespace of root's. Root of the host's files are
/// another's there, and those in `/root` closed to it.
fn open_to_all(probe: &str) -> Result<String, Refusal> {
    let is_open = |file: &Path| fs::metadata(file).is_ok_and(|file| file.mode() & 1 == 1);
    if !geteuid().is_root() || Path::new(probe).ancestors().all(is_open) {
        return Ok(probe.to_string());
    }
    let copy = Path::new(SHM).join("probe");
    fs::copy(probe, &copy).named(format!("open({probe:?}), then write(2)"))?;
    let open = fs::set_permissions(&copy, Permissions::from_mode(0o755));
    open.named(format!("chmod({copy:?}, 0755)"))?;
    Ok(copy.display().to_string())
}

/// The new root: the probe under the name that it has on the host, with its libraries.
fn fill(rootfs: &Path, probe: &str) -> Result<(), Refusal> {
    for folder in FOLDERS {
        let folder = rootfs.join(folder);
        fs::create_dir_all(&folder).named(format!("mkdir({folder:?})"))?;
    }
    // Who becomes a user that owns nothing here must still be able to enter.
    let open = fs::set_permissions(rootfs, Permissions::from_mode(0o755));
    open.named(format!("chmod({rootfs:?}, 0755)"))?;
    guest::root_at(rootfs, probe)
}

/// A namespace of this kind, for the program. A child makes it, and we keep it: whoever it might be,
/// the program could kill it.
pub fn kept_namespace(
    kind: &str,
    call: &str,
    make: impl FnOnce() -> nix::Result<()>,
) -> Result<File, Refusal> {
    let (mut made, mut tell) = pipe().named("pipe2(O_CLOEXEC)")?;
    // SAFETY: the checker has one thread.
    let child = match unsafe { fork() }.named("fork()")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = tell.write_all(&[make().err().map_or(0, |errno| errno as i32) as u8]);
            loop {
                pause();
            }
        }
    };
    drop(tell);
    let mut errno = [Errno::ECHILD as i32 as u8];
    let _ = made.read(&mut errno); // nothing, if it has ended
    let file = format!("/proc/{child}/ns/{kind}");
    let namespace = File::open(&file).named(format!("open({file:?})"));
    let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)); // our own
    match errno {
        [0] => namespace,
        [errno] => Err(Errno::from_raw(errno.into())).named(call),
    }
}

/// Gives a mount one more flag. In a user namespace those that it has are locked, and must be among
/// them: mount_namespaces(7).
pub fn remount(point: &Path, flag: MsFlags) -> nix::Result<()> {
    let has = MsFlags::from_bits_retain(statvfs(point)?.flags().bits()) & LOCKED;
    mount(NULL, point, NULL, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | has | flag, NULL)
}

/// Mounts that are shared.
fn shared_mounts() -> Result<File, Refusal> {
    let call = "unshare(CLONE_NEWNS), mount(NULL, \"/\", NULL, MS_REC|MS_SHARED, NULL)";
    kept_namespace("mnt", call, || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NULL, "/", NULL, MsFlags::MS_REC | MsFlags::MS_SHARED, NULL)
    })
}
