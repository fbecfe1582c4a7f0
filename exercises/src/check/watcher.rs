//! The two ends of a stage: the checker, outside, which makes it, and its PID 1, which watches.

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, getegid, geteuid};
use workbook::cgroups::Group;
use workbook::child::{self, Inside, Outside};
use workbook::host::{self, Named as _, Refusal};
use workbook::lesson::Options;
use workbook::user;

use super::finding::{Miss, Seen, Trouble};
use super::stage::Stage;
use super::target::Target;

/// Makes a stage, lets the work be done on it, and takes it away: what came of the work.
pub fn on_a_stage(
    target: &Target,
    group: Option<&Group>,
    work: impl FnOnce(&Stage) -> Result<(), Trouble>,
) -> Result<Result<(), Miss>, Refusal> {
    let ends = child::ends_for("watcher", "workbook", Options::default())?;
    let (mut from_watcher, mut to_checker) = ends;
    let is_root = host::has_cap_sys_admin()?;
    let flags = if is_root { OWN } else { OWN | CloneFlags::CLONE_NEWUSER };
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
        // The watcher waits meanwhile. Should this be refused, it reads the end of the file.
        let (uid, gid) = (geteuid(), getegid());
        user::map(pid, &format!("{uid} {uid} 1"), &format!("{gid} {gid} 1"))?;
    }
    from_watcher.start(pid, to_checker);
    hear(&mut from_watcher)
}

/// What is the stage's own. The cgroup namespace comes later, when its cgroup is there.
const OWN: CloneFlags = CloneFlags::CLONE_NEWNS
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
