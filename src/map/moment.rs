//! The key moment of a lesson: of all those at which `--step` waits, the last with the most
//! namespaces, and of these with the most processes.

use std::fs::{read_dir, read_to_string};
use std::process::{Command, ExitStatus};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use super::process::Everybody;
use super::{Map, Moment};
use crate::host::Refusal;
use crate::tool::Tool;
use crate::transcript::PROMPT;

/// How long a lesson may take from one observation to the next. Only one that hangs needs so long.
const OBSERVATION: Duration = Duration::from_secs(60);
/// How long we wait until none of its processes runs. A lesson whose processes never rest would
/// have another picture in every run.
const REST: Duration = Duration::from_secs(10);

/// What came of a lesson.
pub(super) struct Run {
    pub status: ExitStatus,
    /// All that it has printed, on either stream.
    pub said: String,
    /// What was seen of it at its key moment, unless it ended before its first observation.
    pub map: Option<Map>,
}

impl Run {
    /// Lets a lesson go from observation to observation, looks at it each time, and lets it end. It
    /// dies with us.
    pub(super) fn of(lesson: &str, mut command: Command) -> Result<Self, Refusal> {
        command.arg("--step").env_remove("CLICOLOR_FORCE"); // a map has no place for colours
        let mut running = Tool::start(&mut command, OBSERVATION)?;
        let pid = running.pid().as_raw() as u32;
        let mut best: Option<Map> = None;
        let mut observations = 0;
        while running.prints(PROMPT)? {
            let said = without_prompts(running.said());
            let seen = said.trim_end().lines().last().unwrap_or_default();
            let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut map = Map::of(at_rest(pid)?);
            map.moment = Some(Moment { lesson: lesson.to_string(), observations, seen });
            if best.as_ref().is_none_or(|best| map.size() >= best.size()) {
                best = Some(map);
            }
            observations += 1;
            running.send("\n");
        }
        let (status, said) = running.end()?;
        Ok(Self { status, said: without_prompts(&said), map: best })
    }
}

fn without_prompts(said: &str) -> String {
    said.replace(PROMPT, "")
}

/// A look at the lesson's processes between two moments at which all of them slept, and between
/// which none has run. Then each waits for another or for Enter, and the same is seen in every run.
/// While none of them is in a namespace of its own there is nothing to wait for.
fn at_rest(lesson: u32) -> Result<Everybody, Refusal> {
    let deadline = Instant::now() + REST;
    let mut before = None;
    loop {
        let everybody = Everybody::look(&[lesson])?;
        let pids = everybody.processes.iter().map(|process| process.pid());
        let after: Option<Vec<_>> = pids.map(sleeping).collect();
        let is_at_rest = after.is_some() && after == before;
        if is_at_rest || !everybody.has_somebody_elsewhere() || Instant::now() > deadline {
            return Ok(everybody);
        }
        before = after;
        yield_now();
    }
}

/// How often each thread of a process has been put aside so far; `None` if one runs.
fn sleeping(pid: u32) -> Option<Vec<String>> {
    let threads = read_dir(format!("/proc/{pid}/task")).ok()?;
    let counts = threads.map(|thread| {
        let status = read_to_string(thread.ok()?.path().join("status")).ok()?;
        let is_running = status.contains("\nState:\tR") || status.contains("\nState:\tD");
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        (!is_running).then(|| switches.collect::<String>())
    });
    counts.collect()
}
