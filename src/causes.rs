//! What this workbook knows about hosts that refuse: one table, which refusals, `doctor` and the book
//! read.

use std::env;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::host::{
    apparmor_confines_our_container, apparmor_confines_us, cpu_can_virtualise,
    few_processes_are_left, group, limit, null_is_missing, our_id_is_unmapped, proc_is_covered,
    proc_is_mounted, root_is_an_initramfs, root_is_no_mount_point, setting, start, status,
};

/// One thing that hosts do. The first row that fits is what the reader is told, so rows with
/// evidence of their own come before those that only guess.
pub struct Row {
    /// A part of the call.
    pub(crate) call: &'static str,
    /// The call's errno; `None` fits every one.
    pub(crate) errno: Option<Errno>,
    /// What else this host must show.
    pub(crate) evidence: fn() -> bool,
    /// Why, on this host.
    pub cause: &'static str,
    /// One thing to do: a command to paste, or what else helps.
    pub cure: &'static str,
    /// What the cure means for the host's security.
    pub means: &'static str,
}

impl Row {
    /// The lines of a refusal that come from here.
    pub(crate) fn lines(&self) -> String {
        let Self { cause, cure, means, .. } = self;
        let cure = cure.replace('\n', "\n        ");
        let means = if means.is_empty() { String::new() } else { format!("means   {means}\n") };
        format!("cause   {cause}\ndo      {cure}\n{means}")
    }
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
            cure: "ask who administers this host: sudo aa-status   lists the profiles",
            means: NOTHING,
        }
    };
}

pub(crate) const UNKNOWN: Row = Row {
    call: "",
    errno: None,
    evidence: || true,
    cause: "not known to this workbook",
    cure: "look the errno up in the man page of the call, and please report this",
    means: NOTHING,
};

pub(crate) const ROWS: &[Row] = &[
    // What every program needs.
    Row {
        call: "",
        errno: Some(Errno::EMFILE),
        evidence: || true,
        cause: "a limit on open files is reached (ulimit -n)",
        cure: "ulimit -n 1024   in this shell, then again",
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
        call: "mmap(NULL, ",
        errno: Some(Errno::ENOMEM),
        evidence: || limit("Max address space").is_some(),
        cause: "a limit on memory (ulimit -v) leaves less than a lesson needs",
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
        call: "setrlimit(RLIMIT_AS, ",
        errno: Some(Errno::EPERM),
        evidence: || limit("Max address space").is_some(),
        cause: "a limit on memory (ulimit -v) is lower than the one that is set here",
        cure: "use a shell without that limit: `ulimit -v` shows it",
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
        call: "execve(\"cat\")", // std opens it for the program's input
        errno: Some(Errno::ENOENT),
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo rm -f /dev/null; sudo mknod --mode=666 /dev/null c 1 3",
        means: NOTHING,
    },
    Row {
        call: "\"/dev/null\"",
        errno: Some(Errno::ENOENT),
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo rm -f /dev/null; sudo mknod --mode=666 /dev/null c 1 3",
        means: NOTHING,
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
        call: "write(1)",
        errno: Some(Errno::ENOSPC),
        evidence: || true,
        cause: "the disk or file that the output goes to is full",
        cure: "send the output somewhere else",
        means: NOTHING,
    },
    // Programs that are not installed.
    Row {
        call: "execve(\"/bin/sh\")",
        errno: None,
        evidence: || true,
        cause: "neither $SHELL nor /bin/sh can be run here",
        cure: "set SHELL to a shell that this host has, or leave --shell out",
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
        call: "execve(\"busybox\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "busybox, the programs of a small container, is not installed",
        cure: "sudo apt-get install busybox-static",
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
        call: "execve(\"criu\")",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "CRIU is not installed",
        cure: "sudo apt-get install criu   (version 4 or newer: Debian 13)",
        means: NOTHING,
    },
    Row {
        call: "execve(\"cargo\")", // builds the reader's own package
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "cargo, which builds a package, is not in your PATH",
        cure: "start the workbook with: cargo run",
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
    // LXC.
    Row {
        call: "lxc-",
        errno: None,
        evidence: few_processes_are_left,
        cause: "a limit on processes (ulimit -u, pids.max) leaves too few for LXC",
        cure: "end some of your processes, or raise the limit",
        means: NOTHING,
    },
    Row {
        call: "lxc-",
        errno: None,
        evidence: null_is_missing,
        cause: "there is no /dev/null here, which every program expects",
        cure: "sudo rm -f /dev/null; sudo mknod --mode=666 /dev/null c 1 3",
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
        cure: "lxc-checkconfig   says what it misses",
        means: NOTHING,
    },
    // qemu, and the kernel that it boots.
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
        evidence: few_processes_are_left,
        cause: "a limit on processes (ulimit -u, with threads) leaves too few for qemu",
        cure: "end some of your processes, or raise the limit",
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
    // The checker.
    Row {
        call: "geteuid() > 0",
        errno: None,
        evidence: || true,
        cause: "you are root, and root is root inside without a user namespace, too",
        cure: "check it as an ordinary user",
        means: NOTHING,
    },
    Row {
        call: "mkdir(\"workbook",
        errno: None,
        evidence: || true,
        cause: "the cgroup that you are in has not been handed over to you",
        cure: "in a shell of: systemd-run --user --scope -p Delegate=yes bash",
        means: NOTHING,
    },
    Row {
        call: "mkdir(\"",
        errno: Some(Errno::EACCES),
        evidence: || true,
        cause: "the folder in which that would be is not yours",
        cure: "name a folder in one that is yours",
        means: NOTHING,
    },
    Row {
        call: "mkdir(\"",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "the folder in which that would be is not there, or takes no folders",
        cure: "name a folder in one that is yours",
        means: NOTHING,
    },
    // CRIU.
    Row {
        call: "CapEff",
        errno: None,
        evidence: || true,
        cause: "the lesson needs root of the host: a user namespace gives too little",
        cure: "cargo build && sudo target/debug/criu-demo", // the one lesson that says so
        means: AS_ROOT,
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
        call: "criu",
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
        cure: "sudo criu check   says what it misses",
        means: NOTHING,
    },
    // KVM.
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
        means: "you then reach KVM, kernel code that only root and that group reached",
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
        means: "the container then reaches KVM, code of the host's kernel; nothing else",
    },
    Row {
        call: "open(\"/dev/kvm\")",
        errno: None,
        evidence: cpu_can_virtualise,
        cause: "the CPU can, but KVM is not loaded, or not given to this container",
        cure: "sudo modprobe kvm_intel || sudo modprobe kvm_amd\n\
               (in a container: start it with `docker run --device /dev/kvm`)",
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
    // User namespaces and their maps.
    Row {
        call: "/proc/self/",
        errno: Some(Errno::EROFS),
        evidence: || true,
        cause: "/proc is mounted read-only, so a user namespace cannot get its map",
        cure: "in a container: start it with `docker run --privileged`",
        means: PRIVILEGED,
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
    Row {
        call: "CLONE_NEWUSER",
        errno: Some(Errno::EPERM),
        evidence: root_is_no_mount_point,
        cause: "we are in a chroot, where nobody may make a user namespace",
        cure: "run it outside the chroot",
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
    // Limits on namespaces.
    Row {
        call: "/proc/sys/",
        errno: Some(Errno::EROFS),
        evidence: || true,
        cause: "/proc/sys is mounted read-only, as in Docker, so no limit can be set",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
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
        cure: "end some containers, or leave the namespaces that this shell is in",
        means: NOTHING,
    },
    // File systems and mounts.
    Row {
        call: "open(\"/proc/1/",
        errno: Some(Errno::ENOENT),
        evidence: || true,
        cause: "/proc hides the processes of others: it is mounted with hidepid",
        cure: "run it as root",
        means: AS_ROOT,
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
        call: "mount(\"proc\"",
        errno: Some(Errno::EPERM),
        evidence: proc_is_covered,
        cause: "parts of /proc are covered here, as in Docker, and must not be uncovered",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
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
        cure: "sudo mkdir --mode=1777 /dev/shm",
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
        call: "pivot_root(",
        errno: Some(Errno::EINVAL),
        evidence: root_is_an_initramfs,
        cause: "/ is still the initramfs that this Linux booted with, and that must stay",
        cure: "run it where a disk is mounted on /, as on every installed Linux",
        means: NOTHING,
    },
    // Guards that stand before any call.
    Row {
        call: "",
        errno: Some(Errno::EPERM),
        evidence: || status("Seccomp").as_deref() == Some("2"),
        cause: "a seccomp filter forbids it, as Docker's default profile does",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "",
        errno: Some(Errno::EACCES),
        evidence: apparmor_confines_our_container,
        cause: "the AppArmor profile of containers forbids it, as Docker's does a mount",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    apparmor!("", Errno::EPERM),
    apparmor!("", Errno::EACCES),
    // Who may make namespaces, mounts and roots.
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
        call: "mount(\"sysfs\"",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "/sys is read-only or partly covered here, as in Docker, and must stay so",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
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
        call: "prctl(PR_SET_NO_NEW_PRIVS, 0)",
        errno: None,
        evidence: || true,
        cause: "no_new_privs is set here already, and nobody can take it back",
        cure: "run it from a shell that was not started with it, such as a new login",
        means: NOTHING,
    },
    // What a kernel lacks.
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
        call: "clone3(",
        errno: Some(Errno::ENOSYS),
        evidence: || status("Seccomp").as_deref() == Some("2"),
        cause: "a seccomp filter hides clone3(2), as Docker's default profile does",
        cure: "start the container with `docker run --privileged`",
        means: PRIVILEGED,
    },
    Row {
        call: "clone3(",
        errno: Some(Errno::ENOSYS),
        evidence: || true,
        cause: "this kernel has no clone3(2): Linux 5.3 has",
        cure: "use a newer kernel",
        means: NOTHING,
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
        call: "MODE_FILTER", // of seccomp(2), or of prctl(2)
        errno: None,
        evidence: || true,
        cause: "this kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER)",
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
        call: "mount(\"overlay\"",
        errno: Some(Errno::ENODEV),
        evidence: || true,
        cause: "this kernel has no overlay file system, or cannot load the module here",
        cure: "sudo modprobe overlay   (on the host, if this is a container)",
        means: "one more module is in the kernel, until the next boot",
    },
    Row {
        call: "mount(\"overlay\"",
        errno: Some(Errno::EPERM),
        evidence: || true,
        cause: "before Linux 5.11 only root of the host may mount an overlay",
        cure: "use a newer kernel, or run it as root",
        means: AS_ROOT,
    },
    // What was killed from elsewhere.
    Row {
        call: "fork",
        errno: Some(Errno::ENOMEM),
        evidence: || true,
        cause: "PID 1 of the new PID namespace was killed from elsewhere (see init-demo)",
        cure: "run it again",
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
    // A process that is ending has no memory any more, and only root may look at such a one's.
    Row {
        call: "/ns",
        errno: Some(Errno::EACCES),
        evidence: || true,
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
pub fn list() -> String {
    let texts = ROWS.iter().map(|row| {
        let call = if row.call.is_empty() { "" } else { &format!("{}...", row.call) };
        let errno = row.errno.map_or("...".to_string(), |errno| format!("-1 {errno:?}"));
        format!("call    ...{call} = {errno}\n{}", row.lines())
    });
    texts.collect::<Vec<_>>().join("\n")
}
