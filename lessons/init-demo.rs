//! A PID namespace stands and falls with PID 1.
//!
//! kill(2), sigaction(2); pid_namespaces(7), "The namespace init process".

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("init-demo.rs"),
    claims: &[
        ("init-1", "From inside, PID 1 gets no signal that it has no handler for."),
        ("init-2", "From outside, it gets no SIGTERM without a handler either."),
        ("init-3", "With a handler it gets SIGTERM, from inside and from outside."),
        ("init-4", "SIGKILL from outside ends it, and with it every process inside."),
        ("init-5", "After that the namespace takes no new process: ENOMEM."),
    ],
    shell: false,
    controls: &[Control {
        name: "handler",
        what: "PID 1 has no handler for SIGTERM",
        breaks: &["init-3"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(init_demo)
}

fn init_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    t.did("unshare(CLONE_NEWPID)", unshare(CloneFlags::CLONE_NEWPID))?;
    let (first, mut from_init) = child::forked("init", t, init)?;
    t.outside("fork()", first);
    let (second, mut from_other) = child::forked("other", t, other)?;
    t.outside("fork()", second);

    let [pid_of_other, term_inside, kill_inside] = from_other.hear(t)?;
    t.did(&format!("kill({first}, SIGTERM)"), kill(first, Signal::SIGTERM))?;
    from_init.go_on();
    let [pid_of_init] = from_init.hear(t)?;
    if !t.without("handler") {
        let [_sigaction] = from_init.hear(t)?;
    }
    from_other.go_on();
    let [_kill] = from_other.hear(t)?;
    from_init.go_on();
    let [count_inside] = from_init.hear(t)?;
    t.did(&format!("kill({first}, SIGTERM)"), kill(first, Signal::SIGTERM))?;
    from_init.go_on();
    let [count_both] = from_init.hear(t)?;

    t.did(&format!("kill({first}, SIGKILL)"), kill(first, Signal::SIGKILL))?;
    // In this order: PID 1 has ended only when everybody else there has, and been waited for.
    let end_of_other = end(t, second)?;
    let end_of_init = end(t, first)?;
    let refused = fork_once(t)?;

    let sent = pid_of_other == "2" && term_inside == "0" && kill_inside == "0";
    t.claim("init-1", sent && pid_of_init == "1");
    t.claim("init-2", pid_of_init == "1");
    t.claim("init-3", count_inside == "1" && count_both == "2");
    t.claim("init-4", end_of_init == "SIGKILL" && end_of_other == "SIGKILL");
    t.claim("init-5", refused == "-1 ENOMEM");
    t.by_hand("unshare --map-root-user --pid --fork sh -c 'kill -9 $$; echo alive'", "alive");
    Ok(())
}

// ANCHOR: other
/// The whole life of PID 2, who wants to be rid of PID 1.
fn other(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("getpid()", getpid());
    if getpid().as_raw() != 2 {
        return Ok(()); // on the host, PID 1 is somebody else
    }
    let init = Pid::from_raw(1);
    outside.did("kill(1, SIGTERM)", kill(init, Signal::SIGTERM))?;
    outside.did("kill(1, SIGKILL)", kill(init, Signal::SIGKILL))?;
    outside.wait();
    outside.did("kill(1, SIGTERM)", kill(init, Signal::SIGTERM))
}
// ANCHOR_END: other

static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// ANCHOR: init
/// The whole life of PID 1. At each of its turns a signal has been sent.
fn init(outside: &mut Outside) -> Result<(), Refusal> {
    outside.wait();
    outside.tell("getpid()", getpid());
    if !outside.without("handler") {
        let handler = SigHandler::Handler(count);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing but count.
        let set = unsafe { sigaction(Signal::SIGTERM, &action) }.map(drop);
        outside.did("sigaction(SIGTERM, {sa_handler=count, ...})", set)?;
    }
    for _ in 0..2 {
        outside.wait();
        outside.tell("count(): times it has run", COUNT.load(Ordering::Relaxed));
    }
    Ok(())
}
// ANCHOR_END: init

/// How this child of ours has ended: by which signal.
fn end(t: &mut Transcript, pid: Pid) -> Result<String, Refusal> {
    let status = waitpid(pid, None).named("waitpid(2)")?;
    let end = match status {
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        other => format!("{other:?}"),
    };
    t.outside(format!("waitpid({pid}): ended by"), &end);
    Ok(end)
}

/// We are still the one whose children are born in that namespace.
fn fork_once(t: &mut Transcript) -> Result<String, Refusal> {
    // SAFETY: this program has one thread; the child ends at once.
    let forked = match unsafe { fork() } {
        // SAFETY: ends the process.
        Ok(ForkResult::Child) => unsafe { libc::_exit(0) },
        Ok(ForkResult::Parent { child }) => {
            waitpid(child, None).named("waitpid(2)")?;
            child.to_string()
        }
        Err(errno) => format!("-1 {errno:?}"),
    };
    t.outside("fork()", &forked);
    Ok(forked)
}
