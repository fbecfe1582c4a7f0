//! What this host refuses, and the evidence for why. Causes and cures are in [`crate::causes`].

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::{geteuid, getpid};

use crate::causes::{ROWS, Row, UNKNOWN};
use crate::proc;

/// A call that this host refused, with what came of it. Displayed as strace(1) would.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    call: String,
    /// `None` when the call worked but showed that the lesson cannot run; `result` says how.
    errno: Option<Errno>,
    result: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} = {}", self.call, self.result)
    }
}

impl Error for Refusal {}

/// Gives a call's error the call's name, as strace(1) would print it.
pub trait Named<T> {
    /// The value, or the refusal of `call`.
    fn named(self, call: impl fmt::Display) -> Result<T, Refusal>;
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: impl fmt::Display) -> Result<T, Refusal> {
        self.map_err(|errno| Refusal::of(call.to_string(), errno))
    }
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, call: impl fmt::Display) -> Result<T, Refusal> {
        self.map_err(|error| Refusal::of(call.to_string(), errno(error)))
    }
}

/// The errno of what std did: EIO if it was no system call that failed.
pub fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Refusal {
    fn of(call: String, errno: Errno) -> Self {
        let error = io::Error::from(errno).to_string(); // strerror(3) and the number
        let meaning = error.split(" (os error").next().unwrap_or_default();
        let result = format!("-1 {errno:?} ({meaning})");
        Self { call, errno: Some(errno), result }
    }

    /// We lack what only root of the host has.
    pub(crate) fn not_root() -> Self {
        Self::seen("/proc/self/status: CapEff", "no CAP_SYS_ADMIN in the first user namespace")
    }

    /// The process inside went away in the middle of its turn.
    pub fn ended_early() -> Self {
        let call = "read(2) from the process inside".to_string();
        Self { call, errno: None, result: "0, the end of the file".to_string() }
    }

    /// A tool that was started did not do what the lesson needs; the last it said may tell why.
    pub fn of_tool(tool: &str, what: &str, said: &str) -> Self {
        // A guest's kernel has the very last word, and it tells nothing new.
        let tells = |line: &&str| !line.trim().is_empty() && !line.contains("] reboot: ");
        let last = said.lines().rfind(tells).unwrap_or("nothing");
        let result = format!("{what}; it last said: {}", last.trim());
        Self { call: tool.to_string(), errno: None, result }
    }

    /// A look at the host has shown that it cannot be.
    pub fn seen(at: impl fmt::Display, what: &str) -> Self {
        Self { call: at.to_string(), errno: None, result: what.to_string() }
    }

    /// Somebody has killed a tool, or the kernel has, for want of memory.
    pub(crate) fn of_killed_tool(tool: &str) -> Self {
        let call = "waitpid(2): WTERMSIG".to_string();
        Self { call, errno: None, result: format!("SIGKILL, for {tool}") }
    }

    pub(crate) fn is_end(&self) -> bool {
        *self == Self::ended_early()
    }

    /// This refusal as one line, for the pipe from inside.
    pub(crate) fn to_send(&self) -> String {
        let errno = self.errno.map_or(0, |errno| errno as i32);
        format!("!{}\t{errno}\t{}\n", self.call, self.result)
    }

    /// The refusal in a line from inside, without its `!`.
    pub(crate) fn received(line: &str) -> Self {
        let mut parts = line.splitn(3, '\t').map(str::to_string);
        let mut part = || parts.next().unwrap_or_default();
        let (call, errno, result) = (part(), part().parse().unwrap_or(0), part());
        Self { call, errno: (errno != 0).then(|| Errno::from_raw(errno)), result }
    }

    /// Tells the reader, on standard error. Where that cannot be written there is nobody to tell.
    pub fn tell(&self, lesson: &str) {
        let _ = io::stderr().write_all(self.message(lesson).as_bytes());
    }

    /// What the reader is told: which call, why on this host, and one thing to do.
    fn message(&self, lesson: &str) -> String {
        format!("{lesson}: this host cannot run it; nothing was changed\n\n{}", self.explanation())
    }

    /// The call, the cause on this host, one thing to do, and what that means for the security of the
    /// host if it means anything: a line each, or more, with its name in front.
    pub fn explanation(&self) -> String {
        format!("call    {self}\n{}", self.explain().lines())
    }

    /// The first row of the table that fits.
    pub fn explain(&self) -> &'static Row {
        let fits = |row: &&Row| {
            self.call.contains(row.call)
                && (row.errno.is_none() || row.errno == self.errno)
                && (row.evidence)()
        };
        ROWS.iter().find(fits).unwrap_or(&UNKNOWN)
    }

    /// The call, as strace(1) would show it without its result.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Its errno, if that is what the refusal is about.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

/// The kernel and the user: "Linux 6.12 as root".
pub fn here() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    let user = if geteuid().is_root() { "root" } else { "an ordinary user" };
    format!("Linux {} as {user}", version.join("."))
}

/// What a lesson may need beyond what its program has at `main`: VmPeak of proc_pid_status(5), less
/// VmSize at the start, is half a megabyte for most, 2 MiB where a thread is made, and 17 MiB for
/// guest-demo, which puts a file system together in memory. The rest is reserve.
const MEMORY: usize = 64 << 20;

/// A program that gets no memory ends by SIGABRT, without a cause or a cure. So a lesson asks for
/// all of it once, before anything else, and gives it back.
pub fn memory_is_there() -> Result<(), Refusal> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let call = format!("mmap(NULL, {MEMORY}, ..., MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)");
    let size = NonZeroUsize::new(MEMORY).ok_or(Errno::EINVAL).named(&*call)?;
    // SAFETY: the kernel chooses where, so nothing that is in use is replaced.
    let memory = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) };
    // SAFETY: just made, of this size, and nobody has used it.
    unsafe { munmap(memory.named(&*call)?, MEMORY) }.named("munmap(2)")
}

/// How this program was started.
pub(crate) struct Start {
    /// As uid 0: in a new user namespace without a map nobody is.
    pub(crate) is_root: bool,
    /// The kinds of namespaces of which the limit was 0: `pid` for `user.max_pid_namespaces`. The
    /// limits that can be seen are those of the reader's own user namespace, and a new one begins
    /// with none; but those above it hold in it, too: namespaces(7).
    forbidden: Vec<&'static str>,
}

/// What it was when this is first called.
pub(crate) fn start() -> &'static Start {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    static START: OnceLock<Start> = OnceLock::new();
    let is_zero = |kind: &&str| setting(&format!("user/max_{kind}_namespaces")) == Some(0);
    START.get_or_init(|| Start {
        is_root: geteuid().is_root(),
        forbidden: KINDS.into_iter().filter(is_zero).collect(),
    })
}

impl Start {
    pub(crate) fn forbids(&self, kind: &str) -> bool {
        self.forbidden.contains(&kind)
    }
}

/// As many as no lesson has open at once.
const FILES: usize = 32;

/// Who looks through `/proc` and can open no more files sees nobody there. So a lesson asks for all
/// the files that it may need once, before anything else, and gives them back.
pub(crate) fn files_are_there() -> Result<(), Refusal> {
    let call = format!("open(\"/\"), {FILES} times");
    let files: io::Result<Vec<_>> = (0..FILES).map(|_| fs::File::open("/")).collect();
    files.named(call).map(drop)
}

/// The precondition of every lesson, and of a map: `/proc` is there and shows our own PID namespace.
pub(crate) fn proc_is_ours() -> Result<(), Refusal> {
    start();
    let call = "readlink(\"/proc/self\")";
    let shown = fs::read_link("/proc/self").named(call)?;
    let ours = getpid();
    if shown == Path::new(&ours.to_string()) {
        return Ok(());
    }
    let result = format!("{}, but getpid() = {ours}", shown.display());
    Err(Refusal { call: call.to_string(), errno: None, result })
}

/// May we make namespaces without a user namespace first? Root may lack the capability, and an
/// ordinary user may have it: capabilities(7).
pub fn has_cap_sys_admin() -> Result<bool, Refusal> {
    const CAP_SYS_ADMIN: u32 = 21; // linux/capability.h
    let file = "/proc/self/status";
    let text = fs::read_to_string(file).named(format!("open({file:?})"))?;
    let effective =
        proc::field(&text, "CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    Ok(effective.unwrap_or_default() & (1 << CAP_SYS_ADMIN) != 0)
}

pub(crate) fn status(name: &str) -> Option<String> {
    proc::field(&fs::read_to_string("/proc/self/status").ok()?, name)
}

pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// A soft limit of this process, `None` where there is none: proc_pid_limits(5).
pub(crate) fn limit(name: &str) -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Less than 32 more? The tools need up to a dozen, and tell no errno when they get none. The limit
/// is on all processes of our user, and counts their threads; or it is our cgroup's.
pub(crate) fn few_processes_are_left() -> bool {
    let owner = |process: &Path| fs::metadata(process).ok().map(|process| process.uid());
    let us = owner("/proc/self".as_ref());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = processes.filter(|process| owner(process) == us);
    let threads = ours.map(|process| fs::read_dir(process.join("task")).map_or(0, Iterator::count));
    limit("Max processes").is_some_and(|limit| limit < 32 + threads.sum::<usize>())
        || free_in_our_cgroup().is_some_and(|free| free < 32)
}

/// What pids.max leaves: cgroups(7). v1 has a hierarchy of that name, v2 has one for all.
fn free_in_our_cgroup() -> Option<u64> {
    let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
    ours.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = if controllers == "pids" { "pids" } else { "" };
        let folder = format!("/sys/fs/cgroup/{hierarchy}{path}");
        let number = |file| fs::read_to_string(Path::new(&folder).join(file)).ok();
        let number = |file| number(file)?.trim().parse::<u64>().ok(); // or `max`
        Some(number("pids.max")?.saturating_sub(number("pids.current")?))
    })
}

/// The profile that confines us: its name is followed by its mode, in brackets: apparmor(7).
/// SELinux has contexts there.
fn apparmor_profile() -> Option<String> {
    let profile = fs::read_to_string("/proc/self/attr/current").ok()?;
    profile.trim().strip_suffix(" (enforce)").map(str::to_string)
}

pub(crate) fn apparmor_confines_us() -> bool {
    apparmor_profile().is_some()
}

/// The profiles that Docker and Podman load.
pub(crate) fn apparmor_confines_our_container() -> bool {
    let is =
        |name: &str| ["docker-default", "containers-default"].iter().any(|of| name.starts_with(of));
    apparmor_profile().is_some_and(|name| is(&name))
}

pub(crate) fn proc_is_mounted() -> bool {
    statfs("/proc").is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC)
}

/// The mount points that this process can see: field 5 of proc_pid_mountinfo(5).
fn mount_points() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(str::to_string).collect()
}

/// A plain chroot: its root is an ordinary directory, so no mount is seen on it.
pub(crate) fn root_is_no_mount_point() -> bool {
    !mount_points().iter().any(|point| point == "/")
}

/// The kernel's first root file system, which nothing can unmount: it is called rootfs.
pub(crate) fn root_is_an_initramfs() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
    roots.any(|line| line.contains(" - rootfs "))
}

/// A `/proc` may hide the processes of others: hidepid of proc(5).
pub(crate) fn proc_hides_nobody() -> Result<(), Refusal> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let on_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    let hides = mounts.lines().rfind(on_proc).is_some_and(|line| line.contains("hidepid="));
    let found = if hides { Err(Errno::EPERM) } else { Ok(()) };
    found.named("/proc/self/mountinfo: hidepid")
}

/// The first two PIDs are also those of every small PID namespace.
pub(crate) fn pid_is_above_2() -> Result<(), Refusal> {
    let found = if getpid().as_raw() > 2 { Ok(()) } else { Err(Errno::ESRCH) };
    found.named("getpid() > 2")
}

/// CRIU suspends the filters of those whom it takes down, and a process under one may not.
pub(crate) fn no_filter_is_on_us() -> Result<(), Refusal> {
    if status("Seccomp").as_deref() != Some("2") {
        return Ok(());
    }
    Err(Refusal { call: "criu dump".to_string(), errno: None, result: "a filter".to_string() })
}

/// Some programs make a file of that name where there is none.
pub(crate) fn null_is_missing() -> bool {
    !fs::metadata("/dev/null").is_ok_and(|null| null.file_type().is_char_device())
}

pub(crate) fn proc_is_covered() -> bool {
    mount_points().iter().any(|point| point.starts_with("/proc/"))
}

pub(crate) fn our_id_is_unmapped() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.trim().is_empty()
}

pub(crate) fn group(file: &str) -> Option<u32> {
    Some(fs::metadata(file).ok()?.gid())
}

/// The flags of Intel and of AMD: proc_cpuinfo(5).
pub(crate) fn cpu_can_virtualise() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}
