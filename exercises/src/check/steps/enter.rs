//! A second command enters the container of the first.

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;
use crate::check::target::PID;
use crate::check::view::identity;

/// The user namespace first: in it the others may be joined.
const KINDS: [&str; 6] = ["user", "mnt", "uts", "ipc", "net", "pid"];

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    if stage.target.enter.is_empty() {
        let miss = Miss::that(
            "Say how it enters: --enter 'WORDS', where {pid} stands for a process of the container.",
        );
        return Err(miss.program("--enter", "not given").into());
    }
    let first = match stage.target.wants_rootfs() {
        true => Container::with_rootfs(stage)?,
        false => Container::start(stage)?,
    };
    let (pid, enter) = (first.probe.pid.to_string(), &stage.target.enter);
    let words: Vec<_> = enter.iter().map(|word| word.replace(PID, &pid)).collect();
    let second = Container::of(stage, &words)?;
    let mut is_inside = false;
    for kind in KINDS {
        let (wanted, its) = (first.probe.namespace(kind)?, second.probe.namespace(kind)?);
        is_inside |= wanted != stage.namespace(kind)?;
        if wanted == its {
            continue;
        }
        let next = second.probe.link(&format!("ns/{kind}_for_children"));
        let why = match next.is_ok_and(|next| next == wanted) {
            true => {
                "setns(2) into a PID namespace leaves the caller where it is: only its next child is \
                 there. Fork after it, and let the child become the command."
                    .to_string()
            }
            false => format!("It is in another {kind} namespace: setns(2) for /proc/PID/ns/{kind}."),
        };
        let link = format!("readlink(\"/proc/self/ns/{kind}\")");
        let miss = Miss::that(why).inside(&link, wanted).program(link, its);
        return Err(second.program.with_last_words(miss).into());
    }
    if !is_inside {
        let miss =
            Miss::that("There is nothing to enter: the first command is not in a container.");
        return Err(miss.outside(format!("namespaces of PID {pid}"), "the host's").into());
    }
    let root =
        |container: &Container| identity(format!("/proc/{}/root/", container.probe.pid).as_ref());
    if root(&first)? != root(&second)? {
        let miss = Miss::that(
            "It is in the mount namespace and has another /: setns(2) leads to its root, so let no \
             chroot(2) or chdir(2) of before stand in the way.",
        );
        return Err(miss.program("readlink(\"/proc/self/root\")", "another").into());
    }
    Ok(())
}
