//! The command is in a cgroup in which only so many processes fit.

use std::fs::read_to_string;
use std::path::Path;

use workbook::cgroups;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// The most that a limit may be. To reach it, the probe forks once more than that, which has to be
/// fewer than the stage allows in all.
const MOST: usize = 256;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    if !stage.has_cgroup {
        cgroups::try_out(&["pids"])?; // the refusal says why
    }
    let mut container = Container::start(stage)?;
    let found = cgroups::of(container.probe.pid, "pids");
    let cgroup = container.probe.file("cgroup")?;
    let line = cgroup.lines().find(|line| line.contains(":pids:")).or(cgroup.lines().last());
    let seen = |miss: Miss| miss.outside("its cgroup", line.unwrap_or_default());
    let limit = found.and_then(|(folder, top)| least(&folder, &top));
    let Some(limit) = limit.filter(|limit| *limit <= MOST) else {
        let why = match limit {
            None => {
                "No cgroup of its own limits it: mkdir(2) below the cgroup that your program is \
                 in, or in v2 below the nearest that hands pids down; a number into pids.max, and \
                 PID 1 into cgroup.procs before the command runs."
            }
            Some(_) => "256 processes are enough for a container: put a lower number in pids.max.",
        };
        let miss = seen(Miss::that(why));
        let limit = limit.map_or("none".to_string(), |limit| limit.to_string());
        return Err(container.program.with_last_words(miss.outside("pids.max", limit)).into());
    };
    let forked = container.program.ask(&format!("forks {}", limit + 1))?;
    if forked.ends_with(" EAGAIN") {
        return Ok(());
    }
    let miss =
        Miss::that("The limit did not hold: is the command in that cgroup, and not only you?");
    let miss = seen(miss).outside("pids.max", limit);
    Err(miss.inside(format!("fork(), {} times", limit + 1), forked).into())
}

/// The least pids.max from this cgroup up, without that of the stage.
fn least(folder: &Path, top: &Path) -> Option<usize> {
    let own = folder.ancestors().take_while(|folder| *folder != top);
    let limits = own.filter_map(|folder| {
        read_to_string(folder.join("pids.max")).ok()?.trim().parse::<usize>().ok() // or `max`
    });
    limits.min()
}
