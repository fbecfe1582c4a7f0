//! The command has fewer powers: not all capabilities, none to gain, and a filter on its calls.

use nix::sched::CloneFlags;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::probe::{CLONE, CLONE3, UNSHARE};
use crate::check::stage::Stage;

/// linux/capability.h
const CAP_SYS_ADMIN: u64 = 1 << 21;

const CAPABLE: &str = "It can have CAP_SYS_ADMIN, with which a container can be undone from \
    inside: when everything is made, drop it from the bounding set, PR_CAPBSET_DROP, and from the \
    others, capset(2).";
const CAN_GAIN: &str =
    "A set-user-ID program could give it more: prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).";
const NO_FILTER: &str = "No filter is on its calls: seccomp(2), SECCOMP_SET_MODE_FILTER.";

/// The ways to a new user namespace: the call, the flag beside it that the kernel never takes there,
/// and what a filter has to refuse.
const WAYS: [(&str, CloneFlags, &str); 3] = [
    (UNSHARE, CloneFlags::CLONE_PARENT, "unshare(2)"),
    (CLONE, CloneFlags::CLONE_FS, "clone(2) if CLONE_NEWUSER is in its first argument"),
    (
        CLONE3,
        CloneFlags::CLONE_FS,
        "clone3(2) with any flags, for they are in memory, where it cannot look: with ENOSYS, and \
         libc takes clone(2)",
    ),
];

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    let is_without =
        |mask: &str| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & CAP_SYS_ADMIN == 0);
    must(&container, "CapBnd", is_without, CAPABLE)?;
    must(&container, "CapEff", is_without, CAPABLE)?;
    must(&container, "NoNewPrivs", |value| value == "1", CAN_GAIN)?;
    must(&container, "Seccomp", |value| value == "2", NO_FILTER)?;
    WAYS.iter().try_for_each(|way| must_refuse(&mut container, way))
}

/// That the call gave an error shows no filter: the kernel gives one, too, where a limit is reached
/// or a setting forbids it. With a flag that it never takes it says EINVAL. But a filter is asked
/// first, and then the kernel says nothing.
fn must_refuse(
    container: &mut Container,
    (call, never, what): &(&str, CloneFlags, &str),
) -> Result<(), Trouble> {
    let weak = format!(
        "A new user namespace gives it every capability again, in there: the filter has to refuse \
         {what}."
    );
    let (asked, came) = ask(container, call, CloneFlags::CLONE_NEWUSER)?;
    let (also_asked, also_came) = ask(container, call, CloneFlags::CLONE_NEWUSER | *never)?;
    let miss = if came == "0" {
        Miss::that(weak).inside(asked, came)
    } else if also_came == "-1 EINVAL" {
        let kernel = "EINVAL is the kernel's own answer, so the filter lets the call pass.";
        let miss = Miss::that(format!("{kernel} {weak}")).inside(asked, came);
        miss.inside(also_asked, also_came)
    } else {
        return Ok(());
    };
    Err(container.program.with_last_words(miss).into())
}

/// A call for the probe to make, as strace(1) shows it, and what came of it.
fn ask(
    container: &mut Container,
    call: &str,
    flags: CloneFlags,
) -> Result<(String, String), Trouble> {
    let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
    let came = container.program.ask(&format!("namespaces {call} {}", flags.bits()))?;
    Ok((format!("{call}({})", names.join("|")), came))
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
