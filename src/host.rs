//! What this host refuses, and why: from (call, errno, evidence) to a cause and one cure.

use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, geteuid, getpid};

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

    /// Somebody has killed a tool, or the kernel has, for want of memory.
    pub(crate) fn of_killed_tool(tool: &str) -> Self {
        let call = "waitpid(2): WTERMSIG".to_string();
        Self { call, errno: None, result: format!("SIGKILL, for {tool}") }
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
        format!("{lesson}: this host cannot run it; nothing was changed\n\n{}", self.explanation())
    }

    /// The call, the cause on this host, one thing to do, and what that means for the security of the
    /// host if it means anything: a line each, or more, with its name in front.
    pub fn explanation(&self) -> String {
        let Row { cause, cure, means, .. } = self.explain();
        format!("call    {self}\n{}", explanation(cause, cure, means))
    }

    /// The first row of the table that fits.
    pub fn explain(&self) -> &'static Row {
        let fits = |row: &&Row| {
            self.call.contains(row.call)
                && (row.errno.is_none() || row.errno == self.errno)
                && (row.evidence)()
        };
        ROWS.iter().find(fits).unwrap_or(&UNKNOWN)
    }

    /// The call, as strace(1) would show it without its result.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Its errno, if that is what the refusal is about.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

/// One thing that hosts do. The first row that fits is what the reader is told, so rows with
/// evidence of their own come before those that only guess.
pub struct Row {
    /// A part of the call.
    call: &'static str,
    /// The call's errno; `None` fits every one.
    errno: Option<Errno>,
    /// What else this host must show.
    evidence: fn() -> bool,
    /// Why, on this host.
    pub cause: &'static str,
    /// One thing to do: a command to paste, or what else helps.
    pub cure: &'static str,
    /// What the cure means for the host's security.
    pub means: &'static str,
}

/// The host is as secure as before.
const NOTHING: &str = "";
const AS_ROOT: &str = "this program then has all power over the host: read its source first";
const PRIVILEGED: &str = "root in that container is then as powerful as root of the host";
const FOR_ALL: &str = "until the next boot every user reaches kernel code that was root's alone";

/// The administrator has set a limit to zero: namespaces(7), since Linux 4.9.
macro_rules! limit {
    ($flag:literal, $kind:literal, $one:literal) => {
        limit!($flag, Some(Errno::ENOSPC), $kind, $one)
    };
    ($call:literal, $errno:expr, $kind:literal, $one:literal) => {
        Row {
            call: $call,
            errno: $errno,
            evidence: || start().forbids($kind),
            cause: concat!(
                "user.max_",
                $kind,
                "_namespaces is 0: nobody may make ",
                $one,
                " namespace here"
            ),
            cure: concat!("sudo sysctl -w user.max_", $kind, "_namespaces=10000"),
            means: FOR_ALL,
        }
    };
}

/// A profile confines us. What it allows is not written anywhere that we may read.
macro_rules! apparmor {
    ($call:literal, $errno:expr) => {
        Row {
            call: $call,
            errno: Some($errno),
            evidence: apparmor_confines_us,
            cause: "an AppArmor profile is in force for this program, and forbids it",
            cure: "sudo aa-status   names it; sudo aa-disable   switches one off",
            means: "without it the program can do all that its user can",
        }
    };
}

const UNKNOWN: Row = Row {
    call: "",
    errno: None,
    evidence: || true,
    cause: "not known to this workbook",
    cure: "look the errno up in the man page of the call, and please report this",
    means: NOTHING,
};

const ROWS: &[Row] = &[
    Row {
        call: "",
        errno: Some(Errno::EMFILE),
        evidence: || true,
        cause: "a limit on open files is reached (ulimit -n)",
        cure: "ulimit -n 1024   in this shell, then again",
        means: NOTHING,
    },
    Row {
        call: "execve(",
        errno: Some(Errno::ENOENT),
        evidence: || env::var_os("PATH").is_none(),
        cause: "PATH is not set, so no program can be found by its name",
        cure: "export PATH=/usr/local/bin:/usr/bin:/bin",
        means: NOTHING,
    },
    Row {
        call: "execve(\"lxc-",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "LXC is not installed",
        cure: "sudo apt-get install --no-install-recommends lxc busybox-static",
        means: NOTHING,
    },
    Row {
        call: "execve(\"/bin/sh\")",
        errno: None,
        evidence: || true,
        cause: "neither $SHELL nor /bin/sh can be run here",
        cure: "set SHELL to a shell that this host has, or leave --shell out",
        means: NOTHING,
    },
    Row {
        call: "CapEff",
        errno: None,
        evidence: || true,
        cause: "the lesson needs root of the host: a user namespace gives too little",
        cure: "build it, then run its program in target/debug with sudo",
        means: AS_ROOT,
    },
    Row {
        call: "readlink(\"/proc/self\")",
        errno: Some(Errno::ENOENT),
        evidence: || !proc_is_mounted(),
        cause: "no proc file system is mounted on /proc",
        cure: "sudo mount -t proc proc /proc",
        means: NOTHING,
    },
    Row {
        call: "readlink(\"/proc/self\")",
        errno: None,
        evidence: || true,
        cause: "this /proc was mounted in another PID namespace than ours (see ps-demo)",
        cure: "mount -t proc proc /proc   in this namespace, then again",
        means: NOTHING,
    },
    Row {
        call: "",
        errno: Some(Errno::EAGAIN),
        evidence: || true,
        cause: "a limit on processes is reached (ulimit -u, or a cgroup's pids.max)",
        cure: "end some of your processes, or raise the limit",
        means: NOTHING,
    },
    Row {
        call: "lxc-",
        errno: None,
        evidence: few_processes_are_left,
        cause: "a limit on processes (ulimit -u, pids.max) leaves too few for LXC",
        cure: "end some of your processes, or raise the limit",
        means: NOTHING,
    },
    Row {
        call: "qemu-system-x86_64",
        errno: None,
        evidence: few_processes_are_left,
        cause: "a limit on processes (ulimit -u, with threads) leaves too few for qemu",
        cure: "end some of your processes, or raise the limit",
        means: NOTHING,
    },
    Row {
        call: "mmap(NULL, ",
        errno: Some(Errno::ENOMEM),
        evidence: || limit("Max address space").is_some(),
        cause: "a limit on memory (ulimit -v) leaves less than a lesson needs",
        cure: "use a shell without that limit: `ulimit -v` shows it",
        means: NOTHING,
    },
    Row {
        call: "setrlimit(RLIMIT_AS, ",
        errno: Some(Errno::EPERM),
        evidence: || limit("Max address space").is_some(),
        cause: "a limit on memory (ulimit -v) is lower than the one that is set here",
        cure: "use a shell without that limit: `ulimit -v` shows it",
        means: NOTHING,
    },
    Row {
        call: "mmap(NULL, ",
        errno: Some(Errno::ENOMEM),
        evidence: || true,
        cause: "the host has no memory left to promise (vm.overcommit_memory)",
        cure: "end some of your programs, then again",
        means: NOTHING,
    },
    Row {
        call: "execve(\"cat\")", // std opens it for the program's input
        errno: Some(Errno::ENOENT),
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo mount -t devtmpfs devtmpfs /dev",
        means: NOTHING,
    },
    Row {
        call: "\"/dev/null\"",
        errno: Some(Errno::ENOENT),
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo mount -t devtmpfs devtmpfs /dev",
        means: NOTHING,
    },
    Row {
        call: "lxc-",
        errno: None,
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo mount -t devtmpfs devtmpfs /dev",
        means: NOTHING,
    },
    Row {
        call: "\"/dev/shm\"",
        errno: Some(Errno::ENOENT),
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo mount -t devtmpfs devtmpfs /dev",
        means: NOTHING,
    },
    Row {
        call: "execve(\"busybox\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "busybox, the programs of a small container, is not installed",
        cure: "sudo apt-get install busybox-static",
        means: NOTHING,
    },
    limit!("lxc-", None, "uts", "a UTS"),
    limit!("lxc-", None, "ipc", "an IPC"),
    limit!("lxc-", None, "cgroup", "a cgroup"),
    Row {
        call: "lxc-",
        errno: None,
        evidence: || access("/bin/sh", AccessFlags::X_OK).is_err(),
        cause: "/bin/sh cannot be run here, and LXC's templates are scripts",
        cure: "sudo apt-get install dash",
        means: NOTHING,
    },
    Row {
        call: "lxc-",
        errno: None,
        evidence: || true,
        cause: "LXC is installed and could not do it on this host",
        cure: "see whether LXC works without the workbook: lxc-checkconfig",
        means: NOTHING,
    },
    Row {
        call: "open(\"/proc/1/",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "/proc hides the processes of others: it is mounted with hidepid",
        cure: "run it as root",
        means: AS_ROOT,
    },
    Row {
        call: "/proc/self/",
        errno: Some(Errno::EROFS),
        evidence: || true,
        cause: "/proc is mounted read-only, so a user namespace cannot get its map",
        cure: "in a container: start it with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "/proc/sys/",
        errno: Some(Errno::EROFS),
        evidence: || true,
        cause: "/proc/sys is mounted read-only, as in Docker, so no limit can be set",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "SECCOMP_MODE_FILTER",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER)",
        cure: "use a distribution's kernel",
        means: NOTHING,
    },
    Row {
        call: "/proc/self/",
        errno: None,
        evidence: || setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        cause: "Ubuntu's AppArmor takes all power from most programs' user namespaces",
        cure: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        means: FOR_ALL,
    },
    apparmor!("/proc/self/", Errno::EPERM),
    apparmor!("/proc/self/", Errno::EACCES),
    Row {
        call: "/proc/self/uid_map",
        errno: Some(Errno::EPERM),
        evidence: || start().is_root,
        cause: "this root lacks CAP_SETFCAP, so it may not map itself (since Linux 5.12)",
        cure: "run it as an ordinary user",
        means: NOTHING,
    },
    limit!("CLONE_NEWUSER", "user", "a user"),
    limit!("CLONE_NEWPID", "pid", "a PID"),
    limit!("CLONE_NEWNS", "mnt", "a mount"),
    limit!("CLONE_NEWUTS", "uts", "a UTS"),
    limit!("CLONE_NEWIPC", "ipc", "an IPC"),
    limit!("CLONE_NEWNET", "net", "a network"),
    limit!("CLONE_NEWCGROUP", "cgroup", "a cgroup"),
    limit!("CLONE_NEWTIME", "time", "a time"),
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::ENOSPC),
        evidence: || true,
        cause: "too many namespaces, or levels of them, are in use (not a full disk)",
        cure: "leave the namespaces that this shell is nested in, then again",
        means: NOTHING,
    },
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::EPERM),
        evidence: root_is_no_mount_point,
        cause: "we are in a chroot, where nobody may make a user namespace",
        cure: "run it outside the chroot",
        means: NOTHING,
    },
    Row {
        call: "mount(NULL, \"/\"",
        errno: Some(Errno::EINVAL),
        evidence: root_is_no_mount_point,
        cause: "we are in a chroot: / is no mount point here",
        cure: "run it outside the chroot",
        means: NOTHING,
    },
    Row {
        call: "\"/mnt\"",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "there is no directory /mnt here, where the lesson mounts",
        cure: "sudo mkdir /mnt",
        means: NOTHING,
    },
    Row {
        call: "\"/dev/shm\"",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "there is no directory /dev/shm here, where shared memory is",
        cure: "sudo mkdir /dev/shm",
        means: NOTHING,
    },
    Row {
        call: "\"/sys/fs/cgroup\"",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "there is no directory /sys/fs/cgroup here, where the lesson mounts",
        cure: "sudo mount -t sysfs sysfs /sys   which has that directory",
        means: NOTHING,
    },
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::EPERM),
        evidence: our_id_is_unmapped,
        cause: "our user id has no place in the map of the user namespace that we are in",
        cure: "make that namespace with a map: unshare --map-root-user",
        means: NOTHING,
    },
    Row {
        call: "open(\"/dev/kvm\"), then run x86 code",
        errno: None,
        evidence: || true,
        cause: "the guest is x86 code, and KVM runs it on the CPU itself: no x86 here",
        cure: "read the chapter; then vm-demo, whose guest runs on any CPU",
        means: NOTHING,
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EACCES),
        evidence: || group("/dev/kvm").is_some_and(|gid| gid != 0),
        cause: "only root and the group of /dev/kvm may use it, and you are neither",
        cure: "sudo usermod --append --groups kvm $USER   then log in again",
        means: "you may then run guests on the CPU; nothing else is new",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "/dev/kvm is for root alone on this host",
        cure: "run it as root; or vm-demo, whose guest needs no KVM",
        means: AS_ROOT,
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "this container's list of devices does not have /dev/kvm",
        cure: "start the container with `docker run --device /dev/kvm`",
        means: "the container may then run guests on the CPU, and nothing else is new",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: None,
        evidence: cpu_can_virtualise,
        cause: "the CPU can, but KVM is not loaded, or not given to this container",
        cure: "sudo modprobe kvm_intel (or kvm_amd); in a container: --device /dev/kvm",
        means: "one more module is in the kernel, until the next boot",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: None,
        evidence: || true,
        cause: "no KVM: off in the firmware, or not given to this machine or container",
        cure: "run vm-demo, whose guest needs no KVM",
        means: NOTHING,
    },
    Row {
        call: "KVM_CREATE_VM",
        errno: Some(Errno::EBUSY),
        evidence: || true,
        cause: "another hypervisor, such as VirtualBox, has the CPU's virtualisation",
        cure: "end its virtual machines, then again",
        means: NOTHING,
    },
    Row {
        call: "KVM_RUN",
        errno: Some(Errno::EINTR),
        evidence: || true,
        cause: "the guest did not come back in ten seconds: this KVM starts and hangs",
        cure: "run vm-demo, whose guest needs no KVM",
        means: NOTHING,
    },
    Row {
        call: "execve(\"qemu-system-x86_64\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "qemu is not installed, or not in your PATH",
        cure: "sudo apt-get install --no-install-recommends qemu-system-x86",
        means: NOTHING,
    },
    Row {
        call: "execve(\"/init\")",
        errno: Some(Errno::ENOEXEC),
        evidence: || true,
        cause: "the guest has an x86-64 processor, and this program is built for another",
        cure: "run it on an x86-64 host",
        means: NOTHING,
    },
    Row {
        call: "GUEST_KERNEL",
        errno: None,
        evidence: || true,
        cause: "GUEST_KERNEL names a file that cannot be read",
        cure: "let it name the image of a kernel, as /boot/vmlinuz-* are, or unset it",
        means: NOTHING,
    },
    Row {
        call: "open(\"/boot/vmlinuz-*\")",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "only root may read the kernels in /boot, as on Ubuntu",
        cure: "copy one to where you may read it, and say where it is:\n\
               \x20 sudo install -m 644 /boot/vmlinuz-$(uname -r) /var/tmp/vmlinuz\n\
               \x20 export GUEST_KERNEL=/var/tmp/vmlinuz",
        means: "every user may then read that copy of the kernel: a published file",
    },
    Row {
        call: "open(\"/boot/vmlinuz-*\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "no kernel to boot as a guest: none in /boot, none in /usr/lib/modules/*",
        cure: "unpack that of Debian's linux-image-cloud-amd64, and say where it is:\n\
               \x20 apt-get download $(apt-cache depends linux-image-cloud-amd64 |\n\
               \x20   grep -o 'linux-image-[0-9].*')\n\
               \x20 dpkg-deb --fsys-tarfile linux-image-[0-9]*.deb |\n\
               \x20   tar -x --wildcards './boot/vmlinuz*'\n\
               \x20 export GUEST_KERNEL=$(echo $PWD/boot/vmlinuz-*)",
        means: NOTHING,
    },
    Row {
        call: "qemu-system-x86_64",
        errno: None,
        evidence: || limit("Max address space").is_some(),
        cause: "a limit on memory (ulimit -v) leaves less than the 2 GB that qemu needs",
        cure: "use a shell without that limit: `ulimit -v` shows it",
        means: NOTHING,
    },
    Row {
        call: "qemu-system-x86_64",
        errno: None,
        evidence: || true,
        cause: "the machine did not do what the lesson waits for",
        cure: "run it again on an idle host, or with another kernel in GUEST_KERNEL",
        means: NOTHING,
    },
    Row {
        call: "",
        errno: Some(Errno::EPERM),
        evidence: || status("Seccomp").as_deref() == Some("2"),
        cause: "a seccomp filter forbids it, as Docker's default profile does",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "mount(\"proc\"",
        errno: Some(Errno::EPERM),
        evidence: proc_is_covered,
        cause: "parts of /proc are covered here, as in Docker, and must not be uncovered",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "mount(\"sysfs\"",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "/sys is read-only or partly covered here, as in Docker, and must stay so",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    apparmor!("", Errno::EPERM),
    apparmor!("", Errno::EACCES),
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EPERM),
        evidence: || setting("kernel/unprivileged_userns_clone") == Some(0),
        cause: "kernel.unprivileged_userns_clone is 0: user namespaces are for root",
        cure: "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        means: FOR_ALL,
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "the kernel, or a security module, lets this user make no namespace",
        cure: "run it as root, or on a host of your own",
        means: AS_ROOT,
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "a Linux security module forbids it",
        cure: "ask who administers this host: its log names the rule (sudo dmesg)",
        means: NOTHING,
    },
    Row {
        call: "CLONE_NEWTIME",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)",
        cure: "use a distribution's kernel of 5.6 or newer; WSL2's may lack the option",
        means: NOTHING,
    },
    Row {
        call: "CLONE_NEW",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel was built without this kind of namespace",
        cure: "use a distribution's kernel",
        means: NOTHING,
    },
    Row {
        call: "RTM_NEWLINK",
        errno: Some(Errno::EOPNOTSUPP),
        evidence: || true,
        cause: "this kernel has no bridge or no veth, or cannot load these modules here",
        cure: "sudo modprobe --all bridge veth   (on the host, if this is a container)",
        means: "two more modules are in the kernel, until the next boot",
    },
    Row {
        call: "pidfd_open(",
        errno: Some(Errno::ENOSYS),
        evidence: || true,
        cause: "this kernel has no pidfd_open(2): Linux 5.3 has",
        cure: "use a newer kernel",
        means: NOTHING,
    },
    Row {
        call: "setns(pidfd_open(",
        errno: Some(Errno::EINVAL),
        evidence: || true,
        cause: "this kernel's setns(2) takes no pidfd: Linux 5.8 does",
        cure: "use a newer kernel",
        means: NOTHING,
    },
    Row {
        call: "fork",
        errno: Some(Errno::ENOMEM),
        evidence: || true,
        cause: "PID 1 of the new PID namespace was killed from elsewhere (see init-demo)",
        cure: "run it again",
        means: NOTHING,
    },
    Row {
        call: "execve(\"ip\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "ip(8) is not installed",
        cure: "sudo apt-get install iproute2",
        means: NOTHING,
    },
    Row {
        call: "clone3(",
        errno: Some(Errno::ENOSYS),
        evidence: || true,
        cause: "a seccomp filter hides clone3(2), or the kernel is older than 5.3",
        cure: "use a newer kernel, or start the container with `--privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "clone3(set_tid",
        errno: Some(Errno::E2BIG),
        evidence: || true,
        cause: "this kernel's clone3(2) has no set_tid: Linux 5.5 has",
        cure: "use a newer kernel",
        means: NOTHING,
    },
    Row {
        call: "execve(\"unshare\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "unshare(1) is not installed",
        cure: "sudo apt-get install util-linux",
        means: NOTHING,
    },
    Row {
        call: "execve(\"ps\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "ps(1) is not installed",
        cure: "sudo apt-get install procps",
        means: NOTHING,
    },
    Row {
        call: "execve(\"strace\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "strace(1) is not installed",
        cure: "sudo apt-get install strace",
        means: NOTHING,
    },
    Row {
        call: "execve(\"criu\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "CRIU is not installed",
        cure: "sudo apt install criu   (version 4 or newer: Debian 13)",
        means: NOTHING,
    },
    Row {
        call: "criu",
        errno: None,
        evidence: || status("Seccomp").as_deref() == Some("2"),
        cause: "a seccomp filter is on all processes here, so CRIU may suspend none",
        cure: "use a virtual machine, or start it with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "criu ",
        errno: None,
        evidence: || limit("Max open files").is_some_and(|limit| limit < 256),
        cause: "a limit on open files (ulimit -n) leaves too few for CRIU",
        cure: "ulimit -n 1024   in this shell, then again",
        means: NOTHING,
    },
    Row {
        call: "criu",
        errno: None,
        evidence: || true,
        cause: "CRIU could not do it; versions before 4 do not know today's kernels",
        cure: "try `sudo criu check`, which says what it misses",
        means: NOTHING,
    },
    Row {
        call: "mount(\"overlay\"",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "before Linux 5.11 only root of the host may mount an overlay",
        cure: "use a newer kernel, or run it as root",
        means: AS_ROOT,
    },
    Row {
        call: "mount(\"overlay\"",
        errno: Some(Errno::ENODEV),
        evidence: || true,
        cause: "this kernel has no overlay file system, or cannot load the module here",
        cure: "sudo modprobe overlay   (on the host, if this is a container)",
        means: "one more module is in the kernel, until the next boot",
    },
    Row {
        call: "pivot_root(",
        errno: Some(Errno::EINVAL),
        evidence: root_is_an_initramfs,
        cause: "/ is still the initramfs that this Linux booted with, and that must stay",
        cure: "run it where a disk is mounted on /, as on every installed Linux",
        means: NOTHING,
    },
    Row {
        call: "chroot(",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "this root lacks CAP_SYS_CHROOT",
        cure: "run it as an ordinary user",
        means: NOTHING,
    },
    Row {
        call: "seccomp(SECCOMP_SET_MODE_FILTER",
        errno: None,
        evidence: || true,
        cause: "this kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER)",
        cure: "use a distribution's kernel",
        means: NOTHING,
    },
    Row {
        call: "prctl(PR_SET_NO_NEW_PRIVS, 0)",
        errno: None,
        evidence: || true,
        cause: "no_new_privs is set here already, and nobody can take it back",
        cure: "run it from a shell that was not started with it, such as a new login",
        means: NOTHING,
    },
    Row {
        call: "write(1)",
        errno: Some(Errno::ENOSPC),
        evidence: || true,
        cause: "the disk or file that the output goes to is full",
        cure: "send the output somewhere else",
        means: NOTHING,
    },
    Row {
        call: "/proc/",
        errno: Some(Errno::ESRCH),
        evidence: || true,
        cause: "the process that this is about was killed from elsewhere",
        cure: "run it again",
        means: NOTHING,
    },
    Row {
        call: "(\"/proc/",
        errno: Some(Errno::ENOENT),
        evidence: proc_is_mounted,
        cause: "the process that this is about was killed from elsewhere",
        cure: "run it again",
        means: NOTHING,
    },
    Row {
        call: "waitpid(2): WTERMSIG",
        errno: None,
        evidence: || true,
        cause: "the tool was killed from elsewhere; by the kernel, if memory was short",
        cure: "run it again",
        means: NOTHING,
    },
    Row {
        call: "read(2) from the process inside",
        errno: None,
        evidence: || true,
        cause: "the process inside was killed from elsewhere",
        cure: "run it again",
        means: NOTHING,
    },
];

/// Every cause that this workbook knows, in the order in which they are looked for: the call, its
/// errno, the cause, one thing to do, and what that means for the security of the host.
pub fn causes() -> String {
    let texts = ROWS.iter().map(|Row { call, errno, cause, cure, means, .. }| {
        let errno = errno.map_or("...".to_string(), |errno| format!("-1 {errno:?}"));
        format!("call    ...{call}... = {errno}\n{}", explanation(cause, cure, means))
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn explanation(cause: &str, cure: &str, means: &str) -> String {
    let cure = cure.replace('\n', "\n        ");
    let means = if means.is_empty() { String::new() } else { format!("means   {means}\n") };
    format!("cause   {cause}\ndo      {cure}\n{means}")
}

/// The kernel and the user: "Linux 6.12 as root".
pub fn here() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    let user = if geteuid().is_root() { "root" } else { "an ordinary user" };
    format!("Linux {} as {user}", version.join("."))
}

/// What a lesson may need beyond what its program has at `main`: VmPeak of proc_pid_status(5), less
/// VmSize at the start, is half a megabyte for most, 2 MiB where a thread is made, and 17 MiB for
/// guest-demo, which puts a file system together in memory. The rest is reserve.
const MEMORY: usize = 64 << 20;

/// A program that gets no memory ends by SIGABRT, without a cause or a cure. So a lesson asks for
/// all of it once, before anything else, and gives it back.
pub fn memory_is_there() -> Result<(), Refusal> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let call = format!("mmap(NULL, {MEMORY}, ..., MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)");
    let size = NonZeroUsize::new(MEMORY).ok_or(Errno::EINVAL).named(&*call)?;
    // SAFETY: the kernel chooses where, so nothing that is in use is replaced.
    let memory = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) };
    // SAFETY: just made, of this size, and nobody has used it.
    unsafe { munmap(memory.named(&*call)?, MEMORY) }.named("munmap(2)")
}

/// How this program was started.
struct Start {
    /// As uid 0: in a new user namespace without a map nobody is.
    is_root: bool,
    /// The kinds of namespaces of which the limit was 0: `pid` for `user.max_pid_namespaces`. The
    /// limits that can be seen are those of the reader's own user namespace, and a new one begins
    /// with none; but those above it hold in it, too: namespaces(7).
    forbidden: Vec<&'static str>,
}

/// What it was when this is first called.
fn start() -> &'static Start {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    static START: OnceLock<Start> = OnceLock::new();
    let is_zero = |kind: &&str| setting(&format!("user/max_{kind}_namespaces")) == Some(0);
    START.get_or_init(|| Start {
        is_root: geteuid().is_root(),
        forbidden: KINDS.into_iter().filter(is_zero).collect(),
    })
}

impl Start {
    fn forbids(&self, kind: &str) -> bool {
        self.forbidden.contains(&kind)
    }
}

/// As many as no lesson has open at once.
const FILES: usize = 32;

/// Who looks through `/proc` and can open no more files sees nobody there. So a lesson asks for all
/// the files that it may need once, before anything else, and gives them back.
pub(crate) fn files_are_there() -> Result<(), Refusal> {
    let call = format!("open(\"/\"), {FILES} times");
    let files: io::Result<Vec<_>> = (0..FILES).map(|_| fs::File::open("/")).collect();
    files.named(call).map(drop)
}

/// The precondition of every lesson: `/proc` is there and shows our own PID namespace.
pub(crate) fn proc_is_ours() -> Result<(), Refusal> {
    start();
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

/// A soft limit of this process, `None` where there is none: proc_pid_limits(5).
fn limit(name: &str) -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Less than 32 more? The tools need up to a dozen, and tell no errno when they get none. The limit
/// is on all processes of our user, and counts their threads; or it is our cgroup's.
fn few_processes_are_left() -> bool {
    let owner = |process: &Path| fs::metadata(process).ok().map(|process| process.uid());
    let us = owner("/proc/self".as_ref());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = processes.filter(|process| owner(process) == us);
    let threads = ours.map(|process| fs::read_dir(process.join("task")).map_or(0, Iterator::count));
    limit("Max processes").is_some_and(|limit| limit < 32 + threads.sum::<usize>())
        || free_in_our_cgroup().is_some_and(|free| free < 32)
}

/// What pids.max leaves: cgroups(7). v1 has a hierarchy of that name, v2 has one for all.
fn free_in_our_cgroup() -> Option<u64> {
    let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
    ours.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = if controllers == "pids" { "pids" } else { "" };
        let folder = format!("/sys/fs/cgroup/{hierarchy}{path}");
        let number = |file| fs::read_to_string(Path::new(&folder).join(file)).ok();
        let number = |file| number(file)?.trim().parse::<u64>().ok(); // or `max`
        Some(number("pids.max")?.saturating_sub(number("pids.current")?))
    })
}

/// The profile's name, and its mode in brackets: apparmor(7). SELinux has contexts there.
fn apparmor_confines_us() -> bool {
    let profile = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    profile.trim().ends_with(" (enforce)")
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

/// The kernel's first root file system, which nothing can unmount: it is called rootfs.
fn root_is_an_initramfs() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
    roots.any(|line| line.contains(" - rootfs "))
}

/// A `/proc` may hide the processes of others: hidepid of proc(5).
pub(crate) fn proc_hides_nobody() -> Result<(), Refusal> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let on_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    let hides = mounts.lines().rfind(on_proc).is_some_and(|line| line.contains("hidepid="));
    let found = if hides { Err(Errno::EPERM) } else { Ok(()) };
    found.named("/proc/self/mountinfo: hidepid")
}

/// The first two PIDs are also those of every small PID namespace.
pub(crate) fn pid_is_above_2() -> Result<(), Refusal> {
    let found = if getpid().as_raw() > 2 { Ok(()) } else { Err(Errno::ESRCH) };
    found.named("getpid() > 2")
}

/// CRIU suspends the filters of those whom it takes down, and a process under one may not.
pub(crate) fn no_filter_is_on_us() -> Result<(), Refusal> {
    if status("Seccomp").as_deref() != Some("2") {
        return Ok(());
    }
    Err(Refusal { call: "criu dump".to_string(), errno: None, result: "a filter".to_string() })
}

/// Some programs make a file of that name where there is none.
fn null_is_missing() -> bool {
    !fs::metadata("/dev/null").is_ok_and(|null| null.file_type().is_char_device())
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
