//! `/proc` inside shows the processes inside, and no others.

use std::fs;

use workbook::proc;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// So many are shown.
const SOME: usize = 8;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    container.must_not_share("pid", "CLONE_NEWPID")?;
    let namespace = container.probe.namespace("pid")?;
    let there: Vec<u32> = proc::pids_in(&namespace)?.into_keys().collect();
    // Its root is followed from outside: no file of the container's own can pretend to be this.
    let entries = fs::read_dir(format!("/proc/{}/root/proc", container.probe.pid));
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut listed: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    listed.sort_unstable();
    if listed == there {
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

fn shown(pids: &[u32]) -> String {
    let first: Vec<_> = pids.iter().take(SOME).map(u32::to_string).collect();
    match pids.len() {
        0 => "none".to_string(),
        1..=SOME => first.join(" "),
        _ => first.join(" ") + " ...",
    }
}
