//! Which directory is somebody's `/`, and the way out of a chroot. The lesson that comes first
//! makes these calls itself: chroot-demo.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use crate::host::{Named as _, Refusal};

/// How a transcript shows [`escape`].
pub const ESCAPE: &str = "chroot(\"dev\"), fchdir(fd), chdir(\"..\")...";

/// The file system and the number in it: what a path leads to, whatever the path is.
pub fn identity(file: impl AsRef<Path>) -> Result<(u64, u64), Refusal> {
    let file = file.as_ref();
    let file_is = fs::metadata(file).named(format!("stat({file:?})"))?;
    Ok((file_is.dev(), file_is.ino()))
}

/// From a root directory that has a `dev` in it, and whose `..` outside is the one to get to.
pub fn escape() -> nix::Result<()> {
    let here = open(".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    chroot("dev")?;
    fchdir(here)?;
    chdir("..")?;
    chroot(".")
}
