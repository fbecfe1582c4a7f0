//! The tools, and what each isolates.

use super::host::User::{self, Ordinary, Root};

/// A tool with all that it has.
pub struct Tool {
    /// What the book calls it.
    pub name: &'static str,
    /// What has to be installed.
    pub program: &'static str,
    /// What comes before the command, from the workbook's folder.
    pub words: &'static str,
    /// How one enters its container.
    pub enter: &'static str,
    /// The steps that it does not pass all the same.
    pub fails: &'static str,
    /// Those of its words that take a cgroup, which an ordinary user seldom has.
    pub cgroup: &'static str,
    /// Does it want the host's root?
    pub is_for_root: bool,
    pub left_out: &'static [LeftOut],
}

/// Words that are left out, and what that costs.
pub struct LeftOut {
    /// Who tries it.
    pub user: User,
    /// The words.
    pub out: &'static str,
    /// What is there instead.
    pub instead: &'static str,
    /// The option of nsenter(1) for the namespace that there is not now.
    pub namespace: &'static str,
    /// The steps that it does not pass any more.
    pub fails: &'static str,
}

const fn without(
    user: User,
    out: &'static str,
    namespace: &'static str,
    fails: &'static str,
) -> LeftOut {
    LeftOut { user, out, instead: "", namespace, fails }
}

macro_rules! nsenter {
    ($user:literal) => {
        concat!("nsenter --target {pid} ", $user, "--mount --uts --ipc --net --pid --root")
    };
}

/// One's own user namespace first, and in it the right to enter the others.
const ENTER: &str = nsenter!("--user --preserve-credentials ");
const ENTER_BY_ROOT: &str = nsenter!("");

#[rustfmt::skip] // a row each
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "unshare",
        program: "unshare",
        words: "unshare --map-root-user --mount --uts --ipc --net --pid --fork --kill-child \
                --mount-proc --root {rootfs}",
        enter: ENTER,
        fails: "net rootfs init limits powers",
        cgroup: "",
        is_for_root: false,
        left_out: &[
            without(Ordinary, "--uts", "--uts", "hostname"),
            without(Ordinary, "--fork --kill-child --mount-proc", "--pid", "pid proc"),
            without(Ordinary, "--mount-proc", "", "proc"),
            LeftOut { user: Root, out: "--map-root-user --mount",
                instead: "--mount --propagation unchanged",
                namespace: "--user --preserve-credentials", fails: "mounts" },
            LeftOut { user: Ordinary, out: "--map-root-user", instead: "--user", namespace: "",
                fails: "root" },
            without(Ordinary, "--ipc", "--ipc", "ipc"),
        ],
    },
    Tool {
        name: "bwrap",
        program: "bwrap",
        words: "exercises/tests/tools/with-filter bwrap --unshare-user --uid 0 --gid 0 \
                --unshare-uts --unshare-ipc --unshare-net --unshare-pid --cap-drop ALL \
                --seccomp 9 --bind {rootfs} / --proc /proc",
        enter: ENTER,
        fails: "init limits",
        cgroup: "",
        is_for_root: false,
        left_out: &[
            without(Ordinary, "--unshare-uts", "--uts", "hostname"),
            without(Ordinary, "--unshare-pid", "--pid", "pid proc"),
            without(Ordinary, "--proc /proc", "", "proc"),
            without(Ordinary, "--uid 0 --gid 0", "", "root"),
            without(Ordinary, "--unshare-ipc", "--ipc", "ipc"),
            without(Ordinary, "--unshare-net", "--net", "net"),
            without(Root, "--cap-drop ALL", "", "powers"),
            without(Ordinary, "--seccomp 9", "", "powers"),
        ],
    },
    Tool {
        name: "lxc-execute",
        program: "lxc-execute",
        words: "exercises/tests/tools/in-a-room lxc-execute -P /dev/shm -n box -f /dev/null \
                -s lxc.rootfs.path=dir:{rootfs} -s lxc.mount.auto=proc:rw \
                -s lxc.net.0.type=empty -s lxc.net.0.flags=up -s lxc.console.path=none \
                -s lxc.tty.max=0 -s lxc.pty.max=0 -s lxc.cap.drop=sys_admin \
                -s lxc.no_new_privs=1 -s lxc.seccomp.profile=exercises/tests/tools/lxc-seccomp \
                -s lxc.cgroup.pids.max=64 -s lxc.cgroup2.pids.max=64 --",
        enter: ENTER_BY_ROOT,
        fails: "",
        cgroup: "",
        is_for_root: true,
        left_out: &[
            without(Root, "-s lxc.mount.auto=proc:rw", "", "proc"),
            without(Root, "-s lxc.net.0.flags=up", "", "net"),
            without(Root, "-s lxc.cgroup.pids.max=64 -s lxc.cgroup2.pids.max=64", "", "limits"),
            without(Root, "-s lxc.cap.drop=sys_admin", "", "powers"),
            without(Root, "-s lxc.no_new_privs=1", "", "powers"),
            without(Root, "-s lxc.seccomp.profile=exercises/tests/tools/lxc-seccomp", "", "powers"),
        ],
    },
    Tool {
        name: "runc",
        program: "runc",
        words: "exercises/tests/tools/oci runc {rootfs} user uts ipc network pid proc pids seccomp \
                no_new_privs --",
        enter: "exercises/tests/tools/oci runc --exec",
        fails: "init",
        cgroup: "pids",
        is_for_root: false,
        left_out: &[
            without(Ordinary, "uts", "", "hostname"),
            without(Ordinary, "ipc", "", "ipc"),
            without(Ordinary, "network", "", "net"),
            without(Root, "pids", "", "limits"),
            without(Ordinary, "seccomp", "", "powers"),
            without(Ordinary, "no_new_privs", "", "powers"),
        ],
    },
    Tool {
        name: "crun",
        program: "crun",
        words: "exercises/tests/tools/with-cgroup2 exercises/tests/tools/oci crun {rootfs} user uts \
                ipc network pid proc seccomp no_new_privs --",
        enter: "exercises/tests/tools/oci crun --exec",
        fails: "init limits",
        cgroup: "",
        is_for_root: true,
        left_out: &[
            without(Root, "uts", "", "hostname"),
            without(Root, "ipc", "", "ipc"),
            without(Root, "network", "", "net"),
            without(Root, "seccomp", "", "powers"),
            without(Root, "no_new_privs", "", "powers"),
        ],
    },
    Tool {
        name: "systemd-nspawn",
        program: "systemd-nspawn",
        words: "exercises/tests/tools/nspawn {rootfs} --as-pid2 --private-network \
                --drop-capability=CAP_SYS_ADMIN --no-new-privileges=yes \
                --system-call-filter=~unshare",
        enter: ENTER_BY_ROOT,
        fails: "init limits powers",
        cgroup: "",
        is_for_root: true,
        left_out: &[without(Root, "--private-network", "--net", "net")],
    },
    Tool {
        name: "container-demo",
        program: "sh", // which its wrapper is for; it is built here
        words: "exercises/tests/tools/oci target/debug/container-demo {rootfs} user uts ipc network \
                pid proc pids seccomp no_new_privs --",
        enter: ENTER,
        fails: "",
        cgroup: "pids",
        is_for_root: false,
        left_out: &[
            without(Ordinary, "uts", "--uts", "hostname"),
            without(Ordinary, "proc", "", "proc"),
            without(Ordinary, "ipc", "--ipc", "ipc"),
            without(Ordinary, "network", "--net", "net"),
            without(Root, "pids", "", "limits"),
            without(Ordinary, "seccomp", "", "powers"),
            without(Ordinary, "no_new_privs", "", "powers"),
        ],
    },
];
