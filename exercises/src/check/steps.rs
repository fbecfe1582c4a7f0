//! The steps: what a program has to do, and how the kernel is asked whether it does. The texts and
//! the hints of each are in `book/src/your-turn.md`.
//!
//! They are cumulative: who has reached a later one still passes those before. So no step asks for
//! more than its own effect, and an effect can be had in several ways.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::unistd::{geteuid, gethostname, sethostname};
use workbook::host::Named as _;
use workbook::proc;

use super::finding::{Miss, Trouble};
use super::program::{Program, send};
use super::stage::{NAME, Stage};
use super::view::{View, mount_point};

/// One step.
pub struct Step {
    /// Its name, which never changes. Its number is its place.
    pub name: &'static str,
    /// Does a program do it? On a stage of its own.
    pub check: fn(&Stage) -> Result<(), Trouble>,
}

/// All of them.
pub const STEPS: [Step; 6] = [
    Step { name: "run", check: run },
    Step { name: "hostname", check: hostname },
    Step { name: "pid", check: pid },
    Step { name: "proc", check: proc_of_its_own },
    Step { name: "mounts", check: mounts_inside },
    Step { name: "root", check: root },
];

/// A container with the probe in it.
struct Container<'stage> {
    program: Program<'stage>,
    probe: View,
}

impl<'stage> Container<'stage> {
    fn start(stage: &'stage Stage) -> Result<Self, Trouble> {
        Self::of(stage, &stage.target.words, 1)
    }

    fn of(stage: &'stage Stage, words: &[String], nth: u32) -> Result<Self, Trouble> {
        let mut program = Program::start(stage, words, nth)?;
        let hello = program.hello()?;
        match View::of_probe(stage, &program.token, &hello.pid)? {
            Some(probe) => Ok(Self { program, probe }),
            None => {
                let mistake = "Something answered, and on the host there is no such process: the \
                               command was not run, or not the file that was given.";
                Err(program.with_last_words(Miss::that(mistake)).into())
            }
        }
    }

    /// The miss of a namespace that is the host's, if it is; else nothing.
    fn shares(&self, kind: &str) -> Result<Option<Miss>, Trouble> {
        let (its, ours) = (self.probe.namespace(kind)?, self.hosts(kind)?);
        let link = format!("readlink(\"/proc/self/ns/{kind}\")");
        let miss = || Miss::default().inside(&link, &its).outside(&link, &ours);
        Ok((its == ours).then(miss))
    }

    /// The host's namespace of this kind.
    fn hosts(&self, kind: &str) -> Result<String, Trouble> {
        Ok(proc::namespace(self.program.host(), kind)?)
    }
}

fn mistake(mut miss: Miss, mistake: &str) -> Trouble {
    miss.mistake = mistake.to_string();
    miss.into()
}

/// The command gets its arguments and the standard streams; its exit status comes out; and that a
/// signal has killed it does, too.
fn run(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    container.program.tell("exit 7");
    let status = container.program.end("to end as its command, exit status 7")?;
    if status != 7 {
        let miss = Miss::that("The exit status of the command is not passed on.");
        let miss = miss.inside("exit(7)", "ended").outside("echo $?", status);
        return Err(container.program.with_last_words(miss).into());
    }
    let mut container = Container::of(stage, &stage.target.words, 2)?;
    // From outside: PID 1 of a PID namespace would survive its own.
    send(&container.probe.fd, Signal::SIGKILL).named("pidfd_send_signal(2)")?;
    let status = container.program.end("to end, for its command was killed")?;
    if status == 0 {
        let mistake = "The command was killed, and that looks like a success: end with 128 + the \
                       number of the signal, as a shell does.";
        let miss = Miss::that(mistake).inside("kill -KILL $$", "killed").outside("echo $?", status);
        return Err(miss.into());
    }
    Ok(())
}

/// The name inside is another, and the host keeps its own.
fn hostname(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    let ours = || gethostname().map(|name| name.to_string_lossy().into_owned());
    let outside = ours().named("gethostname()")?;
    if let Some(miss) = container.shares("uts")? {
        let renamed = "This name reached the host, and went with it: the UTS namespace has to be new \
                       before sethostname(2).";
        let shared = "It is in the host's UTS namespace: CLONE_NEWUTS is missing, or was refused.";
        let is_renamed = outside != NAME;
        let miss = if is_renamed { miss.outside("hostname", &outside) } else { miss };
        return Err(mistake(miss, if is_renamed { renamed } else { shared }));
    }
    let inside = container.probe.visit("uts", ours)?.named("gethostname()")?;
    let seen = Miss::default().inside("hostname", &inside).outside("hostname", &outside);
    if outside != NAME {
        let renamed = "The host was renamed: sethostname(2) came before the UTS namespace was new.";
        return Err(mistake(seen, renamed));
    }
    if inside == NAME && stage.target.is_own {
        let same = "A new UTS namespace begins with a copy of the host's name: sethostname(2).";
        return Err(mistake(seen, same));
    }
    let set = container.probe.visit("uts", || sethostname("inside").map(|()| String::new()))?;
    set.named("sethostname(\"inside\")")?;
    Ok(())
}

/// The command is in a PID namespace of its own, and can have children there.
fn pid(stage: &Stage) -> Result<(), Trouble> {
    let mut container = Container::start(stage)?;
    let forked = container.program.ask("fork")?;
    let pids = container.probe.status("NSpid")?;
    let seen =
        |miss: Miss| miss.outside(format!("/proc/{}/status: NSpid", container.probe.pid), &pids);
    if let Some(miss) = container.shares("pid")? {
        let next = container.probe.link("ns/pid_for_children").ok();
        let moved = next.is_some_and(|next| Some(next) != container.hosts("pid").ok());
        let forgot = "unshare(CLONE_NEWPID) leaves its caller where it was: only the next child is \
                      PID 1. Fork after it, and run the command in the child.";
        let shared = "It is in the host's PID namespace: CLONE_NEWPID is missing, or was refused.";
        return Err(mistake(seen(miss), if moved { forgot } else { shared }));
    }
    if !forked.ends_with(" 0") {
        let gone = "PID 1 of the namespace has ended, and without it nobody can be born there.";
        return Err(mistake(seen(Miss::default().inside("fork()", forked)), gone));
    }
    Ok(())
}

/// `/proc` inside shows the processes inside, and no others.
fn proc_of_its_own(_stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(_stage)?;
    let namespace = container.probe.namespace("pid")?;
    let there: Vec<_> = proc::pids_in(&namespace)?.into_keys().collect();
    let shown = |pids: &[u32]| {
        let first: Vec<_> = pids.iter().take(8).map(u32::to_string).collect();
        first.join(" ") + if pids.len() > 8 { " ..." } else { "" }
    };
    let folder = std::fs::read_dir(format!("/proc/{}/root/proc", container.probe.pid));
    let names =
        folder.into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut listed: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    listed.sort_unstable();
    if listed == there {
        return Ok(());
    }
    let miss = Miss::default()
        .inside(
            "ls /proc",
            if listed.is_empty() { "no processes".to_string() } else { shown(&listed) },
        )
        .outside(format!("the processes in {namespace}"), shown(&there));
    let why = match listed.is_empty() {
        true => "There is no proc file system on /proc in the container.",
        false => {
            "This /proc belongs to the PID namespace in which it was mounted, the host's: mount a new \
             one, in a mount namespace of the container's own, from inside its PID namespace."
        }
    };
    Err(mistake(miss, why))
}

/// What is mounted in the container is not seen on the host.
fn mounts_inside(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    if let Some(miss) = container.shares("mnt")? {
        let why = "It is in the host's mount namespace: CLONE_NEWNS is missing, or was refused.";
        return Err(mistake(miss, why));
    }
    let mounted = container.probe.visit("mnt", || {
        let tmpfs =
            |place| mount(Some("check"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>);
        tmpfs("/tmp").or_else(|_| tmpfs("/")).map(|()| String::new())
    })?;
    mounted.named("mount(\"check\", \"/tmp\", \"tmpfs\", 0, NULL)")?;
    let leaked = stage.leaked()?;
    let Some(line) = leaked.first() else { return Ok(()) };
    let miss = Miss::default()
        .inside(format!("mount -t tmpfs check {}", "/tmp"), "mounted")
        .outside("/proc/self/mountinfo", format!("{} is a new mount", mount_point(line)));
    let why = "This mount reached the host, and was undone with it: a new mount namespace is a copy \
               of shared mounts, which pass on what happens to them. Make / private first: \
               mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL).";
    Err(mistake(miss, why))
}

/// The command is root inside, and outside the user who runs it.
fn root(stage: &Stage) -> Result<(), Trouble> {
    let container = Container::start(stage)?;
    let (probe, us) = (&container.probe, geteuid());
    if let Some(miss) = container.shares("user")? {
        if us.is_root() {
            Err(Errno::EPERM).named("geteuid() > 0")?;
        }
        let why = "It is in the host's user namespace: CLONE_NEWUSER is missing, or was refused.";
        return Err(mistake(miss, why));
    }
    let [uids, gids] = ["uid_map", "gid_map"].map(|file| probe.file(file));
    let (uids, gids) = (uids?, gids?);
    let flat = |map: &str| {
        let lines = map.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join(", ")
    };
    let inner = |map: &str, id: u32| {
        map.lines().find_map(|line| {
            let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
            let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            let id = u64::from(id).checked_sub(outside).filter(|nth| *nth < count)?;
            Some(inside + id)
        })
    };
    let id = |field| -> Result<u32, Trouble> {
        let ids = probe.status(field)?;
        Ok(ids.split(' ').nth(1).and_then(|id| id.parse().ok()).unwrap_or(u32::MAX))
    };
    let (uid, gid) = (id("Uid")?, id("Gid")?);
    let shown = |id: Option<u64>| id.map_or("65534".to_string(), |id| id.to_string());
    let (inside, group) = (inner(&uids, uid), inner(&gids, gid));
    if inside == Some(0) && group == Some(0) {
        return Ok(());
    }
    let miss = Miss::default()
        .inside("id -u; id -g", format!("{} {}", shown(inside), shown(group)))
        .inside("/proc/self/uid_map", or_empty(flat(&uids)))
        .inside("/proc/self/gid_map", or_empty(flat(&gids)))
        .outside("id -u; id -g", format!("{uid} {gid}"));
    let why = match (inside, group) {
        (None, _) => {
            "The user namespace has no map for this user, who is 65534 then, nobody: write \
             \"0 UID 1\" to /proc/PID/uid_map, with the UID that you are outside."
        }
        (Some(0), _) => {
            "The group is not mapped to 0: write \"deny\" to /proc/PID/setgroups, then \"0 GID 1\" \
             to /proc/PID/gid_map."
        }
        _ => "The user is mapped, and not to 0: the first number in uid_map is the one inside.",
    };
    Err(mistake(miss, why))
}

fn or_empty(text: String) -> String {
    if text.is_empty() { "empty".to_string() } else { text }
}
