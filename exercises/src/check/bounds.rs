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
        let (its_threads, its_pages) = threads_and_pages(&stat);
        threads += its_threads;
        pages += its_pages;
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

/// The fields 20 and 24 of proc_pid_stat(5). The second, a name, may have anything in it.
fn threads_and_pages(stat: &str) -> (usize, u64) {
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let fields: Vec<_> = fields.split_whitespace().collect();
    let number = |nth: usize| fields.get(nth - 3).and_then(|field| field.parse::<u64>().ok());
    (number(20).unwrap_or_default() as usize, number(24).unwrap_or_default())
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
