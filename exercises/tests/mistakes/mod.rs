//! What readers typically get wrong, as edits of the worked programs in Rust.

use exercises::solutions::cut;

/// An edit, and what the checker says of the program then.
pub struct Mistake {
    /// Of this step.
    pub step: usize,
    /// What the worked program has, once.
    pub find: &'static str,
    /// What is there instead.
    replace: &'static str,
    /// Words of the checker's, for root.
    pub root: &'static str,
    /// And for an ordinary user. Empty if it is none for them.
    pub ordinary: &'static str,
}

impl Mistake {
    /// The program.
    pub fn made(&self) -> String {
        let right = cut("rust", self.step);
        assert_eq!(right.matches(self.find).count(), 1, "{}: {:?}", self.step, self.find);
        right.replace(self.find, self.replace)
    }
}

/// The same words for both.
const fn of(
    step: usize,
    find: &'static str,
    replace: &'static str,
    words: &'static str,
) -> Mistake {
    Mistake { step, find, replace, root: words, ordinary: words }
}

/// All of them, by steps.
#[rustfmt::skip] // a row each
pub const MISTAKES: &[Mistake] = &[
    of(1, ".args(arguments).exec();\n    Err(format!(\"{}: {error}\", command.display()))",
        ".args(arguments).status();\n    error.map(|_| 0).map_err(|error| error.to_string())",
        "exit status of the command"),
    of(1, "Command::new(command).args(arguments)",
        "Command::new(\"sh\").arg(\"-c\").arg(words.join(std::ffi::OsStr::new(\" \")))",
        "did not get its arguments"),
    Mistake { step: 2,
        find: "    did(\"unshare(CLONE_NEWUTS)\", unshare(CloneFlags::CLONE_NEWUTS))?;\n", replace: "",
        root: "This name reached the host", ordinary: "sethostname: EPERM" },
    of(2, "    did(\"sethostname\", sethostname(\"container\"))?;\n", "", "begins with a copy of the name"),
    of(3, "ForkResult::Child => inside(words),\n        ForkResult::Parent { child } => wait_for(child),",
        "ForkResult::Child => Ok(0),\n        ForkResult::Parent { child } => { wait_for(child)?; inside(words) }",
        "leaves its caller where it is"),
    of(3, "    did(\"unshare(CLONE_NEWPID)\", unshare(CloneFlags::CLONE_NEWPID))?;\n", "",
        "CLONE_NEWPID is missing"),
    of(4, "    did(\"mount proc\", mount(Some(\"proc\"), \"/proc\", Some(\"proc\"), MsFlags::empty(), NULL))?;\n",
        "", "shows the PID namespace in which it was mounted"),
    of(4, "Some(\"proc\"), MsFlags", "Some(\"tmpfs\"), MsFlags", "There is no proc file system"),
    Mistake { step: 5,
        find: "    did(\"mount / private\", mount(NULL, \"/\", NULL, private, NULL))?;\n", replace: "",
        root: "make them private", ordinary: "" },
    Mistake { step: 5,
        find: "    did(\"unshare(CLONE_NEWNS)\", unshare(CloneFlags::CLONE_NEWNS))?;\n", replace: "",
        root: "CLONE_NEWNS is missing", ordinary: "mount / private: EPERM" },
    Mistake { step: 5, find: "MsFlags::MS_PRIVATE;", replace: "MsFlags::MS_SHARED;",
        root: "make them private", ordinary: "" },
    of(6, "    did(\"uid_map\", fs::write(\"/proc/self/uid_map\", format!(\"0 {uid} 1\")))?;\n", "",
        "has no map"),
    of(6, "format!(\"0 {uid} 1\")", "format!(\"1 {uid} 1\")", "has to be 0 for your own UID"),
    of(6, "did(\"gid_map\", fs::write(\"/proc/self/gid_map\", format!(\"0 {gid} 1\")))",
        "Ok(drop(gid))", "Its group is not 0"),
    of(7, "    did(\"unshare(CLONE_NEWIPC)\", unshare(CloneFlags::CLONE_NEWIPC))?;\n", "",
        "CLONE_NEWIPC is missing"),
    of(7, "unshare(CloneFlags::CLONE_NEWIPC)", "unshare(CloneFlags::CLONE_NEWNET)",
        "CLONE_NEWIPC is missing"),
    of(8, "    did(\"lo up\", lo_up())?;\n", "", "lo is down"),
    of(8, "    did(\"unshare(CLONE_NEWNET)\", unshare(CloneFlags::CLONE_NEWNET))?;\n", "", "lo up: EPERM"),
    of(9, "did(\"pivot_root\", pivot_root(\".\", \".\"))?; // the old root is now mounted over the new one\n    \
        did(\"umount\", umount2(\".\", MntFlags::MNT_DETACH))?;",
        "did(\"chroot\", nix::unistd::chroot(\".\"))?;", "chroot(2) moves a process and no mount"),
    of(9, "    did(\"umount\", umount2(\".\", MntFlags::MNT_DETACH))?;\n", "", "MNT_DETACH"),
    of(9, "Some(folder) => change_root(folder)?,", "Some(folder) => mount_proc(&folder.join(\"proc\"))?,",
        "Its / is still the host's"),
    of(10, "waitpid(None, ", "waitpid(child, ", "PID 1 waits for the command alone"),
    of(10, "// SAFETY: as above.\n    match did(\"fork\", unsafe { fork() })? {\n        ForkResult::Child => run(words),\n        ForkResult::Parent { child } => wait_for(child), // as PID 1\n    }",
        "run(words)", "The command itself is PID 1"),
    of(10, "let _ = kill(child, signal);", "", "SIGTERM has not reached the command"),
    of(11, "        did(\"cgroup.procs\", fs::write(group.join(\"cgroup.procs\"), \"0\"))?; // 0: who writes it\n", "",
        "No cgroup of its own limits it"),
    of(11, "\"pids.max\"), \"64\"", "\"pids.max\"), \"900\"", "put a lower number in pids.max"),
    of(12, "    did(\"prctl(PR_SET_NO_NEW_PRIVS)\", set_no_new_privs())?;\n", "", "set-user-ID program"),
    of(12, "!KEPT.contains(capability)", "capability % 64 > 40 && !KEPT.contains(capability)",
        "It can have CAP_SYS_ADMIN"),
    of(12, "libc::syscall(libc::SYS_seccomp, mode", "libc::syscall(libc::SYS_getpid, mode",
        "No filter is on its calls"),
    of(12, "    libc::SYS_unshare,\n", "    libc::SYS_reboot,\n", "gives it every capability again"),
    of(13, "\n        | CloneFlags::CLONE_NEWNET;", ";", "another net namespace"),
    of(13, "        ForkResult::Child => {\n            did(\"prctl(PR_SET_PDEATHSIG)\", set_pdeathsig(Signal::SIGKILL))?;\n            run(words)\n        }\n        ForkResult::Parent { child } => wait_for(child),",
        "        ForkResult::Child => Ok(0),\n        ForkResult::Parent { child } => { wait_for(child)?; run(words) }",
        "leaves the caller where it is"),
];
