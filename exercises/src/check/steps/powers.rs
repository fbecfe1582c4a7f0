//! The command has fewer powers: not all capabilities, none to gain, and a filter on its calls.

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;

/// linux/capability.h
const CAP_SYS_ADMIN: u64 = 1 << 21;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    let can_unshare = container.program.ask("unshare")?;
    let status = |field| container.probe.status(field);
    for field in ["CapBnd", "CapEff"] {
        let mask = status(field)?;
        let has = u64::from_str_radix(&mask, 16).unwrap_or(u64::MAX);
        if has & CAP_SYS_ADMIN != 0 {
            let miss = Miss::that(
                "It can have CAP_SYS_ADMIN, with which a container can be undone from inside: when \
                 everything is made, drop it from the bounding set, PR_CAPBSET_DROP, and from the \
                 others, capset(2).",
            );
            return Err(shown(&container, miss, field, mask));
        }
    }
    if status("NoNewPrivs")? != "1" {
        let miss = Miss::that(
            "A set-user-ID program could give it more: prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).",
        );
        return Err(shown(&container, miss, "NoNewPrivs", status("NoNewPrivs")?));
    }
    if status("Seccomp")? != "2" {
        let miss = Miss::that("No filter is on its calls: seccomp(2), SECCOMP_SET_MODE_FILTER.");
        return Err(shown(&container, miss, "Seccomp", status("Seccomp")?));
    }
    if can_unshare.ends_with(" 0") {
        let miss = Miss::that(
            "A new user namespace gives it every capability again, in there: the filter has to \
             refuse unshare(2), and clone(2) with CLONE_NEWUSER.",
        );
        let miss = miss.inside("unshare(CLONE_NEWUSER)", "0");
        return Err(shown(&container, miss, "Seccomp", status("Seccomp")?));
    }
    Ok(())
}

fn shown(container: &Container, miss: Miss, field: &str, value: String) -> Trouble {
    let miss = miss.outside(format!("/proc/{}/status: {field}", container.probe.pid), value);
    container.program.with_last_words(miss).into()
}
