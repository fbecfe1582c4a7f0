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
    of(1, ".exec();\n    Err(format!(\"{}: {error}\", command.display()))",
        ".status();\n    error.map(|_| 0).map_err(|error| error.to_string())",
        "exit status of the command"),
    of(1, "Command::new(command).args(arguments)",
        r#"Command::new("sh").arg("-c").arg(words.join(" ".as_ref()))"#,
        "did not get its arguments"),

    Mistake { step: 2, find: r#"did("unshare(CLONE_NEWUTS)", unshare(CloneFlags::CLONE_NEWUTS))?;"#,
        replace: "", root: "This name reached the host", ordinary: "sethostname: EPERM" },
    of(2, r#"did("sethostname", sethostname("container"))?;"#, "", "begins with a copy of the name"),

    of(3, "match forked()?", "match ForkResult::Child", "leaves its caller where it is"),
    of(3, r#"did("unshare(CLONE_NEWPID)", unshare(CloneFlags::CLONE_NEWPID))?;"#, "",
        "CLONE_NEWPID is missing"),

    of(4, r#"did("mount proc", mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NULL))?;"#, "",
        "shows the PID namespace in which it was mounted"),
    of(4, r#"Some("proc"), MsFlags"#, r#"Some("tmpfs"), MsFlags"#, "There is no proc file system"),

    Mistake { step: 5, find: r#"did("mount / private", mount(NULL, "/", NULL, private, NULL))?;"#,
        replace: "", root: "make them private", ordinary: "" },
    Mistake { step: 5, find: "MsFlags::MS_PRIVATE;", replace: "MsFlags::MS_SHARED;",
        root: "make them private", ordinary: "" },
    Mistake { step: 5, find: r#"did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;"#,
        replace: "", root: "CLONE_NEWNS is missing", ordinary: "mount / private: EPERM" },

    of(6, r#"did("uid_map", fs::write("/proc/self/uid_map", format!("0 {uid} 1")))?;"#, "drop(uid);",
        "has no map"),
    of(6, r#"format!("0 {uid} 1")"#, r#"format!("1 {uid} 1")"#, "has to be 0 for your own UID"),
    of(6, r#"did("gid_map", fs::write("/proc/self/gid_map", format!("0 {gid} 1")))"#, "Ok(drop(gid))",
        "Its group is not 0"),

    of(7, r#"did("unshare(CLONE_NEWIPC)", unshare(CloneFlags::CLONE_NEWIPC))?;"#, "",
        "CLONE_NEWIPC is missing"),
    of(7, "unshare(CloneFlags::CLONE_NEWIPC)", "unshare(CloneFlags::CLONE_NEWNET)",
        "CLONE_NEWIPC is missing"),

    of(8, r#"did("lo up", lo_up())?;"#, "", "lo is down"),
    of(8, r#"did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;"#, "",
        "lo up: EPERM"),

    of(9, r#"did("pivot_root", pivot_root(".", "."))?;"#,
        r#"return did("chroot", nix::unistd::chroot("."));"#, "chroot(2) moves a process and no mount"),
    of(9, r#"did("umount", umount2(".", MntFlags::MNT_DETACH))?;"#, "", "let go of the old root"),
    of(9, "change_root(folder)?,", r#"mount_proc(&folder.join("proc"))?,"#,
        "Its / is still the host's"),

    of(10, "match forked()? {\n        ForkResult::Child => run(words)", "match ForkResult::Child {\n        \
            ForkResult::Child => run(words)",
        "The command itself is PID 1"),
    of(10, "waitpid(None, ", "waitpid(child, ", "PID 1 waits for the command alone"),
    of(10, "let _ = kill(child, signal);", "", "SIGTERM has not reached the command"),

    of(11, r#"did("cgroup.procs", fs::write(group.join("cgroup.procs"), "0"))?;"#, "drop(group);",
        "No cgroup of its own limits it"),
    of(11, r#""pids.max"), "64""#, r#""pids.max"), "900""#, "put a lower number in pids.max"),

    of(12, "for capability in (0..64)", "for capability in (0..0)", "It can have CAP_SYS_ADMIN"),
    of(12, r#"did("prctl(PR_SET_NO_NEW_PRIVS)", set_no_new_privs())?;"#, "", "set-user-ID program"),
    of(12, "libc::SYS_seccomp, mode", "libc::SYS_getpid, mode", "No filter is on its calls"),
    of(12, "    libc::SYS_unshare,", "    libc::SYS_reboot,", "has to refuse unshare(2)."),
    of(12, "libc::SYS_clone as u32", "libc::SYS_reboot as u32", "refuse clone(2) if CLONE_NEWUSER"),
    of(12, "libc::SYS_clone3 as u32", "libc::SYS_reboot as u32", "refuse clone3(2) with any flags"),
    // A limit gives an error, too.
    of(12, "let filter = filter();",
        r#"let filter = [ret(libc::SECCOMP_RET_ALLOW)];
        did("limit", fs::write("/proc/sys/user/max_user_namespaces", "0"))?;"#,
        "EINVAL is the kernel's own answer"),
    // No mistake: a filter may also kill who calls.
    of(12, "ret(libc::SECCOMP_RET_ERRNO | errno as u32)",
        "ret(libc::SECCOMP_RET_KILL_PROCESS | errno as u32 & 0)", ""),

    of(13, "| CloneFlags::CLONE_NEWNET;", ";", "another net namespace"),
    of(13, "match forked()? {\n        ForkResult::Child => run(words),\n        ForkResult::Parent { child } \
            => wait_for(child),\n", "match ForkResult::Child {\n        _ => run(words),\n",
        "leaves the caller where it is"),
];
