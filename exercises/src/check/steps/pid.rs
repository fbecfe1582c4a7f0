//! The command is in a PID namespace of its own, and can have children there.

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    let forked = container.program.ask("fork")?;
    let probe = &container.probe;
    let its_pids = probe.status("NSpid")?;
    let status = format!("/proc/{}/status: NSpid", probe.pid);
    if let Some(mut miss) = container.shares("pid", "CLONE_NEWPID")? {
        let next = probe.link("ns/pid_for_children").ok();
        if next.is_some() && next != stage.namespace("pid").ok() {
            miss.mistake =
                "unshare(CLONE_NEWPID) leaves its caller where it is: only the next child \
                            is PID 1. Fork after it, and let the child become the command."
                    .to_string();
        }
        return Err(miss.outside(status, its_pids).into());
    }
    if !forked.ends_with(" 0") {
        let miss = Miss::that(
            "PID 1 of the namespace has ended, and without it nobody can be born there: the first \
             child after the unshare(2) has to live as long as the command.",
        );
        return Err(miss.inside("fork()", forked).outside(status, its_pids).into());
    }
    Ok(())
}
