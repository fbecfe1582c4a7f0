//! A cgroup is stopped and ended as one.
//!
//! write(2), kill(2), clock_getcpuclockid(3); cgroups(7), signal(7);
//! Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files".

use std::fs::read_to_string;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use workbook::cgroups::Group;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("freeze-demo.rs"),
    claims: &[
        ("frz-1", "SIGSTOP stops a process. Its children go on."),
        ("frz-2", "A frozen cgroup's processes, children too, get no CPU time."),
        ("frz-3", "cgroup.kill ends them all, and the cgroup is still there."),
    ],
    shell: false,
    controls: &[Control { name: "freeze", what: "the cgroup is not frozen", breaks: &["frz-2"] }],
};

/// For so long we watch the clock of who stands still, and of who should go on at most so long: who
/// runs gets more than a moment.
const A_WHILE: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(10);
const A_MOMENT: Duration = Duration::from_millis(1);
const STILL: &str = "stands still";
const ON: &str = "goes on";

fn main() -> ExitCode {
    LESSON.run(freeze_demo)
}

fn freeze_demo(t: &mut Transcript) -> Result<(), Refusal> {
    // A child whose parent has ended comes to us to be waited for: as in orphan-demo.
    set_child_subreaper(true).named("prctl(PR_SET_CHILD_SUBREAPER, 1)")?;
    let made = Group::make(LESSON.name, &["freezer"]);
    match &made {
        Ok(_) => t.outside("mkdir(\"freeze-demo\")", 0),
        Err(no) => t.outside(no.call(), result(Err(no.errno().unwrap_or(Errno::EIO)))),
    }
    let mut group = made.ok();
    let (pid, mut from_busy) = child::forked("busy", t, |outside| busy(outside, group.as_ref()))?;
    t.outside("fork()", pid);
    let [child] = from_busy.hear(t)?;
    let both = [pid, Pid::from_raw(child.parse().unwrap_or(i32::MAX))]; // never 0: that is us
    let seen = observe(t, group.as_mut(), both);
    if seen.is_err() {
        end(both)?; // they would go on, and we would wait for them
    }
    let (stopped, of_group) = seen?;
    t.claim("frz-1", stopped == [STILL, ON]);
    match of_group {
        None => {
            t.open("frz-2", "a delegated cgroup");
            t.open("frz-3", "a delegated cgroup");
        }
        Some((frozen, killed)) => {
            t.claim("frz-2", frozen == [STILL, STILL]);
            match killed {
                None => t.open("frz-3", "cgroup.kill"),
                Some(killed) => t.claim("frz-3", killed),
            }
        }
    }
    t.by_hand("sh -c 'kill -KILL $$'; kill -l $?", "KILL");
    Ok(())
}

type Clocks = [&'static str; 2];
type OfGroup = (Clocks, Option<bool>);

fn observe(
    t: &mut Transcript,
    group: Option<&mut Group>,
    both: [Pid; 2],
) -> Result<(Clocks, Option<OfGroup>), Refusal> {
    let stopped = stop(t, both)?;
    let Some(group) = group else { return end(both).map(|()| (stopped, None)) };
    let of_group = (freeze(t, group, both)?, kill_all(t, group, both)?);
    t.did("rmdir(\"freeze-demo\")", group.remove())?;
    Ok((stopped, Some(of_group)))
}

// ANCHOR: busy
/// Two processes that do nothing but use CPU time.
fn busy(outside: &mut Outside, group: Option<&Group>) -> Result<(), Refusal> {
    let (lesson, us) = (getppid(), getpid());
    if let Some(group) = group {
        group.join().named("write(\"cgroup.procs\", \"0\")")?;
    }
    // SAFETY: one thread.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => {
            // Not PR_SET_PDEATHSIG: then it would end with its parent, and not with the cgroup.
            while [us, lesson].contains(&getppid()) {}
            outside.exit()
        }
        ForkResult::Parent { child } => outside.tell("fork()", child),
    }
    loop {
        spin_loop();
    }
}
// ANCHOR_END: busy

// ANCHOR: stop
/// What everybody has: a signal that stops one process.
fn stop(t: &mut Transcript, [pid, child]: [Pid; 2]) -> Result<Clocks, Refusal> {
    t.did(&format!("kill({pid}, SIGSTOP)"), kill(pid, Signal::SIGSTOP))?;
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).named("waitpid(2)");
    let stopped = stopped.and_then(child::not_killed)?;
    t.outside(format!("waitpid({pid}, WUNTRACED)"), shown(stopped));
    let seen = [watch(t, pid, A_WHILE)?, watch(t, child, LONG)?];
    t.did(&format!("kill({pid}, SIGCONT)"), kill(pid, Signal::SIGCONT))?;
    Ok(seen)
}
// ANCHOR_END: stop

// ANCHOR: freeze
fn freeze(t: &mut Transcript, group: &Group, both: [Pid; 2]) -> Result<Clocks, Refusal> {
    let [thaw, freeze] = group.freezer_words();
    let (mut frozen, mut enough) = (Ok(()), LONG);
    if !t.without("freeze") {
        enough = A_WHILE;
        group.set(t, "cgroup.freeze", freeze)?;
        frozen = group.until_frozen().named("cgroup.events: frozen"); // soon, not at once
    }
    let [of_parent, of_child] = both.map(|pid| watch(t, pid, enough));
    group.set(t, "cgroup.freeze", thaw)?; // also if that failed: in v1 SIGKILL waits for it
    frozen?;
    Ok([of_parent?, of_child?])
}
// ANCHOR_END: freeze

/// `None` where the kernel has no such file.
fn kill_all(t: &mut Transcript, group: &Group, both: [Pid; 2]) -> Result<Option<bool>, Refusal> {
    let call = "write(\"cgroup.kill\", \"1\")";
    match group.write("cgroup.kill", "1") {
        Err(Errno::ENOENT) => return end(both).map(|()| None),
        written => t.outside(call, written.named(call)?),
    }
    let mut all = true;
    for pid in both {
        let ended = shown(waitpid(pid, None).named("waitpid(2)")?);
        t.outside(format!("waitpid({pid})"), &ended);
        all &= ended == "SIGKILL";
    }
    // Soon, not at once: who has been waited for may still be on its CPU, for the last time.
    let _ = group.until_empty(); // and if it is not, the file says so
    let populated = value(group.number("cgroup.events", "populated"));
    t.outside("cgroup.events: populated", &populated);
    Ok(Some(all && populated == "0"))
}

fn end(both: [Pid; 2]) -> Result<(), Refusal> {
    for pid in both {
        // Who was killed and waited for has a number that may be another's by now: ECHILD.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if waitid(Id::Pid(pid), look) == Err(Errno::ECHILD) {
            continue;
        }
        kill(pid, Signal::SIGKILL).named("kill(2)")?;
        waitpid(pid, None).named("waitpid(2)")?;
    }
    Ok(())
}

/// Does it get CPU time? (It counts as stopped a few microseconds before it is off the CPU.)
fn watch(t: &mut Transcript, pid: Pid, enough: Duration) -> Result<&'static str, Refusal> {
    let call = format!("clock_getcpuclockid({pid}): CPU time");
    let clock = clock_getcpuclockid(pid).named(&*call)?;
    let time = || clock_gettime(clock).map(Duration::from).named(&*call);
    let (first, end) = (time()?, Instant::now() + enough);
    let file = format!("/proc/{pid}/stat");
    let mut seen = STILL;
    while seen == STILL && Instant::now() < end {
        sleep(A_MOMENT);
        if time()? > first + A_MOMENT {
            seen = ON;
        }
        let stat = read_to_string(&file).named(format!("open({file:?})"))?;
        if stat.contains(") Z ") {
            return Err(Errno::ESRCH).named(file); // a zombie stands still, too
        }
    }
    t.outside(call, seen);
    Ok(seen)
}

fn shown(status: WaitStatus) -> String {
    match status {
        WaitStatus::Signaled(_, signal, _) | WaitStatus::Stopped(_, signal) => signal.to_string(),
        other => format!("{other:?}"),
    }
}
