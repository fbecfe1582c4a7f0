//! A hostname of its own; the host keeps its name.
//!
//! unshare(2) with CLONE_NEWUTS, sethostname(2); uts_namespaces(7).

use std::process::ExitCode;

use nix::fcntl::readlink;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork, gethostname, sethostname};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("uts-demo.rs"),
    claims: &[
        ("A14", "unshare(2) moves its caller into a new UTS namespace."),
        ("uts-1", "A new UTS namespace starts with a copy of the old one's hostname."),
        ("A12", "A hostname set inside does not reach the host."),
    ],
    shell: true,
    controls: &[Control {
        name: "unshare",
        what: "outside plays the host; inside stays in its UTS namespace",
        breaks: &["A14", "A12"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(uts_demo)
}

fn uts_demo(t: &mut Transcript) -> Result<(), Refusal> {
    // An ordinary user first makes a user namespace, unshare(CLONE_NEWUSER): whoever makes
    // another namespace needs CAP_SYS_ADMIN in the user namespace that will own it.
    user::namespace_unless_root(t)?;
    let host_name = hostname()?;
    if t.without("unshare") {
        // Without its own namespace the process inside would rename the real host.
        t.did("unshare(CLONE_NEWUTS)", unshare(CloneFlags::CLONE_NEWUTS))?;
    }
    let host_uts = uts()?;
    t.outside("gethostname()", &host_name);
    t.outside("readlink(\"/proc/self/ns/uts\")", &host_uts);

    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    let [uts_before] = from_inside.hear(t)?;
    if !t.without("unshare") {
        let [_unshare] = from_inside.hear(t)?;
    }
    let [uts_after, name_before, _sethostname, name_after] = from_inside.hear(t)?;

    let host_name_now = hostname()?;
    t.outside("gethostname()", &host_name_now);
    t.outside("readlink(\"/proc/self/ns/uts\")", uts()?);

    t.claim("A14", uts_before == host_uts && uts_after != host_uts && uts()? == host_uts);
    t.claim("uts-1", name_before == host_name);
    t.claim("A12", name_after == "container" && host_name_now == host_name);
    t.by_hand("unshare --map-root-user --uts sh -c 'hostname container; hostname'", &name_after);
    t.by_hand("hostname", &host_name);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.tell("readlink(\"/proc/self/ns/uts\")", uts()?);
    if !outside.without("unshare") {
        outside.did("unshare(CLONE_NEWUTS)", unshare(CloneFlags::CLONE_NEWUTS))?;
    }
    outside.tell("readlink(\"/proc/self/ns/uts\")", uts()?);
    outside.tell("gethostname()", hostname()?);
    outside.did("sethostname(\"container\")", sethostname("container"))?;
    outside.tell("gethostname()", hostname()?);
    Ok(())
}
// ANCHOR_END: inside

/// The namespace that the caller is in: its kind and inode, namespaces(7).
fn uts() -> Result<String, Refusal> {
    let link = readlink("/proc/self/ns/uts").named("readlink(\"/proc/self/ns/uts\")")?;
    Ok(link.display().to_string())
}

fn hostname() -> Result<String, Refusal> {
    let name = gethostname().named("gethostname()")?;
    Ok(name.to_string_lossy().into_owned())
}
