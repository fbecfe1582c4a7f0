//! The members that a config.json may have: what each is, or why there is no container with it.

use std::fmt;

use serde_json::Value;

use crate::bundle::{Result, fault};
use crate::privileges::capability;
use crate::words::{NAMESPACES, RLIMITS, one_of};

/// A member: where it is, with `[]` for each of a list.
struct Member {
    path: &'static str,
    kind: Kind,
    is_needed: bool,
}

/// What a member is.
#[derive(Clone, Copy)]
enum Kind {
    Object,
    List(&'static Kind),
    Truth,
    /// Without a zero byte, as every text that a system call takes.
    Text,
    /// A path that begins with `/`.
    Absolute,
    /// Of 32 bits, as a uid is.
    Id,
    /// Of 64 bits.
    Size,
    /// Below zero it means that there is none.
    Limit,
    /// One of those that are known here; and of what.
    Word(fn(&str) -> bool, &'static str),
    /// It is left out, and that is said; why that is no fault.
    LeftOut(&'static str),
    /// No container is made; why.
    Refused(&'static str),
}
use Kind::*;

/// What is not here is refused, too.
const MEMBERS: &[Member] = &[
    need("ociVersion", Word(|version| version.starts_with("1."), "version: 1.x is")),
    may("annotations", LeftOut("not for the container to see")),
    may("hooks", Refused("programs of the host, and only the command is run")),
    may("hostname", Text),
    may("domainname", Refused("that of NIS, setdomainname(2)")),
    need("process", Object),
    need("process.args", List(&Text)),
    may("process.env", List(&Text)),
    need("process.cwd", Absolute),
    may("process.terminal", Truth),
    may("process.noNewPrivileges", Truth),
    may("process.user", Object),
    may("process.user.uid", Id),
    may("process.user.gid", Id),
    may("process.user.umask", Id),
    may("process.user.additionalGids", List(&Id)),
    may("process.capabilities", Object),
    may("process.capabilities.bounding", CAPABILITIES),
    may("process.capabilities.effective", CAPABILITIES),
    may("process.capabilities.permitted", CAPABILITIES),
    may("process.capabilities.inheritable", CAPABILITIES),
    may("process.capabilities.ambient", CAPABILITIES),
    may("process.rlimits", List(&Object)),
    need("process.rlimits[].type", Word(|name| one_of(RLIMITS, name).is_some(), "limit that is")),
    need("process.rlimits[].soft", Size),
    need("process.rlimits[].hard", Size),
    may("process.apparmorProfile", Refused("no security module is told anything")),
    may("process.selinuxLabel", Refused("no security module is told anything")),
    need("root", Object),
    need("root.path", Text),
    may("root.readonly", Truth),
    may("mounts", List(&Object)),
    need("mounts[].destination", Absolute),
    may("mounts[].type", Text),
    may("mounts[].source", Text),
    may("mounts[].options", List(&Text)),
    need("linux", Object),
    need("linux.namespaces", List(&Object)),
    need(
        "linux.namespaces[].type",
        Word(|name| one_of(NAMESPACES, name).is_some(), "kind that is"),
    ),
    may("linux.namespaces[].path", Refused("to join one: see setns-demo")),
    may("linux.uidMappings", List(&Object)),
    need("linux.uidMappings[].containerID", Id),
    need("linux.uidMappings[].hostID", Id),
    need("linux.uidMappings[].size", Id),
    may("linux.gidMappings", List(&Object)),
    need("linux.gidMappings[].containerID", Id),
    need("linux.gidMappings[].hostID", Id),
    need("linux.gidMappings[].size", Id),
    may("linux.maskedPaths", List(&Absolute)),
    may("linux.readonlyPaths", List(&Absolute)),
    may("linux.seccomp", LeftOut("the filter of this program is used instead")),
    may("linux.sysctl", Refused("the kernel's settings are left as they are")),
    may("linux.devices", Refused("there are the six that every container has")),
    may("linux.cgroupsPath", Refused("a cgroup is made below the caller's")),
    may("linux.resources", Object),
    may("linux.resources.devices", LeftOut("there are those in /dev; others take CAP_MKNOD")),
    may("linux.resources.pids", Object),
    need("linux.resources.pids.limit", Limit),
    may("linux.resources.memory", Object),
    may("linux.resources.memory.limit", Limit),
    may("linux.resources.cpu", Object),
    may("linux.resources.cpu.quota", Limit),
];

const CAPABILITIES: Kind = List(&Word(|name| capability(name).is_some(), "capability that is"));
const NO_NUMBER: &str = "is no number that fits";

const fn need(path: &'static str, kind: Kind) -> Member {
    Member { path, kind, is_needed: true }
}

const fn may(path: &'static str, kind: Kind) -> Member {
    Member { path, kind, is_needed: false }
}

/// Where a value is in config.json.
enum Place<'up> {
    Top,
    Member(&'up Place<'up>, &'up str),
    Item(&'up Place<'up>, usize),
}
use Place::{Item, Top};

impl Place<'_> {
    /// Is this its path? A path has no numbers: `mounts[]`.
    fn has(&self, path: &str) -> bool {
        match self {
            Top => path.is_empty(),
            Place::Member(Top, name) => path == *name,
            Place::Member(up, name) => {
                let above = path.strip_suffix(name).and_then(|path| path.strip_suffix('.'));
                above.is_some_and(|path| up.has(path))
            }
            Item(list, _) => path.strip_suffix("[]").is_some_and(|path| list.has(path)),
        }
    }
}

/// With numbers: `mounts[0]`.
impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Top => Ok(()),
            Place::Member(Top, name) => write!(f, "{name}"),
            Place::Member(up, name) => write!(f, "{up}.{name}"),
            Item(list, nth) => write!(f, "{list}[{nth}]"),
        }
    }
}

/// Is it what the table says, and all that is in it? Notes what is left out.
pub(crate) fn check(config: &Value, notes: &mut Vec<String>) -> Result<()> {
    is_a(Object, config, &Top, notes)
}

fn is_a(kind: Kind, value: &Value, place: &Place, notes: &mut Vec<String>) -> Result<()> {
    let is_right = |is_right: bool, what: &str| if is_right { Ok(()) } else { fault(place, what) };
    let text = value.as_str().unwrap_or_default();
    match kind {
        Object => members(value, place, notes),
        List(kind) => {
            let Some(list) = value.as_array() else { return fault(place, "is no list") };
            let mut items = list.iter().enumerate();
            items.try_for_each(|(nth, value)| is_a(*kind, value, &Item(place, nth), notes))
        }
        Truth => is_right(value.is_boolean(), "is neither true nor false"),
        Id => is_right(value.as_u64().is_some_and(|id| id <= u32::MAX.into()), NO_NUMBER),
        Size => is_right(value.is_u64(), NO_NUMBER),
        Limit => is_right(value.is_i64(), NO_NUMBER),
        Text | Absolute | Word(..) if !value.is_string() => fault(place, "is no string"),
        Text | Absolute if text.contains('\0') => fault(place, "has a zero byte in it"),
        Text => Ok(()),
        Absolute => is_right(text.starts_with('/'), "is no absolute path"),
        Word(is_known, _) if is_known(text) => Ok(()),
        Word(_, what) => fault(place, format_args!("no {what} known here")),
        LeftOut(why) => {
            notes.push(format!("{place}: {why}"));
            Ok(())
        }
        Refused(why) => fault(place, format_args!("is not supported: {why}")),
    }
}

/// A member that is null is as good as none.
fn members(value: &Value, place: &Place, notes: &mut Vec<String>) -> Result<()> {
    let Some(members) = value.as_object() else { return fault(place, "is no object") };
    for needed in MEMBERS.iter().filter(|member| member.is_needed) {
        let (parent, name) = needed.path.rsplit_once('.').unwrap_or(("", needed.path));
        if place.has(parent) && members.get(name).is_none_or(Value::is_null) {
            return fault(Place::Member(place, name), "is missing");
        }
    }
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let place = Place::Member(place, name);
        match MEMBERS.iter().find(|member| place.has(member.path)) {
            Some(member) if !name.contains(['.', '[']) => is_a(member.kind, value, &place, notes)?,
            _ => return fault(place, "is not supported"),
        }
    }
    Ok(())
}
