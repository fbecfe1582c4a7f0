//! Mounts that stay inside. The lessons that come first make these calls themselves: visible-demo,
//! mount-demo.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::host::Refusal;
use crate::transcript::Transcript;

const NULL: Option<&str> = None; // where mount(2) takes a string

/// How a transcript shows [`make_private`].
pub const MAKE_PRIVATE: &str = "mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL)";
/// How a transcript shows [`mount_proc`].
pub const MOUNT_PROC: &str = "mount(\"proc\", \"/proc\", \"proc\", 0, NULL)";
const MAKE_SHARED: &str = "mount(NULL, \"/\", NULL, MS_REC|MS_SHARED, NULL)";

/// Cuts every mount of our mount namespace off from its peers, so that nothing that is mounted
/// here appears elsewhere: mount_namespaces(7). EINVAL in a chroot, where `/` is no mount.
pub fn make_private() -> nix::Result<()> {
    mount(NULL, "/", NULL, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NULL)
}

/// A proc of our own PID namespace, over the old one: pid_namespaces(7). EPERM where parts of the
/// old one are covered.
pub fn mount_proc() -> nix::Result<()> {
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NULL)
}

/// For a control experiment: outside becomes the host of it. In a mount namespace of its own, first
/// cut off from the real host, it makes `/` shared, as systemd does.
pub fn play_a_shared_host(t: &mut Transcript) -> Result<(), Refusal> {
    t.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    t.did(MAKE_PRIVATE, make_private())?;
    let shared = mount(NULL, "/", NULL, MsFlags::MS_REC | MsFlags::MS_SHARED, NULL);
    t.did(MAKE_SHARED, shared)
}
