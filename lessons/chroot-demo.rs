//! Another /, and root gets out of it.
//!
//! chroot(2), fchdir(2); path_resolution(7).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::Transcript;
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("chroot-demo.rs"),
    claims: &[
        ("chr-1", "chroot(2) gives a process another /, and .. in that is / again."),
        ("chr-2", "Its working directory stays where it was, be that above the new /."),
        ("chr-3", "Root gets out with a directory that it has kept open."),
    ],
    shell: false,
    controls: &[Control {
        name: "fchdir",
        what: "the directory stays open, and nobody goes back to it",
        breaks: &["chr-3"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(chroot_demo)
}

fn chroot_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let (_, mut from_inside) = child::forked("inside", t, inside)?;
    let [_chroot, jailed] = from_inside.hear(t)?;
    let [_chroot, stayed, _chdir, in_sys] = from_inside.hear(t)?;
    let [_fchdir, above, _chroot, out] = from_inside.hear(t)?;

    t.claim("chr-1", jailed == "new root, new root" && in_sys == "sys, sys");
    t.claim("chr-2", stayed == "sys, new root");
    t.claim("chr-3", above == "sys, old root" && out == "old root");
    let by_hand = "unshare --map-root-user --root=/usr test / -ef /.. && echo the same";
    t.by_hand(by_hand, "the same");
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside. Every lesson finds a /proc, with a directory sys in it.
/// Others would do.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    let known = [("old root", id("/")?), ("new root", id("/proc")?), ("sys", id("/proc/sys")?)];
    let which = |file| {
        let file = id(file)?;
        let name = known.iter().find(|(_, id)| *id == file).map(|(name, _)| *name);
        Ok::<_, Refusal>(name.unwrap_or("another directory"))
    };

    outside.did("chroot(\"/proc\"), chdir(\"/\")", chroot("/proc").and_then(|()| chdir("/")))?;
    outside.tell("stat(\"/\"), stat(\"..\")", format!("{}, {}", which("/")?, which("..")?));

    // Once more: / moves further down, and what is open stays where it is.
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let here = open(".", flags, Mode::empty()).named("open(\".\", O_DIRECTORY|O_CLOEXEC)")?;
    outside.did("fd = open(\".\"), chroot(\"sys\")", chroot("sys"))?;
    outside.tell("stat(\"/\"), stat(\".\")", format!("{}, {}", which("/")?, which(".")?));
    outside.did("chdir(\"/\")", chdir("/"))?;
    outside.tell("stat(\"/\"), stat(\"..\")", format!("{}, {}", which("/")?, which("..")?));

    // Whoever stands above / does not meet it on the way up.
    if outside.without("fchdir") {
        outside.did("chdir(\"..\")", chdir(".."))?;
    } else {
        outside.did("fchdir(fd), chdir(\"..\")", fchdir(here).and_then(|()| chdir("..")))?;
    }
    outside.tell("stat(\"/\"), stat(\".\")", format!("{}, {}", which("/")?, which(".")?));
    outside.did("chroot(\".\")", chroot("."))?;
    outside.tell("stat(\"/\")", which("/")?);
    Ok(())
}
// ANCHOR_END: inside

/// The file system and the number in it: what a path leads to, whatever the path is.
fn id(file: &str) -> Result<(u64, u64), Refusal> {
    let file = fs::metadata(file).named(format!("stat({file:?})"))?;
    Ok((file.dev(), file.ino()))
}
