//! What a container shall be: the config.json of a bundle, as the OCI runtime specification has it
//! (github.com/opencontainers/runtime-spec, config.md and config-linux.md). Text becomes the
//! numbers and flags that system calls take: container-demo makes them.
//!
//! A container that is other than its config.json says is none. So first of all every member is
//! looked up in one table, in members.rs: one that is not supported is named, and there is no
//! container. From then on every member that is there is of the right kind.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use nix::libc::{self, c_int, sock_filter};
use nix::mount::MsFlags;
use nix::sys::resource::Resource;
use serde_json::Value;
use workbook::host::{Named as _, Refusal};

use crate::members;
use crate::privileges::{self, Capabilities, capability};
use crate::words::{NAMESPACES, OPTIONS, PROPAGATION, RLIMITS, one_of};

/// What is wrong with a bundle: where, and what. Displayed in one line.
#[derive(Debug)]
pub struct Fault {
    /// The file; or the member of config.json, as in `process.args[0]`.
    place: String,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::seen("config.json", &fault.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

pub(crate) fn fault<T>(place: impl fmt::Display, what: impl fmt::Display) -> Result<T> {
    Err(Fault { place: place.to_string(), what: what.to_string() })
}

/// A container before it is one.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// The folder that becomes `/`.
    pub root: PathBuf,
    /// Is it mounted read-only?
    pub read_only: bool,
    /// The command and its words.
    pub args: Vec<CString>,
    /// Its environment: `NAME=value`.
    pub env: Vec<CString>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Does it have a terminal?
    pub terminal: bool,
    /// Who it is, in the container's user namespace.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// For umask(2).
    pub umask: u32,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// What setrlimit(2) takes: the resource, the soft and the hard limit.
    pub rlimits: Vec<(Resource, u64, u64)>,
    /// PR_SET_NO_NEW_PRIVS
    pub no_new_privileges: bool,
    /// The filter of system calls, for seccomp(2); empty for none.
    pub filter: Vec<sock_filter>,
    /// For sethostname(2).
    pub hostname: Option<String>,
    /// The namespaces that shall be new, for clone(2).
    pub namespaces: c_int,
    /// What is written to the maps of its user namespace.
    pub uid_map: String,
    /// The same for groups.
    pub gid_map: String,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// What nobody shall read.
    pub masked_paths: Vec<String>,
    /// What nobody shall write.
    pub read_only_paths: Vec<String>,
    /// Files of its cgroup, and what is written to them.
    pub limits: Vec<(&'static str, String)>,
    /// Is the command PID 1 itself, without an init of ours? No config.json says so.
    pub system: bool,
    /// What config.json asks for and this container will not have, and why that is no fault.
    pub notes: Vec<String>,
}

/// One call of mount(2), or two.
#[derive(Clone, Debug)]
pub struct Mount {
    /// What. For a bind mount a file or folder of the host, without a symbolic link in its path.
    pub source: String,
    /// Where, in the container.
    pub destination: String,
    /// Of which kind.
    pub kind: String,
    /// The flags of mount(2).
    pub flags: MsFlags,
    /// How it propagates, for a call of its own; empty for private.
    pub propagation: MsFlags,
    /// What the file system itself understands, such as `mode=755`.
    pub data: String,
    /// Is it a file that is mounted on a file?
    pub is_file: bool,
}

// What a config.json says. A pointer is that of RFC 6901.

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer).iter().map(|one| text(one, "").to_string()).collect()
}

fn strings(value: &Value, pointer: &str) -> Vec<CString> {
    let string = |text| CString::new(text).unwrap_or_default(); // there is no zero byte
    texts(value, pointer).into_iter().map(string).collect()
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn id(value: &Value, pointer: &str) -> Option<u32> {
    number(value, pointer).and_then(|id| id.try_into().ok())
}

fn is(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// A config.json that is larger is none.
const LARGEST: u64 = 1 << 20;

impl Container {
    /// Reads a bundle: a folder with a config.json.
    pub fn read(bundle: &Path) -> Result<Self> {
        let file = bundle.join("config.json");
        let mut text = String::new();
        let read =
            File::open(&file).and_then(|open| open.take(LARGEST + 1).read_to_string(&mut text));
        match read {
            Err(error) => fault(file.display(), error),
            Ok(size) if size as u64 > LARGEST => fault(file.display(), "larger than 1 MiB"),
            Ok(_) => container(&text, |config| root(config, bundle)).or_else(|in_it| {
                let place = if in_it.place.is_empty() { String::new() } else { in_it.place + ": " };
                fault(file.display(), place + &in_it.what)
            }),
        }
    }

    /// A container around this folder, as config.json beside this file has it: much like the one
    /// that `runc spec` writes.
    pub fn around(root: &Path) -> Result<Self> {
        let Some(root) = root.canonicalize().ok().filter(|root| root.is_dir()) else {
            return fault(root.display(), "is no folder");
        };
        let container = container(include_str!("config.json"), |_| Ok(root))?;
        Ok(Self { notes: Vec::new(), ..container })
    }

    /// Shall it have a new namespace of this kind?
    pub fn has_new(&self, namespace: c_int) -> bool {
        self.namespaces & namespace != 0
    }
}

fn container(json: &str, root: impl FnOnce(&Value) -> Result<PathBuf>) -> Result<Container> {
    let config: Value =
        serde_json::from_str(json).or_else(|error| fault("", format!("not JSON: {error}")))?;
    let config = &config;
    let mut notes = Vec::new();
    members::check(config, &mut notes)?;
    let flags = list(config, "/linux/namespaces").iter();
    let flags = flags.filter_map(|one| one_of(NAMESPACES, text(one, "/type")));
    let mut container = Container {
        root: root(config)?,
        read_only: is(config, "/root/readonly"),
        args: strings(config, "/process/args"),
        env: strings(config, "/process/env"),
        cwd: text(config, "/process/cwd").into(),
        terminal: is(config, "/process/terminal"),
        uid: id(config, "/process/user/uid").unwrap_or_default(),
        gid: id(config, "/process/user/gid").unwrap_or_default(),
        groups: list(config, "/process/user/additionalGids")
            .iter()
            .filter_map(|gid| id(gid, ""))
            .collect(),
        umask: id(config, "/process/user/umask").unwrap_or(0o022),
        capabilities: capabilities(config, &mut notes),
        rlimits: rlimits(config),
        no_new_privileges: is(config, "/process/noNewPrivileges"),
        filter: match config.pointer("/linux/seccomp") {
            None | Some(Value::Null) => Vec::new(),
            Some(_) => privileges::filter(),
        },
        hostname: config.get("hostname").and_then(Value::as_str).map(str::to_string),
        namespaces: flags.fold(0, |all, flag| all | flag),
        uid_map: map(config, "/linux/uidMappings"),
        gid_map: map(config, "/linux/gidMappings"),
        mounts: mounts(config)?,
        masked_paths: texts(config, "/linux/maskedPaths"),
        read_only_paths: texts(config, "/linux/readonlyPaths"),
        limits: limits(config),
        system: false,
        notes,
    };
    fits_together(&container)?;
    if !container.has_new(libc::CLONE_NEWCGROUP) {
        for mount in container.mounts.extract_if(.., |mount| mount.kind == "cgroup2") {
            let why = "is left out: it would show the host's, for linux.namespaces has no cgroup";
            container.notes.push(format!("mounts: {} {why}", mount.destination));
        }
    }
    container.mounts.extend(DEVICES.map(device));
    Ok(container)
}

/// What no look at a single member tells.
fn fits_together(container: &Container) -> Result<()> {
    let is_mapped = !container.uid_map.is_empty() || !container.gid_map.is_empty();
    let namespaces = "linux.namespaces";
    for (is_wrong, place, what) in [
        (container.args.is_empty(), "process.args", "names no command"),
        (!container.has_new(libc::CLONE_NEWNS), namespaces, "has no mount: / would be the host's"),
        (!container.has_new(libc::CLONE_NEWPID), namespaces, "has no pid: it would outlive us"),
        (
            is_mapped != container.has_new(libc::CLONE_NEWUSER),
            "linux.uidMappings",
            "a user namespace and both maps go together",
        ),
        (
            container.hostname.is_some() && !container.has_new(libc::CLONE_NEWUTS),
            "hostname",
            "would be the host's: linux.namespaces has no uts",
        ),
    ] {
        if is_wrong {
            return fault(place, what);
        }
    }
    Ok(())
}

fn root(config: &Value, bundle: &Path) -> Result<PathBuf> {
    let (place, path) = ("root.path", Path::new(text(config, "/root/path")));
    if path.components().any(|part| part == Component::ParentDir) {
        return fault(place, "leads out of the bundle");
    }
    let root = bundle.canonicalize().or_else(|error| fault(bundle.display(), error))?.join(path);
    match root.canonicalize() {
        Err(error) => fault(place, error),
        // Who can change a link could let it name another folder after we have looked.
        Ok(real) if real != root.components().collect::<PathBuf>() => {
            fault(place, "a symbolic link is in it")
        }
        Ok(real) if !real.is_dir() => fault(place, "is no folder"),
        Ok(_) => Ok(root),
    }
}

fn capabilities(config: &Value, notes: &mut Vec<String>) -> Capabilities {
    let set = |name: &str| {
        let names = texts(config, &format!("/process/capabilities/{name}"));
        names.iter().filter_map(|name| capability(name)).fold(0, |set, bit| set | bit)
    };
    let [bounding, effective, permitted, inheritable, ambient] =
        ["bounding", "effective", "permitted", "inheritable", "ambient"].map(set);
    let possible = ambient & permitted & inheritable;
    if ambient != possible {
        let why = "less those that are not inheritable, which cannot be ambient";
        notes.push(format!("process.capabilities.ambient: {why}"));
    }
    Capabilities { bounding, effective, permitted, inheritable, ambient: possible }
}

fn rlimits(config: &Value) -> Vec<(Resource, u64, u64)> {
    let limit = |limit| {
        let resource = one_of(RLIMITS, text(limit, "/type"))?;
        Some((*resource, number(limit, "/soft")?, number(limit, "/hard")?))
    };
    list(config, "/process/rlimits").iter().filter_map(limit).collect()
}

/// The lines of a map: user_namespaces(7).
fn map(config: &Value, pointer: &str) -> String {
    let line = |ids: &Value| {
        let numbers = ["/containerID", "/hostID", "/size"].map(|name| id(ids, name));
        numbers.map(|number| number.unwrap_or_default().to_string()).join(" ") + "\n"
    };
    list(config, pointer).iter().map(line).collect()
}

/// Files of a cgroup as v2 names them, as in limits-demo. What is not limited is not written.
fn limits(config: &Value) -> Vec<(&'static str, String)> {
    let of = [
        ("pids.max", "/linux/resources/pids/limit"),
        ("memory.max", "/linux/resources/memory/limit"),
        ("cpu.max", "/linux/resources/cpu/quota"),
    ];
    let limits = of.iter().filter_map(|(file, at)| Some((*file, number(config, at)?)));
    limits.filter(|(_, limit)| *limit > 0).map(|(file, limit)| (file, limit.to_string())).collect()
}

fn mounts(config: &Value) -> Result<Vec<Mount>> {
    let mounts = list(config, "/mounts").iter().enumerate();
    mounts.map(|(nth, mount)| mount_of(mount, &format!("mounts[{nth}]"))).collect()
}

fn mount_of(mount: &Value, place: &str) -> Result<Mount> {
    let (mut flags, mut propagation) = (MsFlags::empty(), MsFlags::empty());
    let mut data = Vec::new();
    for option in texts(mount, "/options") {
        if let Some((is_set, flag)) = one_of(OPTIONS, &option) {
            flags.set(*flag, *is_set);
        } else if let Some(how) = one_of(PROPAGATION, &option) {
            propagation = *how;
        } else {
            data.push(option);
        }
    }
    let kind = match text(mount, "/type") {
        "cgroup" => "cgroup2", // what the word means to the specification
        kind => kind,
    };
    let (mut source, mut is_file) = (text(mount, "/source").to_string(), false);
    if kind == "bind" || flags.contains(MsFlags::MS_BIND) {
        flags |= MsFlags::MS_BIND;
        if !data.is_empty() {
            return fault(place, format!("a bind mount ignores {}", data.join(",")));
        }
        let place = format!("{place}.source");
        let real = fs::canonicalize(&source).or_else(|error| fault(&place, error))?;
        is_file = !real.is_dir();
        source = real.into_os_string().into_string().or_else(|_| fault(place, "is not UTF-8"))?;
    } else if kind.is_empty() {
        return fault(place, "lacks a type");
    }
    let (destination, kind) = (text(mount, "/destination").to_string(), kind.to_string());
    Ok(Mount { source, destination, kind, flags, propagation, data: data.join(","), is_file })
}

/// The device files that every container has: config-linux.md, "Default Devices". To make one,
/// mknod(2) wants CAP_MKNOD in the first user namespace, so they are bind mounts of the host's.
pub(crate) fn device(name: &str) -> Mount {
    Mount {
        source: format!("/dev/{name}"),
        destination: format!("/dev/{name}"),
        kind: "bind".to_string(),
        flags: MsFlags::MS_BIND,
        propagation: MsFlags::empty(),
        data: String::new(),
        is_file: true,
    }
}

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// The symbolic links that every container has in its /dev: symlink(2).
pub fn make_links() -> std::result::Result<(), Refusal> {
    for (target, link) in LINKS {
        let made = symlink(target, link);
        let is_there = made.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists);
        (if is_there { Ok(()) } else { made })
            .named(format_args!("symlink({target:?}, {link:?})"))?;
    }
    Ok(())
}

impl Mount {
    /// Makes what it is mounted on, if that is not there: mkdir(2), open(2).
    pub fn make_place(&self) -> std::result::Result<&Path, Refusal> {
        let place = Path::new(&self.destination);
        let folder = if self.is_file { place.parent().unwrap_or(place) } else { place };
        fs::create_dir_all(folder).named(format_args!("mkdir({folder:?})"))?;
        if self.is_file && !place.exists() {
            File::create(place).named(format_args!("open({place:?}, O_CREAT)"))?;
        }
        Ok(place)
    }
}
