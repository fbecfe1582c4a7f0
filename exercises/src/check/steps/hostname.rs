//! The name inside is another, and the host keeps its own.

use nix::unistd::gethostname;
use workbook::host::Named as _;

use super::Container;
use crate::check::finding::{Miss, Trouble};
use crate::check::stage::{NAME, Stage};

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    let name = || gethostname().map(|name| name.to_string_lossy().into_owned());
    let outside = name().named("gethostname()")?;
    let is_renamed = outside != NAME;
    if let Some(mut miss) = container.shares("uts", "CLONE_NEWUTS")? {
        if is_renamed {
            miss.mistake =
                "This name reached the host, and went with it: the UTS namespace has to \
                            be new before sethostname(2)."
                    .to_string();
            miss = miss.outside("hostname", outside);
        }
        return Err(miss.into());
    }
    let inside = container.probe.visit("uts", name)?.named("gethostname()")?;
    let seen = |miss: Miss| miss.inside("hostname", &inside).outside("hostname", &outside);
    if is_renamed {
        let miss = Miss::that(
            "The host was renamed, and this went with it: sethostname(2) came before the UTS \
             namespace was new.",
        );
        return Err(seen(miss).into());
    }
    // A tool may leave it to the command to choose a name.
    if inside == NAME && stage.target.is_own {
        let miss =
            Miss::that("A new UTS namespace begins with a copy of the name: sethostname(2).");
        return Err(container.program.with_last_words(seen(miss)).into());
    }
    Ok(())
}
