//! What this host refuses, and why: from (call, errno, evidence) to a cause and one cure.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::{geteuid, getpid};

/// A call that this host refused, with what came of it. Displayed as strace(1) would.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    call: String,
    /// `None` when the call worked but showed that the lesson cannot run; `result` says how.
    errno: Option<Errno>,
    result: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} = {}", self.call, self.result)
    }
}

impl Error for Refusal {}

/// Gives a call's error the call's name, as strace(1) would print it.
pub trait Named<T> {
    /// The value, or the refusal of `call`.
    fn named(self, call: impl Into<String>) -> Result<T, Refusal>;
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: impl Into<String>) -> Result<T, Refusal> {
        self.map_err(|errno| Refusal::of(call.into(), errno))
    }
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, call: impl Into<String>) -> Result<T, Refusal> {
        self.map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Refusal::of(call.into(), errno)
        })
    }
}

impl Refusal {
    fn of(call: String, errno: Errno) -> Self {
        let error = io::Error::from(errno).to_string(); // strerror(3) and the number
        let meaning = error.split(" (os error").next().unwrap_or_default();
        let result = format!("-1 {errno:?} ({meaning})");
        Self { call, errno: Some(errno), result }
    }

    /// We lack what only root of the host has.
    pub(crate) fn not_root() -> Self {
        let result = "no CAP_SYS_ADMIN in the first user namespace".to_string();
        Self { call: "/proc/self/status: CapEff".to_string(), errno: None, result }
    }

    /// The process inside went away in the middle of its turn.
    pub(crate) fn ended_early() -> Self {
        let call = "read(2) from the process inside".to_string();
        Self { call, errno: None, result: "0, the end of the file".to_string() }
    }

    /// A tool that was started did not do what the lesson needs; the last it said may tell why.
    pub fn of_tool(tool: &str, what: &str, said: &str) -> Self {
        // A guest's kernel has the very last word, and it tells nothing new.
        let tells = |line: &&str| !line.trim().is_empty() && !line.contains("] reboot: ");
        let last = said.lines().rfind(tells).unwrap_or("nothing");
        let result = format!("{what}; it last said: {}", last.trim());
        Self { call: tool.to_string(), errno: None, result }
    }

    pub(crate) fn is_end(&self) -> bool {
        *self == Self::ended_early()
    }

    /// This refusal as one line, for the pipe from inside.
    pub(crate) fn to_send(&self) -> String {
        let errno = self.errno.map_or(0, |errno| errno as i32);
        format!("!{}\t{errno}\t{}\n", self.call, self.result)
    }

    /// The refusal in a line from inside, without its `!`.
    pub(crate) fn received(line: &str) -> Self {
        let mut parts = line.splitn(3, '\t').map(str::to_string);
        let mut part = || parts.next().unwrap_or_default();
        let (call, errno, result) = (part(), part().parse().unwrap_or(0), part());
        Self { call, errno: (errno != 0).then(|| Errno::from_raw(errno)), result }
    }

    /// Tells the reader, on standard error. Where that cannot be written there is nobody to tell.
    pub fn tell(&self, lesson: &str) {
        let _ = io::stderr().write_all(self.message(lesson).as_bytes());
    }

    /// What the reader is told: which call, why on this host, and one thing to do.
    fn message(&self, lesson: &str) -> String {
        let (cause, cure) = self.explain();
        format!(
            "{lesson}: this host cannot run it; nothing was changed\n\n\
             call    {self}\n\
             cause   {cause}\n\
             do      {cure}\n"
        )
    }

    /// The cause on this host and one thing to do about it: the first row of the table that fits.
    fn explain(&self) -> (&'static str, &'static str) {
        let fits = |row: &&Row| {
            self.call.contains(row.call)
                && (row.errno.is_none() || row.errno == self.errno)
                && (row.evidence)()
        };
        match ROWS.iter().find(fits) {
            Some(row) => (row.cause, row.cure),
            None => (
                "not known to this workbook",
                "look the errno up in the man page of the call, and please report this",
            ),
        }
    }
}

/// One thing that hosts do. The first row that fits is what the reader is told, so rows with
/// evidence of their own come before those that only guess.
struct Row {
    /// A part of the call.
    call: &'static str,
    /// The call's errno; `None` fits every one.
    errno: Option<Errno>,
    /// What else this host must show.
    evidence: fn() -> bool,
    cause: &'static str,
    cure: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        call: "CapEff",
        errno: None,
        evidence: || true,
        cause: "this lesson needs root of the host; a user namespace does not give enough",
        cure: "build it, then run its program in target/debug with sudo",
    },
    Row {
        call: "readlink(\"/proc/self\")",
        errno: Some(Errno::ENOENT),
        evidence: || !proc_is_mounted(),
        cause: "no proc file system is mounted on /proc",
        cure: "sudo mount -t proc proc /proc",
    },
    Row {
        call: "readlink(\"/proc/self\")",
        errno: None,
        evidence: || true,
        cause: "this /proc was mounted in another PID namespace than ours (see ps-demo)",
        cure: "mount -t proc proc /proc   in this namespace, then again",
    },
    Row {
        call: "execve(\"lxc-",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "LXC is not installed",
        cure: "sudo apt-get install --no-install-recommends lxc busybox-static",
    },
    Row {
        call: "execve(\"busybox\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "busybox, all the programs of a small container in one file, is not installed",
        cure: "sudo apt-get install busybox-static",
    },
    Row {
        call: "lxc-",
        errno: None,
        evidence: || true,
        cause: "LXC is installed and could not do it on this host",
        cure: "see whether LXC works without the workbook: lxc-checkconfig",
    },
    Row {
        call: "open(\"/proc/1/",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "/proc hides the processes of others: it is mounted with hidepid",
        cure: "run it as root",
    },
    Row {
        call: "/proc/self/",
        errno: Some(Errno::EROFS),
        evidence: || true,
        cause: "/proc is mounted read-only, so a user namespace cannot get its map",
        cure: "in a container: start it with `docker run --privileged`",
    },
    Row {
        call: "/proc/self/",
        errno: None,
        evidence: || setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        cause: "Ubuntu's AppArmor makes user namespaces powerless for programs it does not know",
        cure: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    },
    Row {
        call: "/proc/self/uid_map",
        errno: Some(Errno::EPERM),
        evidence: || geteuid().is_root(),
        cause: "this root lacks CAP_SETFCAP, and so may not map itself (since Linux 5.12)",
        cure: "run it as an ordinary user",
    },
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_user_namespaces") == Some(0),
        cause: "user.max_user_namespaces is 0: nobody may make a user namespace here",
        cure: "sudo sysctl -w user.max_user_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWPID",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_pid_namespaces") == Some(0),
        cause: "user.max_pid_namespaces is 0: nobody may make a PID namespace here",
        cure: "sudo sysctl -w user.max_pid_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWNS",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_mnt_namespaces") == Some(0),
        cause: "user.max_mnt_namespaces is 0: nobody may make a mount namespace here",
        cure: "sudo sysctl -w user.max_mnt_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWUTS",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_uts_namespaces") == Some(0),
        cause: "user.max_uts_namespaces is 0: nobody may make a UTS namespace here",
        cure: "sudo sysctl -w user.max_uts_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWTIME",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_time_namespaces") == Some(0),
        cause: "user.max_time_namespaces is 0: nobody may make a time namespace here",
        cure: "sudo sysctl -w user.max_time_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWIPC",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_ipc_namespaces") == Some(0),
        cause: "user.max_ipc_namespaces is 0: nobody may make an IPC namespace here",
        cure: "sudo sysctl -w user.max_ipc_namespaces=10000",
    },
    Row {
        call: "CLONE_NEWNET",
        errno: Some(Errno::ENOSPC),
        evidence: || setting("user/max_net_namespaces") == Some(0),
        cause: "user.max_net_namespaces is 0: nobody may make a network namespace here",
        cure: "sudo sysctl -w user.max_net_namespaces=10000",
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::ENOSPC),
        evidence: || true,
        cause: "too many namespaces, or too many levels of them, are in use (not a full disk)",
        cure: "leave the namespaces that this shell is nested in, then again",
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EPERM),
        evidence: || !geteuid().is_root() && setting("kernel/unprivileged_userns_clone") == Some(0),
        cause: "kernel.unprivileged_userns_clone is 0: only root may make a user namespace",
        cure: "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    },
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::EPERM),
        evidence: root_is_no_mount_point,
        cause: "we are in a chroot, where nobody may make a user namespace",
        cure: "run it outside the chroot",
    },
    Row {
        call: "mount(NULL, \"/\"",
        errno: Some(Errno::EINVAL),
        evidence: root_is_no_mount_point,
        cause: "we are in a chroot: / is no mount point here",
        cure: "run it outside the chroot",
    },
    Row {
        call: "mount(\"tmpfs\", \"/mnt\"",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "there is no directory /mnt here, where the lesson mounts",
        cure: "sudo mkdir /mnt",
    },
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::EPERM),
        evidence: our_id_is_unmapped,
        cause: "our user id has no place in the map of the user namespace that we are in",
        cure: "make that namespace with a map: unshare --map-root-user",
    },
    Row {
        call: "open(\"/dev/kvm\"), then run x86 code",
        errno: None,
        evidence: || true,
        cause: "KVM runs a guest on the CPU itself: x86 code on an x86 CPU, and this is none",
        cure: "read the chapter; then vm-demo, whose guest runs on any CPU",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EACCES),
        evidence: || group("/dev/kvm").is_some_and(|gid| gid != 0),
        cause: "only root and members of the group of /dev/kvm may use it, and you are neither",
        cure: "sudo usermod --append --groups kvm $USER   then log in again",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "/dev/kvm is for root alone on this host",
        cure: "run it as root; or vm-demo, whose guest needs no KVM",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "this container's list of devices does not have /dev/kvm",
        cure: "start the container with `docker run --device /dev/kvm`",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: None,
        evidence: cpu_can_virtualise,
        cause: "the CPU can run guests, but KVM is not loaded, or not given to this container",
        cure: "sudo modprobe kvm_intel (or kvm_amd); in a container: --device /dev/kvm",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: None,
        evidence: || true,
        cause: "no KVM: off in the firmware, or we are in a virtual machine or container without it",
        cure: "run vm-demo, whose guest needs no KVM",
    },
    Row {
        call: "KVM_CREATE_VM",
        errno: Some(Errno::EBUSY),
        evidence: || true,
        cause: "another hypervisor, such as VirtualBox, has the CPU's virtualisation",
        cure: "end its virtual machines, then again",
    },
    Row {
        call: "KVM_RUN",
        errno: Some(Errno::EINTR),
        evidence: || true,
        cause: "the guest did not come back in ten seconds: a KVM that starts and then hangs",
        cure: "run vm-demo, whose guest needs no KVM",
    },
    Row {
        call: "execve(\"qemu-system-x86_64\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "qemu is not installed, or not in your PATH",
        cure: "sudo apt-get install --no-install-recommends qemu-system-x86   (Debian, Ubuntu)",
    },
    Row {
        call: "execve(\"/init\")",
        errno: Some(Errno::ENOEXEC),
        evidence: || true,
        cause: "the guest has an x86-64 processor, and this program is built for another",
        cure: "run it on an x86-64 host",
    },
    Row {
        call: "GUEST_KERNEL",
        errno: None,
        evidence: || true,
        cause: "GUEST_KERNEL names a file that cannot be read",
        cure: "let it name the image of a kernel, as /boot/vmlinuz-* are, or unset it",
    },
    Row {
        call: "open(\"/boot/vmlinuz-*\")",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "only root may read the kernels in /boot, as on Ubuntu",
        cure: "copy one to where you may read it, and say where it is:\n\
               \x20         sudo install -m 644 /boot/vmlinuz-$(uname -r) /var/tmp/vmlinuz\n\
               \x20         export GUEST_KERNEL=/var/tmp/vmlinuz",
    },
    Row {
        call: "open(\"/boot/vmlinuz-*\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "no kernel to boot as a guest: none in /boot, none in /usr/lib/modules/*",
        cure: "unpack that of Debian's linux-image-cloud-amd64, and say where it is:\n\
               \x20         apt-get download $(apt-cache depends linux-image-cloud-amd64 |\n\
               \x20           grep -o 'linux-image-[0-9].*')\n\
               \x20         dpkg-deb --fsys-tarfile linux-image-[0-9]*.deb |\n\
               \x20           tar -x --wildcards './boot/vmlinuz*'\n\
               \x20         export GUEST_KERNEL=$(echo $PWD/boot/vmlinuz-*)",
    },
    Row {
        call: "qemu-system-x86_64",
        errno: None,
        evidence: || true,
        cause: "the machine did not do what the lesson waits for",
        cure: "run it again when the host is less busy, or with another kernel in GUEST_KERNEL",
    },
    Row {
        call: "",
        errno: Some(Errno::EPERM),
        evidence: || status("Seccomp").as_deref() == Some("2"),
        cause: "a seccomp filter forbids it, as Docker's default profile does",
        cure: "start the container with `docker run --privileged`, or use a virtual machine",
    },
    Row {
        call: "mount(\"proc\"",
        errno: Some(Errno::EPERM),
        evidence: proc_is_covered,
        cause: "parts of /proc are covered here, as in Docker, and must not be uncovered",
        cure: "start the container with `docker run --privileged`, or use a virtual machine",
    },
    Row {
        call: "mount(\"sysfs\"",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "/sys is read-only or partly covered here, as in Docker, and must stay so",
        cure: "start the container with `docker run --privileged`, or use a virtual machine",
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "the kernel, or a security module, lets this user make no namespace",
        cure: "run it as root, or on a host of your own",
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "a Linux security module forbids it",
        cure: "ask who administers this host: its log names the rule (sudo dmesg)",
    },
    Row {
        call: "CLONE_NEWTIME",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel has no time namespaces (since Linux 5.6, option CONFIG_TIME_NS)",
        cure: "use a distribution's kernel of 5.6 or newer; WSL2's may lack the option",
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel was built without this kind of namespace",
        cure: "use a distribution's kernel",
    },
    Row {
        call: "RTM_NEWLINK",
        errno: Some(Errno::EOPNOTSUPP),
        evidence: || true,
        cause: "this kernel has no bridge or no veth, or cannot load these modules here",
        cure: "sudo modprobe --all bridge veth   (on the host, if this is a container)",
    },
    Row {
        call: "setns(pidfd_open(",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel's setns(2) takes no pidfd: Linux 5.8 does",
        cure: "use a newer kernel",
    },
    Row {
        call: "fork",
        errno: Some(Errno::ENOMEM),
        evidence: || true,
        cause: "PID 1 of the new PID namespace was killed from elsewhere (see init-demo)",
        cure: "run it again",
    },
    Row {
        call: "fork",
        errno: Some(Errno::EAGAIN),
        evidence: || true,
        cause: "a limit on processes is reached (ulimit -u, or a cgroup's pids.max)",
        cure: "end some of your processes, or raise the limit",
    },
    Row {
        call: "clone",
        errno: Some(Errno::EAGAIN),
        evidence: || true,
        cause: "a limit on processes is reached (ulimit -u, or a cgroup's pids.max)",
        cure: "end some of your processes, or raise the limit",
    },
    Row {
        call: "execve(\"ip\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "ip(8) is not installed",
        cure: "sudo apt-get install iproute2",
    },
    Row {
        call: "clone3(",
        errno: Some(Errno::ENOSYS),
        evidence: || true,
        cause: "a seccomp filter hides clone3(2), as in Docker, or the kernel is older than 5.3",
        cure: "start the container with `docker run --privileged`, or use a newer kernel",
    },
    Row {
        call: "clone3(set_tid",
        errno: Some(Errno::E2BIG),
        evidence: || true,
        cause: "this kernel's clone3(2) has no set_tid: Linux 5.5 has",
        cure: "use a newer kernel",
    },
    Row {
        call: "execve(\"criu\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "CRIU is not installed",
        cure: "sudo apt install criu   (version 4 or newer: Debian 13)",
    },
    Row {
        call: "criu ",
        errno: None,
        evidence: || true,
        cause: "CRIU could not do it; versions before 4 do not know today's kernels",
        cure: "try `sudo criu check`, which says what it misses",
    },
    Row {
        call: "write(1)",
        errno: Some(Errno::ENOSPC),
        evidence: || true,
        cause: "the disk or file that the output goes to is full",
        cure: "send the output somewhere else",
    },
    Row {
        call: "/proc/[0-9]*/status: PPid",
        errno: Some(Errno::ESRCH),
        evidence: || true,
        cause: "the process inside was killed from elsewhere",
        cure: "run it again",
    },
    Row {
        call: "read(2) from the process inside",
        errno: None,
        evidence: || true,
        cause: "the process inside was killed from elsewhere",
        cure: "run it again",
    },
];

/// The precondition of every lesson: `/proc` is there and shows our own PID namespace.
pub(crate) fn proc_is_ours() -> Result<(), Refusal> {
    let call = "readlink(\"/proc/self\")";
    let shown = fs::read_link("/proc/self").named(call)?;
    let ours = getpid();
    if shown == Path::new(&ours.to_string()) {
        return Ok(());
    }
    let result = format!("{}, but getpid() = {ours}", shown.display());
    Err(Refusal { call: call.to_string(), errno: None, result })
}

/// May we make namespaces without a user namespace first? Root may lack the capability, and an
/// ordinary user may have it: capabilities(7).
pub(crate) fn has_cap_sys_admin() -> Result<bool, Refusal> {
    const CAP_SYS_ADMIN: u32 = 21; // linux/capability.h
    let file = "/proc/self/status";
    let text = fs::read_to_string(file).named(format!("open({file:?})"))?;
    let effective = field(&text, "CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    Ok(effective.unwrap_or_default() & (1 << CAP_SYS_ADMIN) != 0)
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn status(name: &str) -> Option<String> {
    field(&fs::read_to_string("/proc/self/status").ok()?, name)
}

fn setting(name: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

fn proc_is_mounted() -> bool {
    statfs("/proc").is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC)
}

/// The mount points that this process can see: field 5 of proc_pid_mountinfo(5).
fn mount_points() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(str::to_string).collect()
}

/// A plain chroot: its root is an ordinary directory, so no mount is seen on it.
fn root_is_no_mount_point() -> bool {
    !mount_points().iter().any(|point| point == "/")
}

fn proc_is_covered() -> bool {
    mount_points().iter().any(|point| point.starts_with("/proc/"))
}

fn our_id_is_unmapped() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.trim().is_empty()
}

fn group(file: &str) -> Option<u32> {
    Some(fs::metadata(file).ok()?.gid())
}

/// The flags of Intel and of AMD: proc_cpuinfo(5).
fn cpu_can_virtualise() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}
