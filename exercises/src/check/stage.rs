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
//! For an ordinary user the stage has a user namespace, in which that user is the same user. The
//! watcher has every capability there. The program has none: execve(2) takes them from who is not
//! root, see capabilities(7). So it stands there as its user stands on a real host.

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
use nix::unistd::{ForkResult, fork, gethostname, pause, sethostname};
use workbook::cgroups::{self, Group};
use workbook::host::{Named as _, Refusal};
use workbook::{guest, mounts, netlink, proc};

use super::finding::Miss;
use super::target::Target;
use super::view::{self, identity};

const NULL: Option<&str> = None; // where mount(2) takes a string
/// The stage's hostname.
pub const NAME: &str = "host";
/// How long a step may take: a step takes a fraction of a second, so only what hangs needs so long.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A tmpfs of the stage's own, in which the new root is: a folder that every host has, and in which
/// nobody keeps programs.
const SHM: &str = "/dev/shm";
/// For a second mount(2) of what is a mount already: it can be read.
const READ_ONLY: MsFlags = MsFlags::MS_REMOUNT.union(MsFlags::MS_BIND).union(MsFlags::MS_RDONLY);
const LOCKED: MsFlags = MsFlags::MS_NOSUID
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
    /// The folder that shall become `/` of a container.
    pub rootfs: PathBuf,
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
        let tmpfs = mount(Some("tmpfs"), SHM, Some("tmpfs"), MsFlags::empty(), Some("mode=1777"));
        tmpfs.named(format!("mount(\"tmpfs\", {SHM:?}, \"tmpfs\", 0, \"mode=1777\")"))?;
        let rootfs = Path::new(SHM).join("rootfs");
        let mut probes = vec![identity("/proc/self/exe".as_ref())?];
        if target.wants_rootfs() {
            fill(&rootfs, &target.probe)?;
            probes.push(identity(&rootfs.join(target.probe.trim_start_matches('/')))?);
        }
        cgroup_of_its_own(group)?;
        let host = shared_mounts()?;
        let before = view::mounts_in(&host)?;
        let (has_cgroup, deadline) = (group.is_some(), Instant::now() + DEADLINE);
        Ok(Self { target, host, rootfs, probes, has_cgroup, before, deadline })
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

/// On the stage its cgroup is the top of the hierarchy, and mounted where the host's is. The rest
/// of the host's can be read.
fn cgroup_of_its_own(group: Option<&Group>) -> Result<(), Refusal> {
    let mut own = None;
    if let Some(group) = group {
        group.join().named("write(\"cgroup.procs\", \"0\")")?;
        let ours = cgroups::of("self", "pids").ok_or(Errno::ENOENT);
        let (folder, top) = ours.named("/proc/self/cgroup: pids")?;
        let bound = mount(Some(&folder), &top, NULL, MsFlags::MS_BIND, NULL);
        bound.named(format!("mount({folder:?}, {top:?}, NULL, MS_BIND, NULL)"))?;
        own = Some(top);
    }
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let file = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(file).named(format!("open({file:?})"))?;
    let points = mounts.lines().filter(is_cgroup).map(|line| Path::new(view::mount_point(line)));
    for point in points.filter(|point| own.as_deref() != Some(*point)) {
        // In a user namespace the flags that it has are locked, and must be among them:
        // mount_namespaces(7).
        let has = statvfs(point).named(format!("statvfs({point:?})"))?.flags().bits();
        let flags = READ_ONLY | (MsFlags::from_bits_retain(has) & LOCKED);
        let made = mount(NULL, point, NULL, flags, NULL);
        made.named(format!(
            "mount(NULL, {point:?}, NULL, MS_REMOUNT|MS_BIND|MS_RDONLY|..., NULL)"
        ))?;
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).named("unshare(CLONE_NEWCGROUP)")
}

/// Mounts that are shared, for the program. A child makes them, whose namespace we keep: whoever it
/// might be, the program could kill it.
fn shared_mounts() -> Result<File, Refusal> {
    let (mut made, mut tell) = pipe().named("pipe2(O_CLOEXEC)")?;
    // SAFETY: the checker has one thread.
    let child = match unsafe { fork() }.named("fork()")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
            let made = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(NULL, "/", NULL, shared, NULL));
            let _ = tell.write_all(&[made.err().map_or(0, |errno| errno as i32) as u8]);
            loop {
                pause();
            }
        }
    };
    drop(tell);
    let mut errno = [Errno::ECHILD as i32 as u8];
    let _ = made.read(&mut errno); // nothing, if it has ended
    let file = format!("/proc/{child}/ns/mnt");
    let mounts = File::open(&file).named(format!("open({file:?})"));
    let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)); // our own
    match errno {
        [0] => mounts,
        [errno] => Err(Errno::from_raw(errno.into()))
            .named("unshare(CLONE_NEWNS), mount(NULL, \"/\", NULL, MS_REC|MS_SHARED, NULL)"),
    }
}
