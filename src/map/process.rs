//! What `/proc` says of the processes: who they are, and which namespaces other than ours they are
//! in. proc_pid_status(5), namespaces(7), ioctl_ns(2).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, read_to_string};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::geteuid;

use crate::host::Refusal;
use crate::proc;

/// A kind of namespace.
pub(super) struct Kind {
    /// Its link in `/proc/PID/ns`.
    pub link: &'static str,
    /// As man pages call it.
    pub name: &'static str,
    /// What it holds.
    pub holds: &'static str,
    /// What that is for those inside.
    pub own: &'static str,
}

macro_rules! kind {
    ($link:literal, $name:literal, $holds:literal, $own:literal) => {
        Kind { link: $link, name: $name, holds: $holds, own: $own }
    };
}

/// The two that have parents first: they nest.
pub(super) const KINDS: [Kind; 8] = [
    kind!("user", "User", "users and capabilities", "users and capabilities of its own"),
    kind!("pid", "PID", "process numbers", "process numbers of its own"),
    kind!("mnt", "Mount", "mounts", "mounts of its own"),
    kind!("net", "Network", "network", "a network of its own"),
    kind!("uts", "UTS", "hostname", "a hostname of its own"),
    kind!("ipc", "IPC", "message queues", "message queues of its own"),
    kind!("cgroup", "Cgroup", "cgroup root", "a cgroup root of its own"),
    kind!("time", "Time", "time since boot", "a time since boot of its own"),
];

/// A process, as it was when we looked.
#[derive(Clone)]
pub(super) struct Process {
    /// Its PIDs, from ours down to its own: `NSpid`.
    pub pids: Vec<u32>,
    pub name: String,
    /// The PID of its parent, 0 of one whom we do not see.
    pub parent: u32,
    /// When it was made, in ticks since boot: PIDs start again from below when they have run out.
    pub made: u64,
    /// Nobody has waited for it yet, so it has a PID still: a zombie, and most of its namespaces
    /// are gone.
    pub is_ended: bool,
    /// Its effective uid as we see it.
    pub uid: u32,
    /// And as it does, if it is in another user namespace. `None` while that has no map.
    pub uid_inside: Option<Option<u32>>,
    /// The namespaces that it is in and we are not, as `pid:[4026532201]`. Who is in a user or PID
    /// namespace is in those above it, too.
    pub within: BTreeSet<String>,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pids[0]
    }

    /// What is the same of processes that look alike in a box.
    pub(super) fn looks(&self) -> impl Ord {
        (self.name.clone(), self.parent, self.is_ended, self.uid, self.uid_inside)
    }

    /// Its place among the others.
    pub(super) fn order(&self) -> (u64, u32) {
        (self.made, self.pid())
    }
}

/// The processes that can be seen, and their namespaces.
#[derive(Default)]
pub(super) struct Everybody {
    pub processes: Vec<Process>,
    pub relations: Relations,
    /// Those whose namespaces we may not see.
    pub unseen: Vec<u32>,
}

/// How the namespaces that are not ours belong together.
#[derive(Default)]
pub(super) struct Relations {
    /// The user namespace that owns one, if that is not ours.
    pub owners: BTreeMap<String, String>,
    /// The namespaces above one, from the next up to ours.
    pub above: BTreeMap<String, Vec<String>>,
}

impl Everybody {
    /// Looks at these processes of this `/proc`, who else is in their PID namespaces unless these
    /// are ours, and whoever descends from them; or at all if these are none. The oldest first. Who
    /// ends meanwhile is left out.
    pub(super) fn look(of: &[u32]) -> Result<Self, Refusal> {
        let mut ours = BTreeSet::new();
        for kind in &KINDS {
            ours.extend(proc::namespace("self", kind.link)); // or this kernel has no such kind
        }
        let status = |pid| Some((pid, read_to_string(format!("/proc/{pid}/status")).ok()?));
        let mut all: BTreeMap<u32, String> = proc::pids()?.into_iter().filter_map(status).collect();
        if !of.is_empty() {
            let family = family(&with_those_beside(of, &all, &ours), &all);
            all.retain(|pid, _| family.contains(pid));
        }
        let mut everybody = Self::default();
        for (pid, status) in all {
            let process = everybody.process(pid, &status, &ours);
            everybody.processes.extend(process);
        }
        everybody.processes.sort_by_key(Process::order);
        Ok(everybody)
    }

    /// Is anybody in another namespace than we?
    pub(super) fn has_somebody_elsewhere(&self) -> bool {
        self.processes.iter().any(|process| !process.within.is_empty())
    }

    /// Keeps those who are in another namespace than we.
    pub(super) fn keep_those_elsewhere(&mut self) {
        self.processes.retain(|process| !process.within.is_empty());
    }

    /// Why this one cannot be drawn.
    pub(super) fn misses(&self, pid: u32) -> Option<&'static str> {
        if self.processes.iter().any(|process| process.pid() == pid) {
            return None;
        }
        let is_unseen = self.unseen.contains(&pid);
        Some(match pid {
            _ if is_unseen && geteuid().is_root() => "this root may not see its namespaces",
            _ if is_unseen => "only root may see its namespaces: run it with sudo",
            0 => "no such process: so Docker and Podman say that a container does not run",
            _ => "no such process",
        })
    }

    fn process(&mut self, pid: u32, status: &str, ours: &BTreeSet<String>) -> Option<Process> {
        let field = |name| proc::field(status, name);
        let pids: Vec<u32> = field("NSpid")?.split(' ').flat_map(str::parse).collect();
        let uid = field("Uid")?.split(' ').nth(1)?.parse().ok()?; // the effective one
        let is_ended = field("State")?.starts_with('Z');
        let within = match self.within(pid, ours, is_ended) {
            Ok(within) => within,
            Err(refused) => {
                let is_forbidden = refused.errno() == Some(Errno::EACCES); // or it has ended
                self.unseen.extend(is_forbidden.then_some(pid));
                return None;
            }
        };
        let other_users = within.iter().any(|namespace| namespace.starts_with("user:"));
        Some(Process {
            name: proc::comm(pid).ok()?.chars().map(printable).collect(),
            parent: field("PPid")?.parse().ok()?,
            made: made(pid)?,
            is_ended,
            uid,
            uid_inside: other_users.then(|| uid_inside(pid, uid)),
            within,
            pids: Some(pids).filter(|pids| !pids.is_empty())?,
        })
    }

    fn within(
        &mut self,
        pid: u32,
        ours: &BTreeSet<String>,
        is_ended: bool,
    ) -> Result<BTreeSet<String>, Refusal> {
        let mut within = BTreeSet::new();
        let kinds = KINDS.iter().map(|kind| kind.link);
        for kind in kinds.filter(|kind| ours.iter().any(|ours| ours.starts_with(*kind))) {
            let namespace = match proc::namespace(pid, kind) {
                Err(refused) if refused.errno() == Some(Errno::ENOENT) && is_ended => continue,
                namespace => namespace?,
            };
            if ours.contains(&namespace) {
                continue;
            }
            if !self.relations.above.contains_key(&namespace) {
                self.relations.place(pid, &namespace, kind, ours);
            }
            within.extend(self.relations.above.get(&namespace).into_iter().flatten().cloned());
            within.insert(namespace);
        }
        Ok(within)
    }
}

impl Relations {
    /// Notes what is above a namespace, and who owns it and those.
    fn place(&mut self, pid: u32, namespace: &str, link: &str, ours: &BTreeSet<String>) {
        let mut names = Vec::new();
        let file = File::open(format!("/proc/{pid}/ns/{link}")).map(OwnedFd::from);
        let mut next = file.ok().map(|file| (namespace.to_string(), file));
        while let Some((name, file)) = next {
            // The kernel does not tell of a user namespace that is not below ours: EPERM.
            if let Some((owner, _)) = related(&file, libc::NS_GET_USERNS)
                && !ours.contains(&owner)
            {
                self.owners.insert(name.clone(), owner);
            }
            names.push(name);
            // Of a kind that does not nest there is no parent: EINVAL.
            next = related(&file, libc::NS_GET_PARENT).filter(|(name, _)| !ours.contains(name));
        }
        for (nth, name) in names.iter().enumerate() {
            self.above.insert(name.clone(), names[nth + 1..].to_vec());
        }
    }
}

/// These and who else is in their PID namespaces: what is put into a container later, as `docker
/// exec` does, descends from none who is in it.
fn with_those_beside(of: &[u32], all: &BTreeMap<u32, String>, ours: &BTreeSet<String>) -> Vec<u32> {
    let pid_namespace = |pid: &u32| proc::namespace(*pid, "pid").ok();
    let theirs: BTreeSet<_> = of.iter().filter_map(pid_namespace).collect();
    let is_beside = |pid: &&u32| {
        pid_namespace(pid).is_some_and(|name| !ours.contains(&name) && theirs.contains(&name))
    };
    of.iter().chain(all.keys().filter(is_beside)).copied().collect()
}

/// These and whoever descends from them, by what `status` says of each.
fn family(of: &[u32], status: &BTreeMap<u32, String>) -> BTreeSet<u32> {
    let parents = status.iter().filter_map(|(pid, status)| {
        let parent = proc::field(status, "PPid")?.parse().ok()?;
        Some((*pid, parent))
    });
    let parents: Vec<(u32, u32)> = parents.collect();
    let mut family = BTreeSet::new();
    let mut next: Vec<u32> = of.to_vec();
    while let Some(pid) = next.pop() {
        if family.insert(pid) {
            next.extend(
                parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child),
            );
        }
    }
    family
}

/// The namespace that is another's parent or owner: ioctl_ns(2), since Linux 4.9.
fn related(namespace: &OwnedFd, request: libc::Ioctl) -> Option<(String, OwnedFd)> {
    // SAFETY: both requests take nothing, and make a file descriptor.
    let fd = Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), request) }).ok()?;
    // SAFETY: just made, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let link = nix::fcntl::readlink(&*format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    Some((link.display().to_string(), fd))
}

/// When it was made: in clock ticks since boot.
fn made(pid: u32) -> Option<u64> {
    proc::stat_field(&read_to_string(format!("/proc/{pid}/stat")).ok()?, 22)
}

/// What our number for a user is in a process's user namespace.
fn uid_inside(pid: u32, uid: u32) -> Option<u32> {
    proc::id_inside(&read_to_string(format!("/proc/{pid}/uid_map")).ok()?, uid)
}

/// A process chooses its name, and a terminal obeys some characters.
fn printable(c: char) -> char {
    if c.is_control() { '?' } else { c }
}
