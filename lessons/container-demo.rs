//! A container of our own.
//!
//! clone(2), mount(2), pivot_root(2), setresuid(2), execve(2), sigwaitinfo(2), waitpid(2);
//! PR_SET_KEEPCAPS(2const), PR_SET_DUMPABLE(2const); namespaces(7), capabilities(7).

use std::fs::read;
use std::path::Path;
use std::process::ExitCode;
use std::ptr;

use container::bundle::{self, Container, Mount};
use container::{privileges, runtime};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_dumpable, set_keepcaps};
use nix::sys::resource::setrlimit;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, umask};
use nix::sys::statvfs::statvfs;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, fchdir, fork, gethostname, pivot_root, setgroups,
    sethostname, setresgid, setresuid, setsid,
};
use workbook::cgroups::Group;
use workbook::child::{self, Inside, Outside};
use workbook::guest::{self, tell};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson, Options};
use workbook::proc::{comm, namespaces, pids, unlike};
use workbook::shell::{self, Terminal};
use workbook::transcript::{Transcript, result, value};
use workbook::{mounts, netlink, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("container-demo.rs"),
    claims: &[
        ("ctr-1", "Six of its namespaces are new."),
        ("ctr-2", "A folder of the host is its /, and the rest of the host is gone."),
        ("ctr-3", "It sees its own processes, and PID 1 is its init."),
        ("ctr-4", "Its /proc/sys is read-only, and what tells of the host is covered."),
        ("ctr-5", "Its root has the capabilities that it was given, and no others."),
        ("ctr-6", "A filter refuses calls that need no capability."),
        ("ctr-7", "The exit status of its command comes out."),
    ],
    shell: false,
    controls: &[
        Control { name: "capset", what: "its root keeps CAP_SYS_ADMIN", breaks: &["ctr-5"] },
        Control { name: "seccomp", what: "there is no filter", breaks: &["ctr-6"] },
    ],
};

const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    let arguments = runtime::arguments(LESSON.arguments()).get_matches();
    match runtime::asked_for(&arguments) {
        Some(container) => runtime::tell(LESSON.name, container, run),
        None if arguments.get_flag("look-around") => look_around(),
        None => LESSON.run_with(|| arguments, container_demo),
    }
}

fn container_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    // A root of this program and its libraries, in memory, in mounts of our own: it goes with us.
    t.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL)
        .named("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)")?;
    guest::root_at("/mnt".as_ref(), "/bin/container-demo")?;
    let mut container = Container::around("/mnt".as_ref())?;
    container.args = vec![c"container-demo".into(), c"--look-around".into()];
    if t.without("seccomp") {
        container.filter.clear();
    }
    if t.without("capset") {
        let (sets, bit) = (&mut container.capabilities, privileges::capability("CAP_SYS_ADMIN"));
        for set in [&mut sets.bounding, &mut sets.permitted, &mut sets.effective] {
            *set |= bit.unwrap_or_default();
        }
    }

    t.outside("gethostname()", hostname());
    let (pid, mut from_inside) = made(&container, None, child::ends(t)?, |outside| {
        outside.wait();
        outside.tell_by_stdout()?;
        inside(&container, None, outside, SigSet::empty())
    })?;
    t.outside("clone(CLONE_NEWNS|CLONE_NEWPID|...)", pid);
    let new = unlike(&namespaces(pid)?, &namespaces("self")?);
    t.outside(format!("/proc/{pid}/ns, new: {new}"), new.split(' ').count());
    from_inside.go_on();
    let [its_pids, init, name, file, sys, keys, rename, nested, clone3] = from_inside.hear(t)?;
    let WaitStatus::Exited(_, status @ ..128) = waitpid(pid, None).named("waitpid(2)")? else {
        return Err(Refusal::ended_early()); // somebody has killed it, or the command
    };
    t.outside(format!("waitpid({pid})"), format!("exit status {status}"));

    t.claim("ctr-1", new == "cgroup ipc mnt net pid uts");
    t.claim("ctr-2", file == "-1 ENOENT");
    t.claim("ctr-3", its_pids == "1 2" && init == "container-demo" && name == "container");
    t.claim("ctr-4", sys == "-1 EROFS" && keys == "0");
    t.claim("ctr-5", rename == "-1 EPERM");
    t.claim("ctr-6", nested == "-1 EPERM" && clone3 == "-1 ENOSYS");
    t.claim("ctr-7", status == 7);
    t.by_hand(
        "unshare -rmpfuinC sh -c 'hostname container; hostname; exit 7'; echo $?",
        format!("{name}\n{status}"),
    );
    Ok(())
}

/// The command inside. Each call is one that the host's root may make.
fn look_around() -> ExitCode {
    let pids = pids().unwrap_or_default().iter().map(u32::to_string).collect::<Vec<_>>();
    tell("ls -d /proc/[0-9]*", pids.join(" "));
    tell("ps -o comm= -p 1", comm("1").unwrap_or_default());
    tell("gethostname()", hostname());
    let file = open("/etc/passwd", OFlag::O_RDONLY, Mode::empty());
    tell("open(\"/etc/passwd\")", result(file.map(drop)));
    // Where it can be written this is EPERM: nobody changes the modes there.
    let chmod = fchmodat(AT_FDCWD, "/proc/sys", Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
    tell("chmod(\"/proc/sys\", 0700)", result(chmod));
    let keys = read("/proc/keys").map(|keys| keys.len().to_string());
    tell("wc -c < /proc/keys", keys.unwrap_or_else(|error| error.to_string()));
    tell("sethostname(\"host\")", result(sethostname("host")));
    let nested = CloneFlags::from_bits_retain(libc::CLONE_NEWUSER);
    tell("unshare(CLONE_NEWUSER)", result(unshare(nested)));
    let clone3 = libc::SYS_clone3;
    // SAFETY: with a size of 0 the kernel reads nothing.
    let none = unsafe { libc::syscall(clone3, 0, 0) };
    tell("clone3(NULL, 0)", result(Errno::result(none).map(drop)));
    ExitCode::from(7)
}

fn hostname() -> String {
    value(gethostname().map(|name| name.to_string_lossy().into_owned()))
}

/// The runtime. It says nothing of its own, and ends as the command ended: 128 + n if signal n
/// killed it.
fn run(container: &Container) -> Result<u8, Refusal> {
    runtime::forget_the_caller()?;
    // From here on signals wait until stand_by asks for them.
    let all = SigSet::all();
    let mask = all.thread_swap_mask(SigmaskHow::SIG_SETMASK).named("rt_sigprocmask(2)")?;
    let terminal = container.terminal.then(Terminal::remember);
    let group = runtime::group(LESSON.name, container);
    let ends = child::ends_for("inside", LESSON.name, Options::default())?;
    let (pid, from_inside) = made(container, group.as_ref(), ends, |outside| {
        inside(container, group.as_ref(), outside, mask)
    })?;
    let status = stand_by(pid);
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    from_inside.leave_quietly().map(|()| status) // or it was refused something
}

// ANCHOR: clone
/// Makes PID 1 of a container, writes the maps of its user namespace, if it has one, and lets it
/// live this life.
fn made(
    container: &Container,
    group: Option<&Group>,
    (mut from_inside, mut to_outside): (Inside, Outside),
    life: impl FnOnce(&mut Outside) -> Result<(), Refusal>,
) -> Result<(Pid, Inside), Refusal> {
    // The root of a new cgroup namespace is the cgroup in which its first process is just then. So
    // with a cgroup of its own it makes that one later.
    let later = if group.is_some() { libc::CLONE_NEWCGROUP } else { 0 };
    let flags = container.namespaces & !later | libc::SIGCHLD;
    let kinds = CloneFlags::from_bits_truncate(flags).iter_names().map(|(name, _)| name);
    let call = format!("clone({})", kinds.collect::<Vec<_>>().join("|"));
    // SAFETY: without a stack of its own the child goes on here with a copy of all that is ours, as
    // after fork(2); and this program has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let pid = Errno::result(pid).named(call)?;
    if pid == 0 {
        to_outside.live(life);
    }
    if !container.uid_map.is_empty() {
        user::map(pid, &container.uid_map, &container.gid_map)?; // the files of user-demo
    }
    let pid = Pid::from_raw(pid as i32);
    from_inside.start(pid, to_outside);
    Ok((pid, from_inside))
}
// ANCHOR_END: clone

// ANCHOR: inside
/// The life of PID 1: it makes the container around itself, gives up what that took, and becomes
/// its init, or the command.
fn inside(
    container: &Container,
    group: Option<&Group>,
    outside: &mut Outside,
    mask: SigSet,
) -> Result<(), Refusal> {
    if let Some(group) = group {
        group.join().named("write(\"cgroup.procs\", \"0\")")?;
        let kind = CloneFlags::from_bits_retain(container.namespaces) & CloneFlags::CLONE_NEWCGROUP;
        unshare(kind).named("unshare(CLONE_NEWCGROUP)")?;
    }
    if !container.uid_map.is_empty() {
        become_user(0, 0)?; // the user that we are outside need not be in the map
    }
    root_of_its_own(container)?;
    if let Some(name) = &container.hostname {
        sethostname(name).named(format_args!("sethostname({name:?})"))?;
    }
    if container.namespaces & libc::CLONE_NEWNET != 0 {
        netlink::lo_up().named(netlink::LO_UP)?; // in a new network namespace it is down: net-demo
    }
    umask(Mode::from_bits_truncate(container.umask));
    chdir(&container.cwd).named(format_args!("chdir({:?})", container.cwd))?;
    give_up(container)?;
    outside.die_with_it()?; // once more: to become another user undoes it
    // Our memory holds the caller's environment, and /proc would show it to everybody inside.
    set_dumpable(false).named("prctl(PR_SET_DUMPABLE, 0)")?;
    SigSet::all().thread_set_mask().named("rt_sigprocmask(2)")?; // for stand_by
    if container.system {
        return command(container, mask);
    }
    // SAFETY: one thread, as above.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => command(container, mask),
        ForkResult::Parent { child } => outside.exit_with(stand_by(child).into()),
    }
}
// ANCHOR_END: inside

// ANCHOR: root
/// Makes a folder `/`, mounts what belongs in it, and lets go of the host's.
fn root_of_its_own(container: &Container) -> Result<(), Refusal> {
    umask(Mode::S_IWGRP | Mode::S_IWOTH); // for the places of mounts that have to be made
    mounts::make_private().named(mounts::MAKE_PRIVATE)?;
    let host = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).named("open(\"/\")")?;
    let (root, bind) = (&container.root, MsFlags::MS_BIND | MsFlags::MS_REC);
    let bound = mount(Some(root), root, NULL, bind, NULL); // pivot_root(2) takes only a mount point
    bound.named(format_args!("mount({root:?}, {root:?}, NULL, MS_BIND|MS_REC, NULL)"))?;
    chdir(root).named(format_args!("chdir({root:?})"))?;
    pivot_root(".", ".").named("pivot_root(\".\", \".\")")?;
    // Now a path that begins with / is the container's, whatever symbolic links are in it. And one
    // that does not is the host's, for we stand in its root until that is unmounted.
    fchdir(&host).named("fchdir(2)")?;
    for wanted in &container.mounts {
        mount_one(wanted)?;
    }
    bundle::make_links()?;
    for path in &container.read_only_paths {
        let bound = mount(Some(&**path), &**path, NULL, bind, NULL);
        let made = bound.and_then(|()| remount(path, MsFlags::MS_RDONLY));
        if_there(made).named(format_args!("mount({path:?}, MS_BIND), then MS_RDONLY"))?;
    }
    for path in &container.masked_paths {
        let mut bound = mount(Some("/dev/null"), &**path, NULL, MsFlags::MS_BIND, NULL);
        if bound == Err(Errno::ENOTDIR) {
            bound = mount(Some("tmpfs"), &**path, Some("tmpfs"), MsFlags::MS_RDONLY, NULL);
        }
        if_there(bound)
            .named(format_args!("mount(\"/dev/null\", {path:?}, NULL, MS_BIND, NULL)"))?;
    }
    if container.read_only {
        remount("/", MsFlags::MS_RDONLY).named("mount(\"/\", MS_REMOUNT|MS_BIND|MS_RDONLY)")?;
    }
    umount2(".", MntFlags::MNT_DETACH).named("umount2(\".\", MNT_DETACH)")?;
    chdir("/").named("chdir(\"/\")")
}

fn mount_one(wanted: &Mount) -> Result<(), Refusal> {
    let Mount { source, destination, kind, flags, propagation, data, .. } = wanted;
    let place = wanted.make_place()?;
    let mounted = if flags.contains(MsFlags::MS_BIND) {
        let bind = *flags & (MsFlags::MS_BIND | MsFlags::MS_REC);
        let of_host = Path::new(".").join(source.trim_start_matches('/'));
        let bound = mount(Some(&of_host), place, NULL, bind, NULL);
        bound.and_then(|()| if *flags == bind { Ok(()) } else { remount(destination, *flags) })
    } else {
        mount(Some(&**source), place, Some(&**kind), *flags, Some(&**data))
    };
    mounted.named(format_args!("mount({source:?}, {destination:?}, {kind:?}, ..., {data:?})"))?;
    if propagation.is_empty() {
        return Ok(());
    }
    mount(NULL, place, NULL, *propagation, NULL)
        .named(format_args!("mount(NULL, {destination:?}, ...)"))
}

/// mount(2) takes the flags of a bind mount in a second call only. In a user namespace those that
/// the mount has from outside are locked, and must be among them: mount_namespaces(7).
fn remount(path: &str, flags: MsFlags) -> nix::Result<()> {
    let locked = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let times = MsFlags::MS_NOATIME | MsFlags::MS_NODIRATIME;
    let has = MsFlags::from_bits_retain(statvfs(path)?.flags().bits()) & (locked | times);
    mount(NULL, path, NULL, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | has | flags, NULL)
}
// ANCHOR_END: root

/// What this kernel does not have needs no cover.
fn if_there(mounted: nix::Result<()>) -> nix::Result<()> {
    if mounted == Err(Errno::ENOENT) { Ok(()) } else { mounted }
}

// ANCHOR: give_up
/// Gives up, also for all that comes after, what the container shall not have.
fn give_up(container: &Container) -> Result<(), Refusal> {
    for &(resource, soft, hard) in &container.rlimits {
        let set = setrlimit(resource, soft, hard);
        set.named(format_args!("setrlimit({resource:?}, {{{soft}, {hard}}})"))?;
    }
    privileges::keep_in_bounding_set(container.capabilities.bounding)?;
    // The filter lets all that follows pass.
    privileges::promise_and_filter(container.no_new_privileges, &container.filter)?;
    set_keepcaps(true).named("prctl(PR_SET_KEEPCAPS, 1)")?; // so that setresuid(2) leaves them
    let groups: Vec<_> = container.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match setgroups(&groups) {
        Err(Errno::EPERM) if groups.is_empty() => {} // an ordinary user has given it up: user-demo
        set => set.named("setgroups(2)")?,
    }
    become_user(container.uid, container.gid)?;
    privileges::capset(&container.capabilities)
}

fn become_user(uid: u32, gid: u32) -> Result<(), Refusal> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).named(format_args!("setresgid({gid}, {gid}, {gid})"))?;
    setresuid(uid, uid, uid).named(format_args!("setresuid({uid}, {uid}, {uid})"))
}
// ANCHOR_END: give_up

/// Becomes the command.
fn command(container: &Container, mask: SigSet) -> Result<(), Refusal> {
    if container.terminal {
        shell::take_the_foreground(); // Ctrl-C and Ctrl-Z go to it
    } else {
        setsid().named("setsid()")?; // then no terminal is its own, and outside passes Ctrl-C on
    }
    mask.thread_set_mask().named("rt_sigprocmask(2)")?;
    runtime::execve(container)
}

// ANCHOR: stand_by
/// Waits for the end of a child and gives its exit status. Meanwhile passes signals on to it, and
/// reaps whoever else becomes our child: PID 1 has to, see init-demo and orphan-demo.
fn stand_by(child: Pid) -> u8 {
    loop {
        // SAFETY: the mask outlives the call, and we want no more than the signal's number.
        let signal = unsafe { libc::sigwaitinfo(SigSet::all().as_ref(), ptr::null_mut()) };
        if signal != libc::SIGCHLD {
            // SAFETY: sends a signal, or fails because the child has ended.
            unsafe { libc::kill(child.as_raw(), signal) };
            continue;
        }
        let mut status = 0; // one SIGCHLD may stand for several
        // SAFETY: writes to `status`.
        while let ended @ 1.. = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            if ended == child.as_raw() && libc::WIFSIGNALED(status) {
                return 128 + libc::WTERMSIG(status) as u8;
            } else if ended == child.as_raw() {
                return libc::WEXITSTATUS(status) as u8;
            }
        }
    }
}
// ANCHOR_END: stand_by
