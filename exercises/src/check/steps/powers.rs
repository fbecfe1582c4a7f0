//! The command has fewer powers: not all capabilities, none to gain, and a filter on its calls.

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// linux/capability.h
const CAP_SYS_ADMIN: u64 = 1 << 21;

const CAPABLE: &str = "It can have CAP_SYS_ADMIN, with which a container can be undone from \
    inside: when everything is made, drop it from the bounding set, PR_CAPBSET_DROP, and from the \
    others, capset(2).";
const CAN_GAIN: &str =
    "A set-user-ID program could give it more: prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).";
const NO_FILTER: &str = "No filter is on its calls: seccomp(2), SECCOMP_SET_MODE_FILTER.";
const WEAK_FILTER: &str = "A new user namespace gives it every capability again, in there: the \
    filter has to refuse unshare(2), and clone(2) with CLONE_NEWUSER.";

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    let unshared = container.program.ask("unshare")?;
    let is_without =
        |mask: &str| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & CAP_SYS_ADMIN == 0);
    must(&container, "CapBnd", is_without, CAPABLE)?;
    must(&container, "CapEff", is_without, CAPABLE)?;
    must(&container, "NoNewPrivs", |value| value == "1", CAN_GAIN)?;
    must(&container, "Seccomp", |value| value == "2", NO_FILTER)?;
    if unshared.ends_with(" 0") {
        let miss = Miss::that(WEAK_FILTER).inside("unshare(CLONE_NEWUSER)", "0");
        return Err(container.program.with_last_words(miss).into());
    }
    Ok(())
}

/// Holds a field of its status against what it has to be: proc_pid_status(5).
fn must(
    container: &Container,
    field: &str,
    is_right: impl Fn(&str) -> bool,
    mistake: &str,
) -> Result<(), Trouble> {
    let value = container.probe.status(field)?;
    if is_right(&value) {
        return Ok(());
    }
    let what = format!("/proc/{}/status: {field}", container.probe.pid);
    let miss = Miss::that(mistake).outside(what, value);
    Err(container.program.with_last_words(miss).into())
}
