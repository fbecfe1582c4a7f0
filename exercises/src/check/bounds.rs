//! What a program may take, and how it is seen that it takes more.

use std::fs::read_to_string;

use nix::unistd::{SysconfVar, sysconf};
use workbook::host::{Named as _, Refusal};
use workbook::proc;

use super::finding::Miss;

/// What it may print in all, on both streams.
pub const MOST_BYTES: usize = 1 << 20;
/// How many processes may be on the stage, each with its threads.
pub const MOST_PROCESSES: usize = 400;
/// How much memory they may have together, in bytes.
pub const MOST_MEMORY: u64 = 512 << 20;

const STOPPED: &str = "It was stopped, and all that it had started.";

/// Says that it has printed more than it may, if it has.
pub fn prints(bytes: usize) -> Option<Miss> {
    let miss = || {
        let miss = Miss::that(format!("It prints without end. {STOPPED}"));
        miss.program("printed", format!("more than {MOST_BYTES} bytes"))
    };
    (bytes > MOST_BYTES).then(miss)
}

/// The same of processes, and of memory.
pub fn takes() -> Result<Option<Miss>, Refusal> {
    let page = sysconf(SysconfVar::PAGE_SIZE).named("sysconf(_SC_PAGE_SIZE)")?.unwrap_or_default();
    let too_many = |what: &str, number: usize| {
        let miss = Miss::that(format!("It starts processes without end. {STOPPED}"));
        Ok(Some(miss.outside(what, number)))
    };
    let pids = proc::pids()?;
    if pids.len() > MOST_PROCESSES {
        // They leave us little time: so we ask for no more.
        return too_many("ls -d /proc/[0-9]*", pids.len());
    }
    let (mut threads, mut pages) = (0, 0);
    for pid in pids {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default(); // or it ended
        threads += proc::stat_field(&stat, 20).unwrap_or_default() as usize;
        pages += proc::stat_field(&stat, 24).unwrap_or_default();
    }
    if threads > MOST_PROCESSES {
        return too_many("ls -d /proc/[0-9]*/task/*", threads);
    }
    // A page that several processes have is counted for each. To know better takes longer.
    let is_too_much = pages * page as u64 > MOST_MEMORY && memory()? > MOST_MEMORY;
    Ok(is_too_much.then(eats))
}

/// Says that it has more memory than it may.
pub fn eats() -> Miss {
    let miss = Miss::that(format!("It takes memory without end. {STOPPED}"));
    miss.outside("memory of all its processes", format!("more than {} MiB", MOST_MEMORY >> 20))
}

/// The memory of all on the stage: a page that several have is divided among them.
fn memory() -> Result<u64, Refusal> {
    let its = |pid: u32| {
        let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?; // or it has ended
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Ok(proc::pids()?.into_iter().filter_map(its).sum::<u64>() << 10)
}
