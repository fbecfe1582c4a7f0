//! Boxes in boxes: namespaces, and the processes that they hold.

use std::collections::{BTreeMap, BTreeSet};

use super::process::{KINDS, Process, Relations};

/// So many of those who look alike are drawn one by one.
const DRAWN: usize = 3;

/// What is drawn as one: a process, or many who look like those before.
pub(super) struct Row<'nest> {
    /// Of many the newest.
    pub process: &'nest Process,
    pub many: usize,
}

/// Namespaces that hold the same processes, those who are in no others, and the boxes of the rest.
#[derive(Default)]
pub(super) struct Nest {
    pub namespaces: Vec<String>,
    pub processes: Vec<Process>,
    pub inner: Vec<Nest>,
}

impl Nest {
    /// The outermost box: our own namespaces, which have no name here.
    pub(super) fn of(processes: Vec<Process>, relations: &Relations) -> Self {
        let mut host = Self::default();
        host.fill(processes, relations, &BTreeSet::new());
        host
    }

    /// A namespace that holds more goes around those that hold less. User and PID namespaces nest
    /// by themselves, for who is in one counts as in those above it. Where two overlap, the second
    /// is drawn twice.
    fn fill(&mut self, processes: Vec<Process>, relations: &Relations, drawn: &BTreeSet<String>) {
        let (own, mut rest): (Vec<_>, Vec<_>) =
            processes.into_iter().partition(|process| process.within.is_subset(drawn));
        self.processes = own;
        while let Some(namespace) = largest(&rest, drawn) {
            let (held, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|process| process.within.contains(&namespace));
            rest = others;
            let in_all = |name: &&String| held.iter().all(|other| other.within.contains(*name));
            let names = held[0].within.difference(drawn).filter(in_all).cloned().collect();
            let names = relations.outermost(&names);
            let drawn = drawn.iter().chain(&names).cloned().collect();
            let mut nest = Self { namespaces: sorted(names), ..Self::default() };
            nest.fill(held, relations, &drawn);
            self.inner.push(nest);
        }
        self.inner.sort_by_key(Self::first);
    }

    /// Its own processes, and of many who look alike the oldest, then the rest in one row.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let mut alike: BTreeMap<_, Vec<&Process>> = BTreeMap::new();
        for process in &self.processes {
            alike.entry(process.looks()).or_default().push(process);
        }
        let mut rows = Vec::new();
        for mut processes in alike.into_values() {
            let is_crowd = processes.len() > DRAWN + 1; // or the row would save none
            let rest = if is_crowd { processes.split_off(DRAWN) } else { Vec::new() };
            rows.extend(
                processes.iter().map(|process| (process.order(), Row { process, many: 1 })),
            );
            if let ([.., drawn], [.., newest]) = (&processes[..], &rest[..]) {
                rows.push((drawn.order(), Row { process: newest, many: rest.len() }));
            }
        }
        rows.sort_by_key(|(place, _)| *place);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The oldest process in it.
    fn first(&self) -> Option<(u64, u32)> {
        self.everybody().map(Process::order).min()
    }

    /// The processes in it, at any depth.
    pub(super) fn everybody(&self) -> Box<dyn Iterator<Item = &Process> + '_> {
        Box::new(self.processes.iter().chain(self.inner.iter().flat_map(Self::everybody)))
    }

    /// How many namespaces are drawn in it.
    pub(super) fn count(&self) -> usize {
        self.namespaces.len() + self.inner.iter().map(Self::count).sum::<usize>()
    }
}

impl Relations {
    /// Those of these names that have none of the others around them, as a parent or as the parent
    /// of their owner.
    fn outermost(&self, names: &BTreeSet<String>) -> Vec<String> {
        let is_below = |name: &String| {
            self.above.get(name).is_some_and(|above| above.iter().any(|one| names.contains(one)))
        };
        let is_inner = |name: &&String| {
            let owner = self.owners.get(*name).filter(|owner| names.contains(*owner));
            is_below(name) || owner.is_some_and(is_below)
        };
        names.iter().filter(|name| !is_inner(name)).cloned().collect()
    }
}

/// The namespace that most of these are in and that has no box yet.
fn largest(processes: &[Process], drawn: &BTreeSet<String>) -> Option<String> {
    let names = processes.iter().flat_map(|process| process.within.difference(drawn));
    let names = sorted(names.cloned().collect::<BTreeSet<_>>().into_iter().collect());
    let holds =
        |name: &&String| processes.iter().filter(|process| process.within.contains(*name)).count();
    names.iter().rev().max_by_key(holds).cloned() // of equals the first: the last from behind
}

/// In the order of the kinds; those of one kind in the order of their numbers.
fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| (nth_kind(name), name.clone()));
    names
}

/// Which of [`KINDS`] a namespace is of.
pub(super) fn nth_kind(namespace: &str) -> usize {
    let kind = namespace.split(':').next();
    KINDS.iter().position(|known| Some(known.link) == kind).unwrap_or(KINDS.len())
}
