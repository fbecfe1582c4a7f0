//! A cgroup limits all its processes together.
//!
//! mkdir(2), write(2), fork(2), mmap(2), setrlimit(2); cgroups(7), getrlimit(2);
//! Documentation/admin-guide/cgroup-v2.rst, "Controllers".

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::ClockId;
use nix::unistd::{ForkResult, fork};
use workbook::cgroups::Group;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("limits-demo.rs"),
    claims: &[
        ("lim-1", "RLIMIT_AS is a limit for each process: a child has as much again."),
        ("lim-2", "With pids.max 3 a process gets two children, the third is EAGAIN."),
        ("lim-3", "Who uses more than memory.max is killed: SIGKILL, and oom_kill 1."),
        ("lim-4", "Who has used up cpu.max waits for the next period: throttled."),
    ],
    shell: false,
    controls: &[
        Control { name: "pids-max", what: "no limit on processes", breaks: &["lim-2"] },
        Control { name: "memory-max", what: "no limit on memory", breaks: &["lim-3"] },
        Control { name: "cpu-max", what: "no limit on CPU time", breaks: &["lim-4"] },
    ],
};

const MB: usize = 1 << 20;
const JOIN: &str = "write(\"cgroup.procs\", \"0\")";

fn main() -> ExitCode {
    LESSON.run(limits_demo)
}

fn limits_demo(t: &mut Transcript) -> Result<(), Refusal> {
    let (_, mut from_alone) = child::forked("alone", t, alone)?;
    let [_limit, first, second, _forked] = from_alone.hear(t)?;
    from_alone.leave(t)?;
    let apart = first == "ok" && second == "-1 ENOMEM"; // and fork(2) gave a child

    match Group::make(LESSON.name, &["pids", "memory", "cpu"]) {
        Ok(mut group) => {
            t.outside("mkdir(\"limits-demo\")", 0);
            let third = limit_pids(t, &group)?;
            let (signal, kills) = limit_memory(t, &group)?;
            let throttled = limit_cpu(t, &group)?;
            t.did("rmdir(\"limits-demo\")", group.remove())?;
            t.claim("lim-1", apart);
            t.claim("lim-2", third == "-1 EAGAIN");
            t.claim("lim-3", signal == "SIGKILL" && kills == "1");
            t.claim("lim-4", throttled > 0);
        }
        Err(refusal) => {
            t.outside(refusal.call(), result(Err(refusal.errno().unwrap_or(Errno::EIO))));
            t.claim("lim-1", apart);
            t.open("lim-2", "delegated controllers");
            t.open("lim-3", "delegated controllers");
            t.open("lim-4", "delegated controllers");
        }
    }
    t.by_hand(
        "prlimit --as=99999999 dd bs=200M count=1 if=/dev/zero 2>&1",
        "dd: memory exhausted by input buffer of size 209715200 bytes (200 MiB)",
    );
    Ok(())
}

/// What everybody has: a limit on the address space of a process.
fn alone(outside: &mut Outside) -> Result<(), Refusal> {
    let limit = 256 * MB as u64;
    let limited = setrlimit(Resource::RLIMIT_AS, limit, limit);
    outside.did("setrlimit(RLIMIT_AS, 256 MB)", limited)?;
    outside.tell("mmap(192 MB)", value(map(192 * MB).map(|_| "ok")));
    outside.tell("mmap(192 MB)", value(map(192 * MB).map(|_| "ok")));
    // The child has a copy of our address space, 192 MB too, and a limit of its own.
    // SAFETY: one thread.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => outside.exit(),
        ForkResult::Parent { child } => {
            outside.tell("fork()", child);
            waitpid(child, None).map(drop).named("waitpid(2)")
        }
    }
}

fn limit_pids(t: &mut Transcript, group: &Group) -> Result<String, Refusal> {
    if !t.without("pids-max") {
        group.set(t, "pids.max", "3")?;
    }
    let (_, mut from_many) = child::forked("many", t, |outside| many(outside, group))?;
    let [_joined, _first, _second, third] = from_many.hear(t)?;
    from_many.leave(t)?;
    Ok(third)
}

// ANCHOR: many
/// Goes into the cgroup, and makes children there.
fn many(outside: &mut Outside, group: &Group) -> Result<(), Refusal> {
    outside.tell(JOIN, group.join().named(JOIN)?);
    for _ in 0..3 {
        // SAFETY: one thread.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => outside.exit(), // and it counts until it is waited for
            Ok(ForkResult::Parent { child }) => outside.tell("fork()", child),
            Err(errno) => outside.tell("fork()", result(Err(errno))),
        }
    }
    while waitpid(None, None).is_ok() {}
    Ok(())
}
// ANCHOR_END: many

// ANCHOR: memory
fn limit_memory(t: &mut Transcript, group: &Group) -> Result<(String, String), Refusal> {
    if !t.without("memory-max") {
        group.set(t, "memory.max", "16M")?;
        group.without_swap("16M").named("write(\"memory.swap.max\", \"0\")")?;
    }
    let (pid, mut from_big) = child::forked("big", t, |outside| {
        outside.tell(JOIN, group.join().named(JOIN)?);
        // mmap(2) only promises. The pages are taken, and counted, when they are first written to.
        let memory = map(64 * MB).named("mmap(64 MB)")?;
        memory.chunks_mut(4096).for_each(|page| page[0] = 1);
        outside.exit()
    })?;
    let [_joined] = from_big.hear(t)?;
    let status = waitpid(pid, None).named("waitpid(2)")?;
    let ended = match status {
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        WaitStatus::Exited(_, status) => format!("exit status {status}"),
        other => format!("{other:?}"),
    };
    t.outside(format!("waitpid({pid})"), &ended);
    let kills = value(group.number("memory.events", "oom_kill"));
    t.outside(format!("{}: oom_kill", group.name("memory.events")), &kills);
    if kills == "0" {
        child::not_killed(status)?; // not for its memory, but from elsewhere
    }
    Ok((ended, kills))
}
// ANCHOR_END: memory

fn limit_cpu(t: &mut Transcript, group: &Group) -> Result<u64, Refusal> {
    if !t.without("cpu-max") {
        group.set(t, "cpu.max", "5000")?; // microseconds in each period, which is 100000
    }
    let throttled = || group.number("cpu.stat", "nr_throttled");
    let (_, mut from_busy) = child::forked("busy", t, |outside| {
        outside.tell(JOIN, group.join().named(JOIN)?);
        let used = || ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map(Duration::from);
        let enough = Duration::from_millis(100); // twenty times what it may have in a period
        while throttled() == Ok(0) && used().is_ok_and(|time| time < enough) {}
        Ok(())
    })?;
    let [_joined] = from_busy.hear(t)?;
    from_busy.leave(t)?; // waits for its end
    let throttled = throttled().named("cpu.stat: nr_throttled")?;
    t.outside("cpu.stat: nr_throttled", throttled);
    Ok(throttled)
}

/// New memory, which stays until the process ends.
fn map(length: usize) -> nix::Result<&'static mut [u8]> {
    let size = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
    let (rights, kind) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    // SAFETY: the kernel chooses a place where there is nothing.
    let memory = unsafe { mmap_anonymous(None, size, rights, kind) }?;
    // SAFETY: these bytes are zero, nobody else has them, and they are never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().cast(), length) })
}
