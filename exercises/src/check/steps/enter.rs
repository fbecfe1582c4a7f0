//! A second command enters the container of the first.

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::Stage;
use crate::check::target::PID;

/// The user namespace first: in it the others may be joined.
const KINDS: [&str; 6] = ["user", "mnt", "uts", "ipc", "net", "pid"];

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    if stage.target.enter.is_empty() {
        let miss = Miss::that(
            "Say how it enters: --enter 'WORDS'. There {pid} stands for one of the container's.",
        );
        return Err(miss.program("--enter", "not given").into());
    }
    let first = match stage.target.wants_rootfs() {
        true => Container::with_rootfs(stage)?,
        false => Container::start(stage)?,
    };
    let kinds = KINDS.map(|kind| Ok((first.probe.namespace(kind)?, stage.namespace(kind)?)));
    let kinds = kinds.into_iter().collect::<Result<Vec<_>, Trouble>>()?;
    if kinds.iter().all(|(its, hosts)| its == hosts) {
        let miss = Miss::that("There is nothing to enter: the first command is in no container.");
        return Err(miss.outside("its namespaces", "the host's").into());
    }
    let (pid, enter) = (first.probe.pid.to_string(), &stage.target.enter);
    let words: Vec<_> = enter.iter().map(|word| word.replace(PID, &pid)).collect();
    let second = Container::of(stage, &words)?;
    for kind in KINDS {
        is_in(&first, &second, kind)?;
    }
    if first.probe.root()? != second.probe.root()? {
        let miss = Miss::that(
            "It is in the mount namespace and has another /: setns(2) leads to the root of that, \
             so let no chroot(2) stand in the way.",
        );
        return Err(miss.program("stat /", "another").into());
    }
    Ok(())
}

/// Is the second in the first's namespace of this kind?
fn is_in(first: &Container, second: &Container, kind: &str) -> Result<(), Trouble> {
    let (wanted, its) = (first.probe.namespace(kind)?, second.probe.namespace(kind)?);
    if wanted == its {
        return Ok(());
    }
    let next = second.probe.link(&format!("ns/{kind}_for_children"));
    let why = match next.is_ok_and(|next| next == wanted) {
        true => {
            "setns(2) into a PID namespace leaves the caller where it is: only its next child is \
             there. Fork after it, and let the child become the command."
                .to_string()
        }
        false => format!("It is in another {kind} namespace: setns(2), /proc/PID/ns/{kind}."),
    };
    let link = format!("readlink(\"/proc/self/ns/{kind}\")");
    let miss = Miss::that(why).inside(&link, wanted).program(link, its);
    Err(second.program.with_last_words(miss).into())
}
