//! The command is in an IPC namespace of its own.

use super::Container;
use crate::check::finding::Trouble;
use crate::check::stage::Stage;

pub fn check(stage: &Stage) -> Result<(), Trouble> {
    Container::start(stage)?.must_not_share("ipc", "CLONE_NEWIPC")
}
