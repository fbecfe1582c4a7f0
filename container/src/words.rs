//! The words of the runtime specification, and what they are to the kernel.

use nix::libc::{self, c_int};
use nix::mount::MsFlags;
use nix::sys::resource::Resource;

pub(crate) fn one_of<'table, T>(table: &'table [(&str, T)], name: &str) -> Option<&'table T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

pub(crate) const NAMESPACES: &[(&str, c_int)] = &[
    ("mount", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("network", libc::CLONE_NEWNET),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("user", libc::CLONE_NEWUSER),
];

/// The options of mount(8) that are flags of mount(2): set, or not.
pub(crate) const OPTIONS: &[(&str, (bool, MsFlags))] = &[
    ("defaults", (false, MsFlags::empty())),
    ("bind", (true, MsFlags::MS_BIND)),
    ("rbind", (true, MsFlags::MS_BIND.union(MsFlags::MS_REC))),
    ("ro", (true, MsFlags::MS_RDONLY)),
    ("rw", (false, MsFlags::MS_RDONLY)),
    ("nosuid", (true, MsFlags::MS_NOSUID)),
    ("suid", (false, MsFlags::MS_NOSUID)),
    ("nodev", (true, MsFlags::MS_NODEV)),
    ("dev", (false, MsFlags::MS_NODEV)),
    ("noexec", (true, MsFlags::MS_NOEXEC)),
    ("exec", (false, MsFlags::MS_NOEXEC)),
    ("sync", (true, MsFlags::MS_SYNCHRONOUS)),
    ("dirsync", (true, MsFlags::MS_DIRSYNC)),
    ("noatime", (true, MsFlags::MS_NOATIME)),
    ("nodiratime", (true, MsFlags::MS_NODIRATIME)),
    ("relatime", (true, MsFlags::MS_RELATIME)),
    ("strictatime", (true, MsFlags::MS_STRICTATIME)),
];

pub(crate) const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

pub(crate) const RLIMITS: &[(&str, Resource)] = &[
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];
