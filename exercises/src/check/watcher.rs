//! The two ends of a stage: the checker, outside, which makes it, and its PID 1, which watches.

use std::fs::read_to_string;

use nix::errno::Errno;
use nix::libc;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};
use workbook::cgroups::Group;
use workbook::child::{self, Inside, Outside};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::Options;
use workbook::user;

use super::finding::{Miss, Seen, Trouble};
use super::stage::{Stage, remount};
use super::target::Target;
use super::view::mount_point;

/// Makes a stage, lets the work be done on it, and takes it away: what came of the work.
pub fn on_a_stage(
    target: &Target,
    group: Option<&Group>,
    work: impl FnOnce(&Stage) -> Result<(), Trouble>,
) -> Result<Result<(), Miss>, Refusal> {
    let ends = child::ends_for("watcher", "workbook", Options::default())?;
    let (mut from_watcher, mut to_checker) = ends;
    let user = StageUser::ask()?;
    let call: Vec<_> = OWN.iter_names().map(|(name, _)| name).collect();
    let flags = OWN.bits() | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child goes on here with a copy of all that is ours, as
    // after fork(2); and this program has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let pid = Errno::result(pid).named(format!("clone({})", call.join("|")))?;
    if pid == 0 {
        to_checker.live(|to_checker| {
            user.become_it(to_checker)?;
            watch(target, group, work, to_checker)
        });
    }
    let pid = Pid::from_raw(pid as i32);
    // The watcher waits meanwhile. Should this be refused, it reads the end of the file.
    user::map(pid, &user.maps[0], &user.maps[1])?;
    from_watcher.start(pid, to_checker);
    hear(&mut from_watcher)
}

/// Who we are on the stage: in a user namespace that has these maps, of users and of groups.
struct StageUser {
    maps: [String; 2],
    /// Root of the host, who is another there.
    is_stranger: bool,
}

/// A user, and a group, that nobody is: the last that there are.
const STRANGER: u32 = u32::MAX - 1;

impl StageUser {
    /// An ordinary user is the same. So is root of a user namespace that is there already, who is no
    /// more than that outside. Root of the host is [`STRANGER`] there, outside, and root inside.
    fn ask() -> Result<Self, Refusal> {
        if !host::has_cap_sys_admin()? || !geteuid().is_root() {
            let maps = [geteuid().as_raw(), getegid().as_raw()].map(|id| format!("{id} {id} 1"));
            return Ok(Self { maps, is_stranger: false });
        }
        if !user::is_root_of_host()? {
            return Ok(Self {
                maps: [the_same("uid_map")?, the_same("gid_map")?],
                is_stranger: false,
            });
        }
        // The two change places, and the others are who they are. The files of root of the host have
        // an owner there: so capabilities count for them, as they do outside.
        let others = STRANGER - 1;
        let map = format!("0 {STRANGER} 1\n1 1 {others}\n{STRANGER} 0 1\n");
        Ok(Self { maps: [map.clone(), map], is_stranger: true })
    }

    /// In the watcher, who is root of the host until now.
    fn become_it(&self, to_checker: &Outside) -> Result<(), Refusal> {
        if !self.is_stranger {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setgroups(&[]).named("setgroups(0, NULL)")?;
        setresgid(gid, gid, gid).named("setresgid(0, 0, 0)")?;
        setresuid(uid, uid, uid).named("setresuid(0, 0, 0)")?;
        // With that the kernel has closed our files in /proc, also to our children's eyes.
        set_dumpable(true).named("prctl(PR_SET_DUMPABLE, 1)")?;
        to_checker.die_with_it()?;
        // mount(8) belongs to root of the host, and is set-user-ID: whoever runs it would be that,
        // without a capability.
        let file = "/proc/self/mountinfo";
        for line in read_to_string(file).named(format!("open({file:?})"))?.lines() {
            let _ = remount(mount_point(line).as_ref(), MsFlags::MS_NOSUID); // or it is covered
        }
        Ok(())
    }
}

/// A map of our own user namespace for one in it that has the same users, or groups.
fn the_same(file: &str) -> Result<String, Refusal> {
    let file = format!("/proc/self/{file}");
    let map = read_to_string(&file).named(format!("open({file:?})"))?;
    // The first inside, the first outside, how many.
    let lines = map.lines().map(|line| {
        let mut numbers = line.split_whitespace();
        let inside = numbers.next().unwrap_or_default();
        let many = numbers.nth(1).unwrap_or_default();
        format!("{inside} {inside} {many}\n")
    });
    Ok(lines.collect())
}

/// What is the stage's own. The cgroup namespace comes later, when its cgroup is there.
const OWN: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

/// The life of the watcher: it tells what came of the work, a line for each thing seen.
fn watch(
    target: &Target,
    group: Option<&Group>,
    work: impl FnOnce(&Stage) -> Result<(), Trouble>,
    to_checker: &mut Outside,
) -> Result<(), Refusal> {
    let stage = Stage::set_up(target, group)?;
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

/// What the watcher tells.
fn hear(from_watcher: &mut Inside) -> Result<Result<(), Miss>, Refusal> {
    let mut miss = Miss::default();
    loop {
        let (what, value) = from_watcher.told()?;
        let value = value.strip_prefix('=').unwrap_or(&value).to_string();
        match what.split_once(' ') {
            Some((who, what)) => {
                let (who, what) = (who.to_string(), what.to_string());
                miss.seen.push(Seen { who, what, value });
            }
            None if what == "passed" => return Ok(Ok(())),
            None => return Ok(Err(Miss { mistake: value, ..miss })),
        }
    }
}
