//! A network of its own, and its lo is down.
//!
//! unshare(2) with CLONE_NEWNET; network_namespaces(7), netdevice(7), ip(7), sysfs(5).

use std::fs::read_to_string;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};
use nix::sys::socket::{bind, connect, listen, socket};
use nix::unistd::{ForkResult, fork};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("net-demo.rs"),
    claims: &[
        ("net-1", "A new network namespace has an interface lo, and it is down."),
        ("net-2", "A sysfs shows the network namespace that it was mounted in."),
        ("net-3", "127.0.0.1 cannot be reached until lo is up."),
        ("net-4", "A port that is open inside is closed outside."),
        ("net-5", "Both may bind port 80: each has its own ports, and its own root."),
    ],
    shell: true,
    controls: &[Control {
        name: "newnet",
        what: "outside plays the host; inside stays in its network namespace",
        breaks: &["net-1", "net-2", "net-3", "net-4", "net-5"],
    }],
};

const SET_UP: &str = "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)";
const MOUNT_SYSFS: &str = "mount(\"sysfs\", \"/sys\", \"sysfs\", 0, NULL)";
const CONNECT: &str = "connect(127.0.0.1:80)";
const BIND: &str = "bind(127.0.0.1:80)";

fn main() -> ExitCode {
    LESSON.run(net_demo)
}

fn net_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    // On your host something may listen on port 80. So outside plays a host, in a network of its
    // own where lo is up, and that its /sys shows.
    let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    t.did("unshare(CLONE_NEWNET|CLONE_NEWNS)", unshare(flags))?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)?; // as in mount-demo
    t.did(MOUNT_SYSFS, mount_sysfs())?;
    t.did(SET_UP, set_lo_up())?;

    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    if !t.without("newnet") {
        let [_unshare] = from_inside.hear(t)?;
    }
    let [old_sysfs, connected] = from_inside.hear(t)?;
    if !t.without("newnet") {
        let [_mount] = from_inside.hear(t)?;
    }
    let [new_sysfs, _up, bound, _listen] = from_inside.hear(t)?;
    let connected_outside = result(connect(stream()?.as_raw_fd(), &port_80()));
    t.outside(CONNECT, &connected_outside);
    let bound_outside = result(bind(stream()?.as_raw_fd(), &port_80()));
    t.outside(BIND, &bound_outside);
    from_inside.go_on();
    let [connected_up] = from_inside.hear(t)?;

    t.claim("net-1", new_sysfs == "0x8"); // IFF_LOOPBACK, and no IFF_UP
    t.claim("net-2", old_sysfs == "0x9" && new_sysfs != old_sysfs);
    t.claim("net-3", connected == "-1 ENETUNREACH" && connected_up == "0");
    t.claim("net-4", connected_up == "0" && connected_outside == "-1 ECONNREFUSED");
    t.claim("net-5", bound == "0" && bound_outside == "0");
    t.by_hand("unshare --map-root-user --net cat /sys/class/net/lo/flags", &old_sysfs);
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    let alone = !outside.without("newnet");
    if alone {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        outside.did("unshare(CLONE_NEWNET|CLONE_NEWNS)", unshare(flags))?;
    }
    // We have a copy of outside's sysfs, and that was mounted in outside's network namespace.
    outside.tell("cat /sys/class/net/lo/flags", sysfs_flags()?);
    // An interface that is down has no routes: nobody here knows the way to 127.0.0.1.
    outside.tell(CONNECT, result(connect(stream()?.as_raw_fd(), &port_80())));
    if alone {
        outside.did(MOUNT_SYSFS, mount_sysfs())?;
    }
    outside.tell("cat /sys/class/net/lo/flags", sysfs_flags()?);
    outside.did(SET_UP, set_lo_up())?;

    let server = stream()?;
    // Below 1024: EACCES without CAP_NET_BIND_SERVICE in the user namespace that owns this network.
    outside.did(BIND, bind(server.as_raw_fd(), &port_80()))?;
    outside.did("listen(2)", listen(&server, Backlog::MAXCONN))?;
    outside.wait(); // while outside tries, the server is there
    outside.tell(CONNECT, result(connect(stream()?.as_raw_fd(), &port_80())));
    Ok(())
}
// ANCHOR_END: inside

// ANCHOR: ioctl
/// ioctl(2) with a struct ifreq: netdevice(7). Any socket will do: it stands for the network namespace
/// that it was made in.
fn set_lo_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: a struct of numbers, for which zeros are values.
    let mut lo: libc::ifreq = unsafe { mem::zeroed() };
    lo.ifr_name[..2].copy_from_slice(&[b'l' as _, b'o' as _]);
    lo.ifr_ifru.ifru_flags = libc::IFF_UP as _;
    // SAFETY: the request reads one struct ifreq.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut lo) })?;
    Ok(())
}
// ANCHOR_END: ioctl

fn mount_sysfs() -> nix::Result<()> {
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
}

fn sysfs_flags() -> Result<String, Refusal> {
    let flags =
        read_to_string("/sys/class/net/lo/flags").named("open(\"/sys/class/net/lo/flags\")");
    Ok(flags?.trim_end().to_string())
}

fn stream() -> Result<OwnedFd, Refusal> {
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .named("socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0)")
}

fn port_80() -> SockaddrIn {
    SockaddrIn::new(127, 0, 0, 1, 80)
}
