//! `/proc` inside shows the processes inside, and no others.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;
use workbook::proc;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// Somebody may come or go between two looks.
const A_MOMENT: Duration = Duration::from_millis(100);
/// So many are shown.
const SOME: usize = 8;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    container.must_not_share("pid", "CLONE_NEWPID")?;
    let namespace = container.probe.namespace("pid")?;
    let (probe, mut there, mut listed) = (container.probe.pid, Vec::new(), Vec::new());
    let is_own = container.program.until(A_MOMENT, || {
        there = proc::pids_in(&namespace)?.into_keys().collect();
        listed = listed_in(probe);
        Ok(listed == there)
    })?;
    if is_own {
        return Ok(());
    }
    let why = match listed.is_empty() {
        true => "There is no proc file system on /proc in the container.",
        false => {
            "This /proc shows the PID namespace in which it was mounted, which is not the \
             container's: mount a new one from inside that, in a mount namespace of its own."
        }
    };
    let miss = Miss::that(why).inside("ls -d /proc/[0-9]*", shown(&listed));
    let miss = miss.outside(format!("processes in {namespace}"), shown(&there));
    Err(container.program.with_last_words(miss).into())
}

/// The processes in the `/proc` of a process. Its root is followed from outside: no file of the
/// container's own can pretend to be this.
fn listed_in(process: Pid) -> Vec<u32> {
    let entries =
        fs::read_dir(format!("/proc/{process}/root/proc")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut pids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn shown(pids: &[u32]) -> String {
    let first: Vec<_> = pids.iter().take(SOME).map(u32::to_string).collect();
    match pids.len() {
        0 => "none".to_string(),
        1..=SOME => first.join(" "),
        _ => first.join(" ") + " ...",
    }
}
