//! What is remembered from one time to the next: the steps that were passed, and which hints were
//! asked for.

use workbook::progress::{Deed, Place};

use super::finding::{Came, Outcome};

/// These steps are passed, from now on.
pub fn passed(all: &[Came]) {
    let passed = all.iter().filter(|came| matches!(came.outcome, Outcome::Passed));
    let passed: Vec<_> = passed.map(|came| (Deed::Passed, came.step.name)).collect();
    Place::of_user().note(&passed);
}

/// Has the reader's program passed it once?
pub fn is_passed(step: &str) -> bool {
    Place::of_user().progress().times(Deed::Passed, step) > 0
}

/// The reader asks for something about a step. Gives how often, this time included.
pub fn ask(what: Deed, step: &str) -> usize {
    let place = Place::of_user();
    place.note(&[(what, step)]);
    place.progress().times(what, step).max(1)
}
