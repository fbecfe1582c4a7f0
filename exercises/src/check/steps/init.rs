//! PID 1 inside reaps orphans, and a signal for the program reaches the command.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use workbook::host::Named as _;
use workbook::proc;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::probe::SIGNAL;
use crate::check::stage::Stage;

/// It takes a millisecond.
const SOON: Duration = Duration::from_secs(1);

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    container.must_not_share("pid", "CLONE_NEWPID")?;
    reaps(&mut container)?;
    forwards(&mut container)?;
    container.program.tell("exit 7");
    let status = container.program.end("to end as its command, with exit status 7")?;
    if status != 7 {
        let miss = Miss::that("The exit status gets lost on the way through the init.");
        return Err(miss.inside("exit(7)", "ended").outside("echo $?", status).into());
    }
    Ok(())
}

fn reaps(container: &mut Container) -> Result<(), Trouble> {
    let namespace = container.probe.namespace("pid")?;
    let its_pids = container.probe.status("NSpid")?;
    let before = proc::pids_in(&namespace)?;
    container.program.ask("orphan")?;
    let mut left = Vec::new();
    let reaped = container.program.until(SOON, || {
        let now = proc::pids_in(&namespace)?.into_keys();
        left = now.filter(|pid| !before.contains_key(pid)).collect();
        Ok(left.is_empty())
    })?;
    if reaped {
        return Ok(());
    }
    let why = match its_pids.ends_with(" 1") {
        true => {
            "The command itself is PID 1, and orphans become its children, which it knows nothing \
             of. Let PID 1 be your program: it forks the command, and waits for whoever ends."
        }
        false => {
            "PID 1 waits for the command alone: waitpid(-1, ...), until it is the command's turn."
        }
    };
    let miss = Miss::that(why).inside("an orphan ended, and is", format!("a zombie, PID {left:?}"));
    Err(miss.outside(format!("/proc/{}/status: NSpid", container.probe.pid), its_pids).into())
}

fn forwards(container: &mut Container) -> Result<(), Trouble> {
    let program = &mut container.program;
    if program.ended.is_none() {
        kill(program.pid(), Signal::SIGTERM).named("kill(2)")?; // our child, not waited for
    }
    let heard = program.until_said(SOON, SIGNAL)?;
    if heard {
        return Ok(());
    }
    let why = match program.ended {
        Some(_) => {
            "SIGTERM ended your program, and the command heard nothing of it: block or handle the \
             signal, and pass it on with kill(2), to PID 1, and from there to the command."
        }
        None => {
            "SIGTERM has not reached the command. A signal for which PID 1 has no handler is lost \
             on it: let it wait for signals, sigwait(3), and pass each on to the command."
        }
    };
    let miss = Miss::that(why).program("got SIGTERM", program.how_ended());
    Err(miss.inside("signals that came", "none").into())
}
