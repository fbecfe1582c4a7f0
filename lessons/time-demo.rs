//! A time since boot of its own, the same date.
//!
//! unshare(2) with CLONE_NEWTIME; time_namespaces(7), since Linux 5.6; clock_gettime(2).

use std::fs::{File, read_to_string};
use std::process::ExitCode;

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork, write};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::proc::namespace;
use workbook::transcript::{Transcript, value};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("time-demo.rs"),
    claims: &[
        ("time-1", "unshare(2) moves the children of its caller, not the caller."),
        ("time-2", "The time since boot is the host's plus an offset."),
        ("time-3", "The date stays the host's: it has no offset."),
        ("time-4", "No offset turns a clock back beyond zero."),
        ("time-5", "With the first process inside, the offsets are fixed."),
    ],
    shell: true,
    controls: &[Control {
        name: "offsets",
        what: "a new time namespace as it is",
        breaks: &["time-2"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(time_demo)
}

fn time_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in user-demo
    let ours = namespace("self", "time").unwrap_or_default(); // a kernel without has no link

    // ANCHOR: unshare
    let newtime = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME); // nix has no name
    t.did("unshare(CLONE_NEWTIME)", unshare(newtime))?;
    let still_ours = namespace("self", "time")?;
    let childrens = namespace("self", "time_for_children")?;
    t.outside("readlink(\"/proc/self/ns/time\")", &still_ours);
    t.outside("readlink(\"/proc/self/ns/time_for_children\")", &childrens);
    let negative = set_offset(t, "boottime -864000000 0")?; // ERANGE: 27 years before boot
    if !t.without("offsets") {
        set_offset(t, "boottime 864000 0")?; // seconds, and nanoseconds
        set_offset(t, "monotonic 86400 0")?;
    }
    // Programs look at the clocks through memory that they share with the kernel, the vDSO. It is
    // changed for a process that is born in the namespace, so: fork, always.
    let before = clocks()?;
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(|outside| inside(outside, before)),
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    // ANCHOR_END: unshare
    let [its, boottime, uptime, monotonic, date] = from_inside.hear(t)?;
    let late = set_offset(t, "boottime 0 0")?; // EACCES: somebody has seen the clocks
    let since = days(clocks()?[0] - before[0]);
    t.outside("clock_gettime(CLOCK_BOOTTIME), since the fork", &since);

    t.claim("time-1", still_ours == ours && childrens != ours && its == childrens);
    t.claim("time-2", boottime == "10 days" && uptime == boottime && monotonic == "1 day");
    t.claim("time-3", date == "0 days");
    t.claim("time-4", negative == "-1 ERANGE");
    t.claim("time-5", late == "-1 EACCES");
    let shown = "monotonic 0 0\nboottime 864000 0";
    t.by_hand("unshare -rTf --boottime 864000 cat /proc/self/timens_offsets", shown);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside. It remembers what the clocks showed outside.
fn inside(outside: &mut Outside, before: [i64; 4]) -> Result<(), Refusal> {
    outside.tell("readlink(\"/proc/self/ns/time\")", namespace("self", "time")?);
    for ((clock, now), before) in CLOCKS.iter().zip(clocks()?).zip(before) {
        outside.tell(format!("{clock}, minus outside's"), days(now - before));
    }
    Ok(())
}

const CLOCKS: [&str; 4] = [
    "clock_gettime(CLOCK_BOOTTIME)",
    "/proc/uptime",
    "clock_gettime(CLOCK_MONOTONIC)",
    "clock_gettime(CLOCK_REALTIME)",
];

/// What these show, in seconds.
fn clocks() -> Result<[i64; 4], Refusal> {
    let clock = |id| clock_gettime(id).named("clock_gettime(2)");
    let uptime = read_to_string("/proc/uptime").named("open(\"/proc/uptime\")")?;
    let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse().ok());
    Ok([
        clock(ClockId::CLOCK_BOOTTIME)?.tv_sec(),
        uptime.unwrap_or_default(),
        clock(ClockId::CLOCK_MONOTONIC)?.tv_sec(),
        clock(ClockId::CLOCK_REALTIME)?.tv_sec(),
    ])
}
// ANCHOR_END: inside

/// To the nearest day: the seconds between two looks do not count.
fn days(seconds: i64) -> String {
    match (seconds + 43_200).div_euclid(86_400) {
        1 => "1 day".to_string(),
        days => format!("{days} days"),
    }
}

/// A line for the offsets of the namespace that our children will be in.
fn set_offset(t: &mut Transcript, line: &str) -> Result<String, Refusal> {
    let path = "/proc/self/timens_offsets";
    let file = File::options().write(true).open(path).named(format!("open({path:?})"))?;
    let written = value(write(&file, line.as_bytes()));
    t.outside(format!("write({path:?}, {line:?})"), &written);
    Ok(written)
}
