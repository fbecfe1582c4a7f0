//! The command gets its arguments and the standard streams. Its exit status comes out, and that a
//! signal has killed it.

use nix::sys::signal::Signal;

use super::Container;
use crate::check::finding::{Miss, Trouble, gone};
use crate::check::stage::Stage;
use crate::check::view::send;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    container.program.tell("exit 7");
    let status = container.program.end("to end as its command, with exit status 7")?;
    if status != 7 {
        let miss = Miss::that("The exit status of the command has to become that of the program.");
        let miss = miss.inside("exit(7)", "ended").outside("echo $?", status);
        return Err(container.program.with_last_words(miss).into());
    }
    let mut container = Container::start(stage)?;
    // From outside: who is PID 1 of a PID namespace does not hear its own.
    send(&container.probe.fd, Signal::SIGKILL).map_err(gone)?;
    let status = container.program.end("to end, for its command was killed")?;
    if status == 0 {
        let miss = Miss::that(
            "The command was killed, and that looks like a success: end with 128 + n if signal n \
             has killed it, as a shell does.",
        );
        return Err(miss.inside("kill -KILL $$", "killed").outside("echo $?", status).into());
    }
    Ok(())
}
