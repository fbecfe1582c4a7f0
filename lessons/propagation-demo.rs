//! The type says who sees a mount.
//!
//! mount(2) with MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE;
//! mount_namespaces(7), "Shared subtrees"; proc_pid_mountinfo(5).

use std::fs::{create_dir, read_to_string};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::mounts;
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("propagation-demo.rs"),
    claims: &[
        ("prop-1", "Shared: a mount on either side appears on the other."),
        ("prop-2", "Slave: mounts of the master arrive, its own do not leave."),
        ("prop-3", "Private: nothing arrives, nothing leaves."),
        ("prop-4", "Unbindable: as private, and to bind it elsewhere is EINVAL."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "shared",
            what: "outside leaves its mounts private: nothing travels",
            breaks: &["prop-1", "prop-2"],
        },
        Control {
            name: "same-owner",
            what: "inside has a user namespace of its own: shared becomes slave",
            breaks: &["prop-1"],
        },
    ],
};

const TYPES: [&str; 4] = ["shared", "slave", "private", "unbindable"];
const NULL: Option<&str> = None; // where mount(2) takes a string

fn main() -> ExitCode {
    LESSON.run(propagation_demo)
}

fn propagation_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    prepare(t)?;
    let (mut from_inside, mut to_outside) = child::ends(t)?;
    // SAFETY: this program has one thread, so the child may do whatever we may.
    match unsafe { fork() }.named("fork()")? {
        ForkResult::Child => to_outside.live(inside), // from here on there are two processes
        ForkResult::Parent { child } => from_inside.start(child, to_outside),
    }
    if t.without("same-owner") {
        let [_unshare_user] = from_inside.hear(t)?;
    }
    let [_unshare, _slave, _private, _unbindable] = from_inside.hear(t)?;
    mount_on_each("/down")?;
    from_inside.go_on();

    let mut rows = TYPES.map(|_| (String::new(), String::new()));
    for (kind, row) in TYPES.into_iter().zip(&mut rows) {
        let [inside] = from_inside.hear(t)?;
        *row = (inside, look(kind)?);
        t.outside(format!("/proc/self/mountinfo: /mnt/{kind}"), &row.1);
    }
    let [_bind_private, bind] = from_inside.hear(t)?;
    let [shared, slave, private, unbindable] = rows;
    t.claim("prop-1", shared.0 == shared.1 && shared.0.starts_with("down up  shared:"));
    t.claim("prop-2", slave.0.starts_with("down up  master:") && slave.1.starts_with("down  "));
    t.claim("prop-3", private.0 == "up       -" && private.1.starts_with("down  "));
    let as_private = unbindable.0 == "up       unbindable" && unbindable.1.starts_with("down  ");
    t.claim("prop-4", as_private && bind == "-1 EINVAL");
    t.by_hand("unshare --map-root-user --mount findmnt -n -o PROPAGATION /", "private");
    from_inside.leave(t)
}

// ANCHOR: outside
/// Four mounts on a tmpfs of our own: a mount is not on the host if its mount namespace is not.
fn prepare(t: &mut Transcript) -> Result<(), Refusal> {
    t.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    t.did(mounts::MAKE_PRIVATE, mounts::make_private())?; // as in mount-demo
    let mounted = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL);
    t.did("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)", mounted)?;
    if !t.without("shared") {
        // What is mounted on a shared mount is born shared; on any other, private.
        let shared = mount(NULL, "/mnt", NULL, MsFlags::MS_SHARED, NULL);
        t.did("mount(NULL, \"/mnt\", NULL, MS_SHARED, NULL)", shared)?;
    }
    create_dir("/mnt/bind").named("mkdir(\"/mnt/bind\")")?;
    mount_on_each("")
}
// ANCHOR_END: outside

// ANCHOR: inside
/// The whole life of the process inside. It has copies of the four mounts, and gives each a type.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    if outside.without("same-owner") {
        user::enter_namespace()?;
        outside.tell("unshare(CLONE_NEWUSER)", 0);
    }
    outside.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    // A copy of a shared mount is its peer, and stays one unless it is told otherwise.
    let slave = mount(NULL, "/mnt/slave", NULL, MsFlags::MS_SLAVE, NULL);
    outside.did("mount(NULL, \"/mnt/slave\", NULL, MS_SLAVE, NULL)", slave)?;
    let private = mount(NULL, "/mnt/private", NULL, MsFlags::MS_PRIVATE, NULL);
    outside.did("mount(NULL, \"/mnt/private\", NULL, MS_PRIVATE, NULL)", private)?;
    let unbindable = mount(NULL, "/mnt/unbindable", NULL, MsFlags::MS_UNBINDABLE, NULL);
    outside.did("mount(NULL, \"/mnt/unbindable\", NULL, MS_UNBINDABLE, NULL)", unbindable)?;
    outside.wait(); // meanwhile outside mounts on each of its own, at down
    mount_on_each("/up")?;
    for kind in TYPES {
        outside.tell(format!("/proc/self/mountinfo: /mnt/{kind}"), look(kind)?);
    }
    let private = mount(Some("/mnt/private"), "/mnt/bind", NULL, MsFlags::MS_BIND, NULL);
    outside.did("mount(\"/mnt/private\", \"/mnt/bind\", NULL, MS_BIND, NULL)", private)?;
    let bind = result(mount(Some("/mnt/unbindable"), "/mnt/bind", NULL, MsFlags::MS_BIND, NULL));
    outside.tell("mount(\"/mnt/unbindable\", \"/mnt/bind\", NULL, MS_BIND, NULL)", bind);
    Ok(())
}
// ANCHOR_END: inside

/// A new directory for each type, and a tmpfs on it.
fn mount_on_each(below: &str) -> Result<(), Refusal> {
    TYPES.into_iter().try_for_each(|kind| {
        let place = &*format!("/mnt/{kind}{below}");
        create_dir(place).named(format!("mkdir({place:?})"))?;
        let mounted = mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), NULL);
        mounted.named(format!("mount(\"tmpfs\", {place:?}, \"tmpfs\", 0, NULL)"))
    })
}

/// What is mounted below, and the optional fields of its own line: from field 7 to a hyphen.
fn look(kind: &str) -> Result<String, Refusal> {
    let table = read_to_string("/proc/self/mountinfo").named("open(\"/proc/self/mountinfo\")")?;
    let (mut ways, mut fields) = (Vec::new(), "");
    for line in table.lines().map(|line| line.splitn(7, ' ').collect::<Vec<_>>()) {
        match line[4].strip_prefix(&*format!("/mnt/{kind}")) {
            Some("") => fields = line[6],
            below => ways.extend(below.map(|way| way.trim_start_matches('/'))),
        }
    }
    let fields = fields.split_once(" - ").map_or("-", |(fields, _)| fields);
    Ok(format!("{:<7}  {fields}", ways.join(" ")))
}
