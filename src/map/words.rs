//! What a map says in words: the same in the terminal and in the picture.

use nix::unistd::geteuid;

use super::nest::{Nest, Row, nth_kind};
use super::process::{KINDS, Process, Relations};

/// What stands at the top of a namespace's box.
pub(super) struct Head {
    /// Such as `PID namespace`.
    pub kind: String,
    /// As the links of `/proc` name it.
    pub name: String,
    /// What those inside have of it, and who owns it unless that is plain to see.
    pub meaning: String,
}

/// The namespaces of a box. `user` is the user namespace around it.
pub(super) fn heads(nest: &Nest, user: Option<&str>, relations: &Relations) -> Vec<Head> {
    let user = own_user(nest, user);
    let heads = nest.namespaces.iter().map(|name| {
        let kind = &KINDS[nth_kind(name)];
        let owner = relations.owners.get(name).map(String::as_str);
        let mut meaning = kind.own.to_string();
        if kind.link != "user" && owner != user {
            meaning += ", owned by ";
            meaning += owner.unwrap_or("the host's user namespace");
        }
        Head { kind: format!("{} namespace", kind.name), name: name.clone(), meaning }
    });
    heads.collect()
}

/// The user namespace of those in a box.
pub(super) fn own_user<'nest>(nest: &'nest Nest, around: Option<&'nest str>) -> Option<&'nest str> {
    let own = nest.namespaces.iter().find(|name| name.starts_with("user:"));
    own.map(String::as_str).or(around)
}

/// What all in a box share with the host.
fn shared(nest: &Nest) -> Vec<&'static str> {
    let is_own = |nth: usize| {
        let mut all = nest.everybody().flat_map(|process| &process.within);
        all.any(|name| nth_kind(name) == nth)
    };
    let kinds = KINDS.iter().enumerate().filter(|(nth, _)| !is_own(*nth));
    kinds.map(|(_, kind)| kind.holds).collect()
}

/// What the host has for all, said once.
pub(super) fn shared_by_all(host: &Nest) -> Option<String> {
    let shared = shared(host);
    (!shared.is_empty()).then(|| format!("Shared by all: {}", shared.join(", ")))
}

/// What one of the outermost boxes shares with the host beyond that.
pub(super) fn shared_here(nest: &Nest, host: &Nest) -> Option<String> {
    let by_all = shared(host);
    let here: Vec<_> = shared(nest).into_iter().filter(|holds| !by_all.contains(holds)).collect();
    (!here.is_empty()).then(|| format!("Shared with the host: {}", here.join(", ")))
}

/// Such as `sleep`, and of many `sleep, 197 more like these`.
pub(super) fn name(Row { process, many }: &Row) -> String {
    let ended = if process.is_ended { ", a zombie" } else { "" };
    let more = if *many > 1 { format!(", {many} more like these") } else { String::new() };
    format!("{}{ended}{more}", process.name)
}

/// Such as `PID 48215 outside, then 3, 2, 1 inside`.
pub(super) fn pids(Row { process, many }: &Row) -> String {
    let which = if *many > 1 { "the newest is " } else { "" };
    let inside: Vec<_> = process.pids[1..].iter().map(u32::to_string).collect();
    let outside = process.pid();
    match &inside[..] {
        [] => format!("{which}PID {outside}"),
        [inside] => format!("{which}PID {outside} outside, {inside} inside"),
        inside => format!("{which}PID {outside} outside, then {} inside", inside.join(", ")),
    }
}

/// Such as `uid 1000 outside, 0 inside`.
pub(super) fn uids(process: &Process) -> String {
    let outside = process.uid;
    match process.uid_inside {
        None => format!("uid {outside}"),
        Some(Some(inside)) => format!("uid {outside} outside, {inside} inside"),
        Some(None) => format!("uid {outside} outside, none inside"),
    }
}

/// Those that are missing in the map, and what to do about it.
pub(super) fn unseen(count: usize) -> Vec<String> {
    let processes = if count == 1 { "process" } else { "processes" };
    let why = |who| format!("Not drawn: {count} {processes} whose namespaces {who} see.");
    let cure = "Root sees all: sudo target/debug/workbook map".to_string();
    match () {
        () if count == 0 => Vec::new(),
        // A root in a container, or one who lacks a capability: ptrace(2).
        () if geteuid().is_root() => vec![why("this root may not")],
        () => vec![why("only root may"), cure],
    }
}
