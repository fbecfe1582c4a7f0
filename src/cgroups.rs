//! A cgroup of a lesson's own: cgroups(7). limits-demo and its chapter show what is done here.
//!
//! A cgroup is a directory, and outlives who made it. So before there is one there is a *keeper*: a
//! process that waits for our end, however we end, and then removes what we have made. It is in a
//! session of its own and blocks all signals, so that what ends us does not end it. Only if both are
//! killed at once something stays until the next run: a directory, empty but for who was frozen.
//!
//! Where there are two runs at once, the second waits: a lock on the directory that holds the cgroup.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{AccessFlags, ForkResult, Pid, access, fork, getpid, getppid, setsid};

use crate::host::{Named as _, Refusal, errno};
use crate::proc::{comm, pidfd};
use crate::transcript::Transcript;

/// Who needs them names the files as v2 does. v1 has other names for these.
const V1_NAMES: [(&str, &str); 5] = [
    ("memory.max", "memory.limit_in_bytes"),
    ("memory.events", "memory.oom_control"),
    ("cpu.max", "cpu.cfs_quota_us"),
    ("cgroup.freeze", "freezer.state"),
    ("cgroup.events", "freezer.state"),
];
/// How long what was killed may take to be gone.
const DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A cgroup: one directory in v2, or one in each of v1's hierarchies that is needed.
pub struct Group {
    places: Vec<Place>,
    keeper: Option<Pid>,
}

/// One directory of ours.
struct Place {
    is_v2: bool,
    /// Those that we need here.
    controllers: Vec<&'static str>,
    /// The cgroup that ours is in.
    parent: PathBuf,
    folder: PathBuf,
    /// The controllers that the parent does not hand down to its children yet.
    off: Vec<&'static str>,
    /// In v2 a cgroup with processes hands down nothing, except the root. If ours is the parent, and
    /// we are alone in it, we go here.
    aside: Option<PathBuf>,
    lock: Flock<File>,
}

impl Group {
    /// mkdir(2), below the cgroup that we are in, with these controllers.
    pub fn make(name: &str, controllers: &[&'static str]) -> Result<Self, Refusal> {
        Self::make_if(name, controllers, FlockArg::LockExclusive)
    }

    /// The same with these limits: files as v2 names them, and what is written to them. It does not
    /// wait: EWOULDBLOCK while another run has a cgroup there.
    pub fn with(name: &str, limits: &[(&'static str, String)]) -> Result<Self, Refusal> {
        let controllers = limits.iter().filter_map(|(file, _)| file.split('.').next());
        let group =
            Self::make_if(name, &controllers.collect::<Vec<_>>(), FlockArg::LockExclusiveNonblock)?;
        for (file, text) in limits {
            let call = format!("write({:?}, {text:?})", group.name(file));
            group.write(file, text).named(call)?;
        }
        Ok(group)
    }

    fn make_if(name: &str, controllers: &[&'static str], how: FlockArg) -> Result<Self, Refusal> {
        let mut group = Self { places: places(name, controllers, how)?, keeper: None };
        for place in &group.places {
            // It is locked, so no run uses it: it stayed when a lesson and its keeper were killed, and
            // with it whoever was frozen. Others we leave alone.
            let is_ours = |pid: &Pid| comm(pid).is_ok_and(|comm| comm == name);
            if members(&place.folder).iter().all(is_ours) {
                place.undo().named(shown("rmdir", &place.folder))?;
            }
        }
        let keeper = group.keep()?;
        group.keeper = Some(keeper);
        for place in &group.places {
            place.make(keeper)?; // from here on whatever fails is undone by `drop`
        }
        Ok(group)
    }

    /// What this host calls a file of v2.
    pub fn name<'a>(&self, file: &'a str) -> &'a str {
        let is_v1 = self.place(file).is_some_and(|place| !place.is_v2);
        let v1 = V1_NAMES.iter().find(|names| is_v1 && names.0 == file);
        v1.map_or(file, |names| names.1)
    }

    /// Where that file is.
    fn path(&self, file: &str) -> nix::Result<PathBuf> {
        let place = self.place(file).ok_or(Errno::ENOENT)?;
        Ok(place.folder.join(self.name(file)))
    }

    /// The directory with this file: the controller is what its name begins with.
    fn place(&self, file: &str) -> Option<&Place> {
        let controller = file.split('.').next().unwrap_or_default();
        let controller = if controller == "cgroup" { "freezer" } else { controller };
        let mut places = self.places.iter();
        places.find(|place| place.controllers.contains(&controller))
    }

    /// write(2) to a file of the cgroup; gives how many bytes.
    pub fn write(&self, file: &str, text: &str) -> nix::Result<usize> {
        write(&self.path(file)?, text)
    }

    /// The same, and prints it.
    pub fn set(&self, t: &mut Transcript, file: &str, text: &str) -> Result<(), Refusal> {
        let call = format!("write({:?}, {text:?})", self.name(file));
        let written = self.write(file, text).named(&*call)?;
        t.outside(call, written);
        Ok(())
    }

    /// The number behind this word in a file of the cgroup, such as `oom_kill` in `memory.events`.
    pub fn number(&self, file: &str, word: &str) -> nix::Result<u64> {
        self.number_below("", file, word)
    }

    /// The same in a cgroup below it, by its path from here.
    pub fn number_below(&self, below: &str, file: &str, word: &str) -> nix::Result<u64> {
        let place = self.place(file).ok_or(Errno::ENOENT)?;
        let text = read(&place.folder.join(below).join(self.name(file)))?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let mut numbers = lines.filter(|line| line.0 == word);
        numbers.find_map(|line| line.1.parse().ok()).ok_or(Errno::ENODATA)
    }

    /// Without this the memory that is too much goes to the swap space, where there is some.
    pub fn without_swap(&self, limit: &str) -> nix::Result<()> {
        let (file, text) = match self.place("memory.max").is_some_and(|place| place.is_v2) {
            true => ("memory.swap.max", "0"),
            false => ("memory.memsw.limit_in_bytes", limit), // of memory and swap together
        };
        match self.write(file, text) {
            Err(Errno::ENOENT) => Ok(()), // a kernel that does not limit swap, or has none
            written => written.map(drop),
        }
    }

    /// What is written to `cgroup.freeze` to thaw, and to freeze.
    pub fn freezer_words(&self) -> [&'static str; 2] {
        match self.place("cgroup.freeze").is_some_and(|place| place.is_v2) {
            true => ["0", "1"],
            false => ["THAWED", "FROZEN"],
        }
    }

    /// Waits until every process in the cgroup stands still.
    pub fn until_frozen(&self) -> nix::Result<()> {
        self.until_events_say(&["frozen 1", "FROZEN"])
    }

    /// Waits until no process is in the cgroup, nor in one below it. In v2 only.
    pub fn until_empty(&self) -> nix::Result<()> {
        self.until_events_say(&["populated 0"])
    }

    fn until_events_say(&self, lines: &[&str]) -> nix::Result<()> {
        let end = Instant::now() + DEADLINE;
        while !read(&self.path("cgroup.events")?)?.lines().any(|line| lines.contains(&line)) {
            if Instant::now() > end {
                return Err(Errno::ETIMEDOUT);
            }
            // Not poll(2): v1 tells nobody of a change, and v2 may tell of it some 10 ms late.
            sleep(A_MOMENT);
        }
        Ok(())
    }

    /// The caller, and whom it will make, go into the cgroup: 0 is who writes it.
    pub fn join(&self) -> nix::Result<usize> {
        for place in &self.places {
            // SAFETY: our copy of the lock, which belongs to the lesson and its keeper. A process that
            // goes into a cgroup never drops the value that owns it.
            unsafe { libc::close(place.lock.as_raw_fd()) };
        }
        enter(&self.doors("")?).map(|()| 1)
    }

    /// mkdir(2): a cgroup below it, by its path from here. It goes with this one.
    pub fn make_below(&self, below: &str) -> nix::Result<()> {
        let mut folders = self.places.iter().map(|place| place.folder.join(below));
        folders.try_for_each(|folder| fs::create_dir(folder).map_err(errno))
    }

    /// The files by which one goes into a cgroup below it: [`enter`].
    pub fn doors(&self, below: &str) -> nix::Result<Vec<File>> {
        let files = self.places.iter().map(|place| place.folder.join(below).join("cgroup.procs"));
        files.map(|file| File::options().write(true).open(file).map_err(errno)).collect()
    }

    /// Lets those below a cgroup that is below it have the controllers. It may have no processes. In
    /// v1 all have them.
    pub fn hand_down(&self, below: &str) -> Result<(), Refusal> {
        for place in self.places.iter().filter(|place| place.is_v2) {
            hand_down(&place.folder.join(below), '+', &place.controllers)?;
        }
        Ok(())
    }

    /// rmdir(2), once every process is gone.
    pub fn remove(&mut self) -> nix::Result<()> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        let _ = kill(keeper, Signal::SIGUSR1); // should it be gone, the next call says so
        loop {
            match waitpid(keeper, None) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
                _ => return self.undo(), // it was killed
            }
        }
    }

    // ANCHOR: keep
    /// The process that outlives us for as long as it takes to remove what we have made.
    fn keep(&self) -> Result<Pid, Refusal> {
        let us = getpid();
        let (mut is_ready, ready) = pipe().named("pipe2(O_CLOEXEC)")?;
        // SAFETY: a lesson has one thread, so the child may do whatever we may.
        match unsafe { fork() }.named("fork()")? {
            ForkResult::Parent { child } => {
                drop(ready);
                let _ = is_ready.read(&mut [0]); // the end of the file: it is ready
                Ok(child)
            }
            ForkResult::Child => {
                // What is typed at the terminal, and its end, is for the sessions that have it.
                let _ = setsid(); // cannot fail: we are new, and lead no group
                let _ = SigSet::all().thread_block();
                // SIGUSR1 when our parent ends. If it has, or does so between these lines, it has
                // made nothing yet.
                let _ = set_pdeathsig(Signal::SIGUSR1);
                drop((ready, is_ready));
                while getppid() == us && SigSet::all().wait() != Ok(Signal::SIGUSR1) {}
                let errno = self.undo().err().map_or(0, |errno| errno as i32);
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(errno) }
            }
        }
    }
    // ANCHOR_END: keep

    fn undo(&self) -> nix::Result<()> {
        self.places.iter().map(Place::undo).fold(Ok(()), Result::and)
    }
}

impl Drop for Group {
    /// Also when a lesson gives up halfway.
    fn drop(&mut self) {
        let _ = self.remove(); // who wants to know has called it
    }
}

impl Place {
    fn make(&self, keeper: Pid) -> Result<(), Refusal> {
        if let Some(aside) = &self.aside {
            fs::create_dir(aside).named(shown("mkdir", aside))?;
            for pid in [keeper, getpid()] {
                let call = format!("write(\"cgroup.procs\", \"{pid}\")");
                write(&aside.join("cgroup.procs"), &pid.to_string()).named(call)?;
            }
        }
        fs::create_dir(&self.folder).named(shown("mkdir", &self.folder))?;
        hand_down(&self.parent, '+', &self.off)
    }

    fn undo(&self) -> nix::Result<()> {
        if !self.is_v2 && self.controllers.contains(&"freezer") {
            let _ = write(&self.folder.join("freezer.state"), "THAWED"); // if it is there
        }
        let end = Instant::now() + DEADLINE;
        let removed = loop {
            // Who was killed is a member until it is gone: EBUSY. So it is with cgroups below.
            match fs::remove_dir(&self.folder).map_err(errno) {
                Err(Errno::EBUSY) if Instant::now() < end => empty(&self.folder),
                Err(Errno::ENOENT) => break Ok(()), // we had not come so far
                removed => break removed,
            }
            sleep(A_MOMENT);
        };
        if !self.off.is_empty() {
            let _ = hand_down(&self.parent, '-', &self.off); // if it was handed down
        }
        if let Some(aside) = &self.aside {
            for pid in members(aside) {
                let _ = write(&self.parent.join("cgroup.procs"), &pid.to_string()); // or it has ended
            }
            let _ = fs::remove_dir(aside);
        }
        removed
    }
}

/// Lets the children of a cgroup have these controllers, or not any more.
fn hand_down(folder: &Path, sign: char, controllers: &[&str]) -> Result<(), Refusal> {
    for controller in controllers {
        let (file, word) = ("cgroup.subtree_control", format!("{sign}{controller}"));
        write(&folder.join(file), &word).named(format!("write({file:?}, {word:?})"))?;
    }
    Ok(())
}

/// Ends whoever is in a cgroup, or in those that its members have made below it, and removes these.
fn empty(folder: &Path) {
    kill_members(folder);
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for child in below.filter(|path| path.is_dir()) {
        empty(&child);
        let _ = fs::remove_dir(child); // or somebody is still in it
    }
}

fn kill_members(folder: &Path) {
    for pid in members(folder) {
        let Ok(pidfd) = pidfd(pid) else { continue };
        // Between the two lists the number may have become another's.
        if members(folder).contains(&pid) {
            let (call, signal) = (libc::SYS_pidfd_send_signal, libc::SIGKILL);
            // SAFETY: the fd is open; without a siginfo_t the kernel makes the one of kill(2).
            unsafe { libc::syscall(call, pidfd.as_raw_fd(), signal, ptr::null::<u8>(), 0) };
        }
    }
}

/// The caller, and whom it will make, go into the cgroup of these files: 0 is who writes it.
pub fn enter(doors: &[File]) -> nix::Result<()> {
    doors.iter().try_for_each(|mut door| door.write_all(b"0").map_err(errno))
}

/// For each controller where our cgroup will be: in v1 where we are in its hierarchy, else in v2. To
/// freeze is no controller of v2's: every cgroup can.
fn places(name: &str, controllers: &[&'static str], how: FlockArg) -> Result<Vec<Place>, Refusal> {
    let [mounts, ours] = ["/proc/self/mountinfo", "/proc/self/cgroup"]
        .map(|file| fs::read_to_string(file).named(format!("open({file:?})")));
    let (mounts, ours) = (mounts?, ours?);
    let v2 = ours_in(&mounts, &ours, None);
    let (mut places, mut in_v2) = (Vec::<Place>::new(), Vec::new());
    for controller in controllers.iter().copied() {
        let v1 = ours_in(&mounts, &ours, Some(controller));
        let Some((parent, _)) = v1.filter(|_| controller != "freezer" || v2.is_none()) else {
            in_v2.push(controller);
            continue;
        };
        if let Some(place) = places.iter_mut().find(|place| place.parent == parent) {
            place.controllers.push(controller); // one hierarchy for several
            continue;
        }
        let (controllers, folder, lock) =
            (vec![controller], parent.join(name), lock(name, &parent, how)?);
        let off = Vec::new();
        places.push(Place { is_v2: false, controllers, parent, folder, off, aside: None, lock });
    }
    if !in_v2.is_empty() {
        let found = v2.ok_or(Errno::ENOENT).named("/proc/self/mountinfo: a cgroup file system");
        let (ours, top) = found?;
        places.push(place_in_v2(name, in_v2, &ours, &top, how)?);
    }
    Ok(places)
}

/// The directory of the cgroup that a process is in, and the top of its hierarchy: the one of this
/// controller in v1, if there is such a one, else v2's.
pub fn of(process: impl Display, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let its = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    ours_in(&mounts, &its, Some(controller)).or_else(|| ours_in(&mounts, &its, None))
}

/// The directory of the cgroup that we are in, and the top of its hierarchy: the one of this controller
/// in v1, or v2's. Fields of proc_pid_mountinfo(5) and of /proc/PID/cgroup.
fn ours_in(mounts: &str, ours: &str, v1: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let has = |list: &str| v1.is_none_or(|v1| list.split(',').any(|word| word == v1));
    let kind = if v1.is_some() { "cgroup" } else { "cgroup2" };
    let mount = mounts.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let right: Vec<_> = right.split(' ').collect();
        let is_it = right.first() == Some(&kind) && right.get(2).is_some_and(|list| has(list));
        is_it.then(|| left.split(' ').collect::<Vec<_>>())
    })?;
    let path = ours.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let list = fields.next()?;
        (list.is_empty() == v1.is_none() && has(list)).then(|| fields.next())?
    })?;
    let top = PathBuf::from(mount.get(4)?);
    let below = Path::new(path).strip_prefix(mount.get(3)?).ok()?;
    let ours = top.join(below);
    // A mount that is covered by another is in the list, too.
    ours.join("cgroup.procs").exists().then_some((ours, top))
}

/// The nearest cgroup, from ours up, that hands these controllers down to its children, or can be made
/// to: if it is the root, or ours and we are alone in it.
fn place_in_v2(
    name: &str,
    controllers: Vec<&'static str>,
    ours: &Path,
    top: &Path,
    how: FlockArg,
) -> Result<Place, Refusal> {
    let needed: Vec<_> = controllers.iter().copied().filter(|name| *name != "freezer").collect();
    let off = |parent: &Path| -> Vec<&'static str> {
        let on = read(&parent.join("cgroup.subtree_control")).unwrap_or_default();
        let is_off = |name: &&&str| !on.split_whitespace().any(|word| word == **name);
        needed.iter().filter(is_off).copied().collect()
    };
    let can = |parent: &&Path| {
        let has = read(&parent.join("cgroup.controllers")).unwrap_or_default();
        let has_all = needed.iter().all(|name| has.split_whitespace().any(|w| w == *name));
        let is_root = !parent.join("cgroup.type").exists();
        let are_alone = *parent == ours && members(parent) == [getpid()];
        access(*parent, AccessFlags::W_OK).is_ok()
            && (off(parent).is_empty() || has_all && (is_root || are_alone))
    };
    loop {
        let up = ours.ancestors().take_while(|folder| folder.starts_with(top));
        // If there is none, our own refuses, and its errno says why.
        let parent = up.clone().find(can).unwrap_or(ours);
        let lock = lock(name, parent, how)?;
        // Another run may have handed them down, and ended while we waited.
        if up.clone().find(can).unwrap_or(ours) == parent {
            let (off, folder) = (off(parent), parent.join(name));
            let is_root = !parent.join("cgroup.type").exists();
            let aside = (!off.is_empty() && !is_root).then(|| parent.join(format!("{name}-aside")));
            let parent = parent.to_path_buf();
            return Ok(Place { is_v2: true, controllers, parent, folder, off, aside, lock });
        }
    }
}

/// flock(2), until nobody who has the file descriptor is left: we and the keeper. Where we may make
/// nothing there is nothing to wait for.
fn lock(name: &str, folder: &Path, how: FlockArg) -> Result<Flock<File>, Refusal> {
    access(folder, AccessFlags::W_OK).named(format!("mkdir({name:?})"))?;
    let file = File::open(folder).named(format!("open({folder:?})"))?;
    let locked = Flock::lock(file, how).map_err(|(_, errno)| errno);
    locked.named(format!("flock({folder:?}, LOCK_EX)"))
}

/// A call with the name of a directory of ours: its path is long, and no news.
fn shown(call: &str, folder: &Path) -> String {
    format!("{call}({:?})", folder.file_name().unwrap_or_default())
}

/// The processes in a cgroup. Those of an outer PID namespace are shown as 0.
fn members(folder: &Path) -> Vec<Pid> {
    let list = read(&folder.join("cgroup.procs")).unwrap_or_default();
    let pids = list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0);
    pids.map(Pid::from_raw).collect()
}

fn write(file: &Path, text: &str) -> nix::Result<usize> {
    let mut file = File::options().write(true).open(file).map_err(errno)?;
    file.write(text.as_bytes()).map_err(errno)
}

fn read(file: &Path) -> nix::Result<String> {
    fs::read_to_string(file).map_err(errno)
}

/// Can we have a cgroup with these controllers? Found out by making one, and removing it.
pub fn try_out(controllers: &[&'static str]) -> Result<(), Refusal> {
    try_with(controllers, |_| Ok(()))
}

/// Does it have the file that ends all its processes? Since Linux 5.14, in v2.
pub fn try_to_kill() -> Result<(), Refusal> {
    let call = "write(\"cgroup.kill\", \"1\")";
    try_with(&["freezer"], |group| group.write("cgroup.kill", "1").map(drop).named(call))
}

fn try_with(
    controllers: &[&'static str],
    look: impl FnOnce(&Group) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match Group::make_if("workbook", controllers, FlockArg::LockExclusiveNonblock) {
        Err(refusal) if refusal.errno() == Some(Errno::EWOULDBLOCK) => Ok(()), // a lesson has one
        Err(refusal) => Err(refusal),
        Ok(mut group) => {
            look(&group)?;
            group.remove().named("rmdir(\"workbook\")")
        }
    }
}
