//! The stage: a set of namespaces that plays the host, for one step, and is gone after it. A program
//! that renames it, mounts things on it or forks without end does that to nobody else.
//!
//! ```text
//! checker    on the host; reads what the watcher tells
//! watcher    PID 1 of the stage, in mounts of its own that the program cannot touch: it starts the
//!            program, looks, judges; when it ends, the kernel kills all that is on the stage
//! host       stands in the stage's mounts, which are shared, as systemd makes them
//! program    the reader's; its mounts are the host's until it makes others
//! ```
//!
//! For an ordinary user the stage has a user namespace, in which that user is the same user. The
//! watcher has every capability there. The program has none: execve(2) takes them from who is not
//! root, see capabilities(7). So it stands there as its user stands on a real host.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _, pipe};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, IFF_UP, IFLA_IFNAME, RTM_SETLINK};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, gethostname, getpid, sethostname};
use workbook::cgroups::{self, Group};
use workbook::child::{self, Outside};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::Options;
use workbook::netlink::Message;
use workbook::{guest, mounts, user};

use super::finding::{Miss, Seen, Trouble};
use super::target::Target;
use super::view;

const NULL: Option<&str> = None; // where mount(2) takes a string
/// The stage's hostname.
pub const NAME: &str = "host";
/// How long a step may take: a step takes a fraction of a second, so only what hangs needs so long.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A tmpfs of the stage's own, in which the new root is: a folder that every host has, and in which
/// nobody keeps programs.
const SHM: &str = "/dev/shm";
/// What the new root has beside the probe: places for what a container mounts.
const FOLDERS: [&str; 6] = ["proc", "sys", "dev", "etc", "tmp", "mnt"];

/// The stage, as its watcher holds it.
pub struct Stage<'target> {
    /// What is checked.
    pub target: &'target Target,
    /// The process that stands in the stage's mounts.
    pub host: Pid,
    /// The folder that shall become `/` of a container.
    pub rootfs: PathBuf,
    /// The probe's file by device and inode: on the host, and in the new root.
    pub probes: Vec<(u64, u64)>,
    /// Has it a cgroup of its own, below which the program can make one?
    pub has_cgroup: bool,
    /// The host's mounts, before the program.
    mounts: Vec<String>,
    /// When the step must be done.
    pub deadline: Instant,
}

impl Stage<'_> {
    /// The mounts that the host has not had before: lines of proc_pid_mountinfo(5).
    pub fn leaked(&self) -> Result<Vec<String>, Refusal> {
        let mounts = view::mounts(self.host)?;
        Ok(mounts.into_iter().filter(|line| !self.mounts.contains(line)).collect())
    }

    /// What the program has done to the host besides, if the miss does not tell it already.
    fn with_traces(&self, mut miss: Miss) -> Miss {
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

/// Makes a stage, lets the work be done on it, and takes it away: what came of the work.
pub fn on_a_stage(
    target: &Target,
    group: Option<&Group>,
    work: impl FnOnce(&Stage) -> Result<(), Trouble>,
) -> Result<Result<(), Miss>, Refusal> {
    let is_root = host::has_cap_sys_admin()?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    if !is_root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let (mut from_watcher, mut to_checker) =
        child::ends_for("inside", "workbook", Options::default())?;
    let call: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
    let flags = flags.bits() | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child goes on here with a copy of all that is ours, as
    // after fork(2); and this program has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let pid = Errno::result(pid).named(format!("clone({})", call.join("|")))?;
    if pid == 0 {
        to_checker.live(|to_checker| watch(target, group, work, to_checker));
    }
    let pid = Pid::from_raw(pid as i32);
    if !is_root {
        // The watcher waits meanwhile. It is killed if this is refused: its parent ends.
        let (uid, gid) = (geteuid(), getegid());
        user::map(pid, &format!("{uid} {uid} 1"), &format!("{gid} {gid} 1"))?;
    }
    from_watcher.start(pid, to_checker);
    let mut miss = Miss::default();
    loop {
        let (what, value) = from_watcher.told()?;
        let value = value.trim_start_matches('=').to_string();
        match what.split_once(' ') {
            Some((who, what)) => {
                let (who, what) = (who.to_string(), what.to_string());
                miss.seen.push(Seen { who, what, value });
            }
            None if what == "passed" => return Ok(Ok(())),
            None => {
                miss.mistake = value;
                return Ok(Err(miss));
            }
        }
    }
}

/// The life of the watcher.
fn watch(
    target: &Target,
    group: Option<&Group>,
    work: impl FnOnce(&Stage) -> Result<(), Trouble>,
    to_checker: &mut Outside,
) -> Result<(), Refusal> {
    let stage = set_up(target, group)?;
    match work(&stage) {
        Ok(()) => to_checker.tell("passed", 0),
        Err(Trouble::NotHere(refusal)) => return Err(refusal),
        Err(Trouble::NotYet(miss)) => {
            let Miss { seen, mistake } = stage.with_traces(miss);
            for Seen { who, what, value } in seen {
                to_checker.tell(format!("{who} {what}"), format!("={value}"));
            }
            to_checker.tell("mistake", format!("={mistake}")); // a line cannot end with nothing
        }
    }
    Ok(())
}

fn set_up<'target>(
    target: &'target Target,
    group: Option<&Group>,
) -> Result<Stage<'target>, Refusal> {
    sethostname(NAME).named(format!("sethostname({NAME:?})"))?;
    let up = Message::link(RTM_SETLINK, IFF_UP).text(IFLA_IFNAME, "lo").send();
    up.named("send(RTM_SETLINK, \"lo\", IFF_UP)")?;
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
    let host = host_process()?;
    let deadline = Instant::now() + DEADLINE;
    let (has_cgroup, mounts) = (group.is_some(), view::mounts(host)?);
    Ok(Stage { target, host, rootfs, probes, has_cgroup, mounts, deadline })
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

/// On the stage its cgroup is the top of the hierarchy, and mounted where the host's is. What else is
/// the host's there can be read.
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
    let is_cgroup = |line: &&String| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    let mounts = view::mounts(getpid())?;
    let points = mounts.iter().filter(is_cgroup).map(|line| Path::new(view::mount_point(line)));
    for point in points.filter(|point| own.as_deref() != Some(*point)) {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        // In a user namespace the other flags are locked: EPERM. There nobody could write anyway.
        let _ = mount(NULL, point, NULL, read_only, NULL);
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).named("unshare(CLONE_NEWCGROUP)")
}

/// The process that stands in the stage's own mounts, which are shared. It does nothing, until it is
/// killed with the stage.
fn host_process() -> Result<Pid, Refusal> {
    let (mut is_ready, mut ready) = pipe().named("pipe2(O_CLOEXEC)")?;
    // SAFETY: the checker has one thread.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            drop(is_ready);
            let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
            let made = set_pdeathsig(Signal::SIGKILL)
                .and_then(|()| unshare(CloneFlags::CLONE_NEWNS))
                .and_then(|()| mount(NULL, "/", NULL, shared, NULL));
            let _ = ready.write_all(&[made.err().map_or(0, |errno| errno as i32) as u8]);
            drop(ready);
            loop {
                nix::unistd::pause();
            }
        }
        ForkResult::Parent { child } => {
            drop(ready);
            let mut errno = [Errno::ECHILD as i32 as u8];
            let _ = is_ready.read(&mut errno); // nothing, if it has ended
            match errno[0] {
                0 => Ok(child),
                errno => Err(Errno::from_raw(errno.into()))
                    .named("unshare(CLONE_NEWNS), mount(NULL, \"/\", NULL, MS_REC|MS_SHARED)"),
            }
        }
    }
}

/// A file by device and inode.
pub fn identity(file: &Path) -> Result<(u64, u64), Refusal> {
    let file_is = fs::metadata(file).named(format!("stat({file:?})"))?;
    Ok((file_is.dev(), file_is.ino()))
}
