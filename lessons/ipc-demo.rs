//! An IPC namespace covers two kinds of objects.
//!
//! unshare(2) with CLONE_NEWIPC; ipc_namespaces(7), sysvipc(7), mq_overview(7).
//! Not covered: shm_overview(7); unix(7), "Abstract sockets".

use std::fmt::Display;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, IPC_CREAT, IPC_EXCL, c_int};
use nix::mount::{MsFlags, mount};
use nix::mqueue::{MQ_OFlag, MqAttr, mq_open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use nix::sys::{mman::shm_open, stat::Mode};
use nix::unistd::{ForkResult, fork};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("ipc-demo.rs"),
    claims: &[
        ("ipc-1", "A new IPC namespace is empty: System V keys and ids start anew."),
        ("ipc-2", "The POSIX message queues of the old one are not in it either."),
        ("ipc-3", "POSIX shared memory is a file: it follows the mount namespace."),
        ("ipc-4", "An abstract socket belongs to the network namespace."),
    ],
    shell: true,
    controls: &[Control {
        name: "newipc",
        what: "outside plays the host; inside stays in its IPC namespace",
        breaks: &["ipc-1", "ipc-2"],
    }],
};

const MAKE_QUEUE: &str = "msgget(42, IPC_CREAT|IPC_EXCL|0600)";
const MOUNT_SHM: &str = "mount(\"tmpfs\", \"/dev/shm\", \"tmpfs\", 0, NULL)";
const MODE: Mode = Mode::from_bits_retain(0o600);

fn main() -> ExitCode {
    LESSON.run(ipc_demo)
}

fn ipc_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    // A System V queue outlives its maker, and a file in /dev/shm does. So outside plays the host,
    // in namespaces of its own: what it makes ends with them. Your host's are out of reach.
    let flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    t.did("unshare(CLONE_NEWIPC|CLONE_NEWNS|CLONE_NEWNET)", unshare(flags))?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)?; // as in mount-demo
    t.did(MOUNT_SHM, mount_shm())?;
    let _socket = make_one_of_each(t)?;

    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    if !t.without("newipc") {
        let [_unshare] = from_inside.hear(t)?;
    }
    let [made, queue, memory, connected] = from_inside.hear(t)?;
    let [_unshare, _mount, memory_after, connected_after] = from_inside.hear(t)?;
    let made_again = shown(make_queue());
    t.outside(MAKE_QUEUE, &made_again);

    t.claim("ipc-1", made == "0" && made_again == "-1 EEXIST");
    t.claim("ipc-2", queue == "-1 ENOENT");
    t.claim("ipc-3", memory == "a descriptor" && memory_after == "-1 ENOENT");
    t.claim("ipc-4", connected == "0" && connected_after == "-1 ECONNREFUSED");
    t.by_hand("unshare --map-root-user --ipc ipcmk --queue", format!("Message queue id: {made}"));
    from_inside.leave(t)
}

// ANCHOR: outside
/// A System V queue, a POSIX queue, POSIX shared memory, an abstract socket.
fn make_one_of_each(t: &mut Transcript) -> Result<OwnedFd, Refusal> {
    t.outside(MAKE_QUEUE, make_queue().named(MAKE_QUEUE)?);

    let call = "mq_open(\"/queue\", O_CREAT|O_RDWR)";
    let small = MqAttr::new(0, 1, 16, 0); // 1 message of 16 bytes: a user has RLIMIT_MSGQUEUE
    mq_open("/queue", MQ_OFlag::O_CREAT | MQ_OFlag::O_RDWR, MODE, Some(&small)).named(call)?;
    t.outside(call, "a descriptor");

    let call = "shm_open(\"/memory\", O_CREAT|O_RDWR)";
    shm_open("/memory", OFlag::O_CREAT | OFlag::O_RDWR, MODE).named(call)?;
    t.outside(call, "a descriptor");

    let (socket, name) = abstract_socket()?;
    t.did("bind(@\"socket\")", bind(socket.as_raw_fd(), &name))?;
    Ok(socket) // its name lasts while it is open
}
// ANCHOR_END: outside

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    if !outside.without("newipc") {
        outside.did("unshare(CLONE_NEWIPC)", unshare(CloneFlags::CLONE_NEWIPC))?;
    }
    outside.tell(MAKE_QUEUE, shown(make_queue()));
    let queue = mq_open("/queue", MQ_OFlag::O_RDONLY, MODE, None);
    outside.tell("mq_open(\"/queue\", O_RDONLY)", shown(queue.map(|_| "a descriptor")));
    look_elsewhere(outside)?;

    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    outside.did("unshare(CLONE_NEWNS|CLONE_NEWNET)", unshare(flags))?;
    outside.did(MOUNT_SHM, mount_shm())?;
    look_elsewhere(outside)
}

/// At the two that are not in the IPC namespace.
fn look_elsewhere(outside: &mut Outside) -> Result<(), Refusal> {
    let memory = shm_open("/memory", OFlag::O_RDONLY, MODE);
    outside.tell("shm_open(\"/memory\", O_RDONLY)", shown(memory.map(|_| "a descriptor")));
    let (socket, name) = abstract_socket()?;
    outside.tell("connect(@\"socket\")", result(connect(socket.as_raw_fd(), &name)));
    Ok(())
}
// ANCHOR_END: inside

/// The key is any number that two programs agree on. IPC_EXCL: EEXIST if it is taken.
fn make_queue() -> nix::Result<c_int> {
    // SAFETY: takes two integers.
    Errno::result(unsafe { libc::msgget(42, IPC_CREAT | IPC_EXCL | 0o600) })
}

fn mount_shm() -> nix::Result<()> {
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), None::<&str>)
}

/// A socket, and a name that begins with a zero byte, shown as `@`: it is no file's.
fn abstract_socket() -> Result<(OwnedFd, UnixAddr), Refusal> {
    let call = "socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC, 0)";
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    Ok((socket.named(call)?, UnixAddr::new_abstract(b"socket").named(call)?))
}

fn shown(value: nix::Result<impl Display>) -> String {
    value.map_or_else(|errno| result(Err(errno)), |value| value.to_string())
}
