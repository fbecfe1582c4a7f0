//! What lessons need, and whether this host has it. What can be tried is tried, in a process of its
//! own, whose end undoes it.
//!
//! A lesson makes its system calls in its own file, under their man-page names. So what it needs can
//! be read there, and no list of needs can be wrong. The tests hold what is found here against what
//! each lesson does, on each kind of host.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{ptr, thread};

use nix::errno::Errno;
use nix::libc::{self, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_NEWLINK};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{get_no_new_privs, set_no_new_privs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, chroot, fork, getpid, pivot_root};

use crate::host::{self, Named as _, Refusal};
use crate::lesson::Options;
use crate::netlink::Message;
use crate::{cgroups, child, guest, kvm, mounts, tool, user};

/// Something that lessons need.
struct Need {
    /// A lesson says so where it leaves a claim open.
    name: &'static str,
    /// A lesson that has one of these in its code needs it.
    marks: &'static [&'static str],
    attempt: Attempt,
    /// Is it more than a kernel gives to everybody?
    more: bool,
}

/// How to find out.
#[derive(Clone, Copy)]
enum Attempt {
    /// By a look, or a call that changes nothing.
    Look(fn() -> Result<(), Refusal>),
    /// A program, in `PATH`.
    Find(&'static str),
    /// By a new namespace of this kind.
    Make(CloneFlags),
    /// By doing it, as somebody who may make namespaces: root, or root of a user namespace.
    Do(fn() -> Result<(), Refusal>),
}
use Attempt::{Do, Find, Look, Make};

/// nix has no name for it, so a lesson takes it from libc.
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// LXC makes the other kinds itself.
const LXC: &str = "find(\"lxc-start\")";
/// What it is made of stands in a config.json.
const CONTAINER: &str = "Container::around(";
/// What a lesson does that makes one user namespace in another, as root, too: it sets a limit of its
/// own, or raises a capability there.
const NESTED: &[&str] = &["user/max_user_namespaces", "PR_CAP_AMBIENT_RAISE"];

/// In the order in which a lesson meets them.
const NEEDS: &[Need] = &[
    need("open files", &["LESSON.run"], Look(host::files_are_there)),
    need("a /proc of our own", &["LESSON.run"], Look(host::proc_is_ours)),
    need("a PID 1 to look at", &["comm(1)", "cgroup(\"1\""], Look(|| open("/proc/1/comm"))),
    more("root", &["needs_root()"], Look(user::needs_root)),
    more("qemu-system-x86_64", &["find(\"qemu-system-x86_64\")"], Find("qemu-system-x86_64")),
    more("lxc-start", &["find(\"lxc-start\")"], Find("lxc-start")),
    more("busybox", &["find(\"busybox\")"], Find("busybox")),
    more("criu", &["find(\"criu\")"], Find("criu")),
    more("ip", &["find(\"ip\")"], Find("ip")),
    more("a kernel to boot", &["guest::kernel()"], Look(|| guest::kernel().map(drop))),
    more("/dev/kvm", &[".open(\"/dev/kvm\")"], Look(open_kvm)),
    need("a user namespace", &["namespace_unless_root(", "CLONE_NEWUSER"], Do(|| Ok(()))),
    need("a user namespace in it", &["CloneFlags::CLONE_NEWUSER"], Do(user::enter_namespace)),
    need("another in that", NESTED, Do(two_user_namespaces)),
    need("a mount namespace", &["CloneFlags::CLONE_NEWNS"], Make(CloneFlags::CLONE_NEWNS)),
    need(
        "a PID namespace",
        &["CloneFlags::CLONE_NEWPID", CONTAINER],
        Make(CloneFlags::CLONE_NEWPID),
    ),
    need(
        "a UTS namespace",
        &["CloneFlags::CLONE_NEWUTS", LXC, CONTAINER],
        Make(CloneFlags::CLONE_NEWUTS),
    ),
    need(
        "an IPC namespace",
        &["CloneFlags::CLONE_NEWIPC", LXC, CONTAINER],
        Make(CloneFlags::CLONE_NEWIPC),
    ),
    need(
        "a network namespace",
        &["CloneFlags::CLONE_NEWNET", CONTAINER],
        Make(CloneFlags::CLONE_NEWNET),
    ),
    need(
        "a cgroup namespace",
        &["CloneFlags::CLONE_NEWCGROUP", LXC, CONTAINER],
        Make(CloneFlags::CLONE_NEWCGROUP),
    ),
    need("a time namespace", &["libc::CLONE_NEWTIME"], Make(NEWTIME)),
    need("private mounts", &["make_private(", "MsFlags::MS_PRIVATE"], Do(private_mounts)),
    need(
        "/dev/null",
        &["\"/dev/null\"", "(\"/proc/self/status\").output()", LXC],
        Look(|| open("/dev/null")),
    ),
    need("/dev/shm", &["\"/dev/shm\""], Look(|| open("/dev/shm"))),
    need("/sys/fs/cgroup", &["\"/sys/fs/cgroup\""], Look(|| open("/sys/fs/cgroup"))),
    need(
        "a mount of proc",
        &["mount(Some(\"proc\")", "mount_proc().", "mount_proc())", CONTAINER],
        Do(mount_proc),
    ),
    need("a mount of sysfs", &["mount(Some(\"sysfs\")", CONTAINER], Do(mount_sysfs)),
    need("limits to set", &["/proc/sys/user/max_"], Look(limits_can_be_set)),
    need("chroot(2)", &["chroot(\""], Do(|| chroot("/proc").named("chroot(\"/proc\")"))),
    need("pivot_root(2)", &["pivot_root("], Do(pivot)),
    need("an overlay", &["mount(Some(\"overlay\")"], Do(overlay)),
    need("bridge and veth", &["\"bridge\"", "\"veth\""], Do(bridge_and_veth)),
    need("clone3(2)", &["syscall(libc::SYS_clone3"], Look(clone3)),
    more("no seccomp filter", &["find(\"criu\")"], Look(host::no_filter_is_on_us)),
    need("setns(2) with a pidfd", &["pidfd_open("], Do(setns_with_a_pidfd)),
    need("a seccomp filter", &["libc::SYS_seccomp"], Look(seccomp_filter)),
    // For some claims only.
    more("unshare(1)", &["find(\"unshare\")"], Find("unshare")),
    more("a cgroup other than /", &[], Look(own_cgroup)),
    more("a shell without no_new_privs", &[], Look(no_promise)),
    more("a libc that calls clone3(2)", &[], Do(libc_calls_clone3)),
    more("a PID above 2", &[], Look(host::pid_is_above_2)),
    more("a /proc without hidepid", &[], Look(host::proc_hides_nobody)),
    more("a kernel with time namespaces", &[], Look(|| open("/proc/self/ns/time"))),
    more("delegated controllers", &[], Look(|| cgroups::try_out(&["pids", "memory", "cpu"]))),
    more("a delegated cgroup", &[], Look(|| cgroups::try_out(&["freezer"]))),
    more("cgroup.kill", &[], Look(cgroups::try_to_kill)),
    // For lines `by hand`.
    more("ps(1)", &[], Find("ps")),
    more("strace(1)", &[], Find("strace")),
];

const fn need(name: &'static str, marks: &'static [&'static str], attempt: Attempt) -> Need {
    Need { name, marks, attempt, more: false }
}

const fn more(name: &'static str, marks: &'static [&'static str], attempt: Attempt) -> Need {
    Need { name, marks, attempt, more: true }
}

/// What this host has of what lessons need. Each need is tried once, when it is first asked for.
pub struct Found([OnceCell<Result<(), Refusal>>; NEEDS.len()]);

impl Default for Found {
    fn default() -> Self {
        Self([const { OnceCell::new() }; NEEDS.len()]) // derive(Default) ends at 32
    }
}

/// What this host can do with a lesson.
pub enum Verdict<'found> {
    /// It runs.
    Runs,
    /// It runs, and leaves these claims open for want of something: the id, and of what.
    Partly(Vec<(String, String)>),
    /// It is refused.
    Cannot(&'found Refusal),
}

impl Verdict<'_> {
    /// Does it run, be it in part?
    pub fn is_run(&self) -> bool {
        !matches!(self, Self::Cannot(_))
    }
}

impl Found {
    /// What comes of a lesson with this source.
    pub fn verdict(&self, source: &str) -> Verdict<'_> {
        let code = code(source);
        let open = may_stay_open(&code);
        let is_optional = |need: &Need| open.iter().any(|(_, want)| want == need.name);
        let needed = |nth: &usize| {
            let need = &NEEDS[*nth];
            !is_optional(need) && need.marks.iter().any(|mark| code.contains(mark))
        };
        if let Some(refusal) = (0..NEEDS.len()).filter(needed).find_map(|nth| self.refusal(nth)) {
            return Verdict::Cannot(refusal);
        }
        let is_there = |want: &str| {
            let nth = NEEDS.iter().position(|need| need.name == want);
            nth.is_some_and(|nth| self.refusal(nth).is_none())
        };
        let mut seen = BTreeSet::new(); // a claim may want several things: the first is enough
        let missing = open.into_iter().filter(|(_, want)| !is_there(want));
        let open: Vec<_> = missing.filter(|(id, _)| seen.insert(id.clone())).collect();
        if open.is_empty() { Verdict::Runs } else { Verdict::Partly(open) }
    }

    /// The programs that lessons run, or use by hand: each with where it is.
    pub fn tools(&self) -> impl Iterator<Item = (&'static str, Result<PathBuf, Refusal>)> {
        NEEDS.iter().filter_map(|need| match need.attempt {
            Find(program) => Some((program, tool::find(program))),
            _ => None,
        })
    }

    fn refusal(&self, nth: usize) -> Option<&Refusal> {
        self.0[nth].get_or_init(|| attempt(NEEDS[nth].attempt)).as_ref().err()
    }
}

/// Does it need nothing but a Linux kernel? The lessons that do are the core of the book.
pub fn is_core(source: &str) -> bool {
    let (code, mut more) = (code(source), NEEDS.iter().filter(|need| need.more));
    let open = may_stay_open(&code);
    let needed = |need: &Need| need.marks.iter().any(|mark| code.contains(mark));
    !more.any(|need| needed(need) && !open.iter().any(|(_, want)| want == need.name))
}

/// A source without its comments, without what a guest does, for there the host forbids nothing, and
/// without the calls that may fail: who tells their results does not need what they ask for.
fn code(source: &str) -> String {
    let (host, guest) = source.split_once("\nfn init() -> ").unwrap_or((source, ""));
    let after = guest.split_once("\n}\n").map_or("", |(_, after)| after);
    let is_needed =
        |line: &&str| !line.trim_start().starts_with("//") && !line.contains("result(unshare(");
    host.lines().chain(after.lines()).filter(is_needed).collect()
}

/// The claims that a lesson leaves open on some hosts, and for want of what.
fn may_stay_open(code: &str) -> Vec<(String, String)> {
    let calls = code.split("t.open(\"").skip(1);
    let pairs = calls.filter_map(|call| {
        let (id, rest) = call.split_once("\", \"")?;
        Some((id.to_string(), rest.split_once('"')?.0.to_string()))
    });
    pairs.collect()
}

fn attempt(attempt: Attempt) -> Result<(), Refusal> {
    match attempt {
        Look(look) => look(),
        Find(program) => tool::find(program).map(drop),
        Make(flag) => in_a_process(|| make(flag)),
        Do(work) => in_a_process(work),
    }
}

/// Does it in a process of its own, as root or as root of a user namespace.
fn in_a_process(work: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    let (mut inside, mut outside) = child::ends_for("inside", "workbook", Options::default())?;
    // SAFETY: the workbook has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => outside.live(|_| {
            if !host::has_cap_sys_admin()? {
                user::enter_namespace()?;
            }
            work()
        }),
        ForkResult::Parent { child } => inside.start(child, outside),
    }
    inside.leave_quietly()
}

/// Docker mounts /proc/sys read-only. A user namespace's limits are its own to set, elsewhere.
fn limits_can_be_set() -> Result<(), Refusal> {
    let file = "/proc/sys/user/max_user_namespaces";
    let flags = statvfs(file).map(|fs| fs.flags());
    let is_read_only = flags.is_ok_and(|flags| flags.contains(FsFlags::ST_RDONLY));
    let found = if is_read_only { Err(Errno::EROFS) } else { Ok(()) };
    found.named(format!("write({file:?})"))
}

fn open(file: &str) -> Result<(), Refusal> {
    File::open(file).map(drop).named(format!("open({file:?})"))
}

fn make(flag: CloneFlags) -> Result<(), Refusal> {
    let name = flag.iter_names().map(|(name, _)| name).next().unwrap_or("CLONE_NEWTIME");
    unshare(flag).named(format!("unshare({name})"))
}

/// Root of the host may make one where others may not, and in it has no more rights than they.
fn two_user_namespaces() -> Result<(), Refusal> {
    user::enter_namespace()?;
    user::enter_namespace()
}

fn private_mounts() -> Result<(), Refusal> {
    make(CloneFlags::CLONE_NEWNS)?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)
}

/// Only a process of a PID namespace of ours can mount a proc: after unshare(2) that is our next
/// child.
fn mount_proc() -> Result<(), Refusal> {
    make(CloneFlags::CLONE_NEWPID)?;
    private_mounts()?;
    // SAFETY: one thread, as above.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            let mounted = mounts::mount_proc();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(mounted.err().map_or(0, |errno| errno as i32)) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).named("waitpid(2)")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)).named(mounts::MOUNT_PROC),
            _ => Err(Refusal::ended_early()),
        },
    }
}

/// A sysfs shows the network namespace that it is mounted in, and only its owner may mount one.
fn mount_sysfs() -> Result<(), Refusal> {
    make(CloneFlags::CLONE_NEWNET)?;
    private_mounts()?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .named("mount(\"sysfs\", \"/sys\", \"sysfs\", 0, NULL)")
}

/// To a new file system, as into a container's.
fn pivot() -> Result<(), Refusal> {
    private_mounts()?;
    let tmpfs = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>);
    tmpfs.named("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)")?;
    chdir("/mnt").named("chdir(\"/mnt\")")?;
    pivot_root(".", ".").named("pivot_root(\".\", \".\")")
}

/// As with bridge and veth below: if it is not loaded, a module that could be is enough.
fn overlay() -> Result<(), Refusal> {
    private_mounts()?;
    let is_loaded = fs::read_to_string("/proc/filesystems")
        .is_ok_and(|known| known.split_whitespace().any(|name| name == "overlay"));
    if !is_loaded && has_module("overlay") {
        return Ok(());
    }
    let tmpfs = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>);
    tmpfs.named("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)")?;
    for folder in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new("/mnt").join(folder)).named("mkdir(2) in /mnt")?;
    }
    chdir("/mnt").named("chdir(\"/mnt\")")?;
    let layers = Some("lowerdir=lower,upperdir=upper,workdir=work");
    mount(Some("overlay"), "merged", Some("overlay"), MsFlags::empty(), layers)
        .named("mount(\"overlay\", \"merged\", \"overlay\", ...)")
}

/// The first use of one loads its module, which stays. So where there is a module, that is enough.
fn bridge_and_veth() -> Result<(), Refusal> {
    make(CloneFlags::CLONE_NEWNET)?;
    for kind in ["bridge", "veth"] {
        if !has_module(kind) {
            let link = Message::link(RTM_NEWLINK, 0).text(IFLA_IFNAME, "link");
            let link = link.nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind));
            link.send().named(format!("RTM_NEWLINK({kind})"))?;
        }
    }
    Ok(())
}

/// Is it loaded, or can modprobe(8) find it?
fn has_module(name: &str) -> bool {
    let release = uname().map(|uname| uname.release().to_owned()).unwrap_or_default();
    let list = fs::read_to_string(Path::new("/lib/modules").join(release).join("modules.dep"));
    let is_listed = list.is_ok_and(|list| list.contains(&format!("/{name}.ko")));
    is_listed || Path::new("/sys/module").join(name).exists()
}

/// Without arguments it makes nothing: EINVAL. A filter, or an old kernel, says ENOSYS.
fn clone3() -> Result<(), Refusal> {
    // SAFETY: with a size of 0 the kernel reads nothing.
    let none = unsafe { libc::syscall(libc::SYS_clone3, 0, 0) };
    match Errno::result(none) {
        Err(Errno::EINVAL) => Ok(()),
        other => other.map(drop).named("clone3(NULL, 0)"),
    }
}

fn setns_with_a_pidfd() -> Result<(), Refusal> {
    make(CloneFlags::CLONE_NEWUTS)?; // one that is ours to join
    let us = getpid();
    // SAFETY: takes two integers and makes a file descriptor, which this process ends with.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, us.as_raw(), 0) };
    let pidfd = Errno::result(pidfd).named(format!("pidfd_open({us}, 0)"))?;
    // SAFETY: the kernel just made it, and nobody else closes it.
    let pidfd = unsafe { std::os::fd::BorrowedFd::borrow_raw(pidfd as i32) };
    let joined = setns(pidfd, CloneFlags::CLONE_NEWUTS);
    joined.named(format!("setns(pidfd_open({us}, 0), CLONE_NEWUTS)"))
}

/// Without a program none is installed: EFAULT. A kernel without filters says EINVAL.
fn seccomp_filter() -> Result<(), Refusal> {
    let (set, none) = (libc::SECCOMP_SET_MODE_FILTER, ptr::null::<libc::sock_fprog>());
    // SAFETY: with a null pointer the kernel changes nothing.
    match Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, set, 0, none) }) {
        Err(Errno::EFAULT) => Ok(()),
        other => other.map(drop).named("seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL)"),
    }
}

/// Whoever started this shell may have promised for it, and for all that comes later.
fn no_promise() -> Result<(), Refusal> {
    match get_no_new_privs().named("prctl(PR_GET_NO_NEW_PRIVS)")? {
        false => Ok(()),
        true => Err(Errno::EINVAL).named("prctl(PR_SET_NO_NEW_PRIVS, 0)"),
    }
}

/// glibc does since 2.34, and gives up if a filter says EPERM. Others have no use for clone3(2).
fn libc_calls_clone3() -> Result<(), Refusal> {
    let step = |code, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_clone3 as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    set_no_new_privs().named("prctl(PR_SET_NO_NEW_PRIVS, 1)")?;
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(set).named("prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)")?;
    match thread::Builder::new().spawn(|| ()) {
        Ok(_) => Err(Errno::ENOSYS).named("clone3(2) in pthread_create(3)"),
        Err(_) => Ok(()),
    }
}

fn open_kvm() -> Result<(), Refusal> {
    kvm::can_run_x86()?;
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    kvm.map(drop).named("open(\"/dev/kvm\")")
}

/// Is there a hierarchy in which our cgroup can be told from the root, and from that of init?
fn own_cgroup() -> Result<(), Refusal> {
    let lines = |process: &str| {
        let file = format!("/proc/{process}/cgroup");
        fs::read_to_string(&file).named(format!("open({file:?})"))
    };
    let (ours, inits) = (lines("self")?, lines("1")?);
    let holds_init = |our: &str| inits.lines().any(|its| format!("{its}/").starts_with(our));
    let is_own = |our: &&str| !our.ends_with(":/") && !holds_init(&format!("{our}/"));
    let found = ours.lines().find(is_own).map(drop);
    found.ok_or(Errno::ENOENT).named("/proc/self/cgroup: a cgroup of our own")
}
