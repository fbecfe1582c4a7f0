//! container-demo as a runtime: what it is asked for it does or names, what the command says is all
//! that is said, and nothing outlives it.

mod census;
mod host;
mod lessons;
mod terminal;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use census::{Census, Pidfd};
use host::{Host, User};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Pid, getegid, geteuid};
use serde_json::{Value, json};
use terminal::Pty;
use workbook::cgroups;

const LESSON: &str = "container-demo";
const USERS: [User; 2] = [User::Root, User::Ordinary];

/// A folder that goes with the test, and the turn to run something in it.
struct Folder(PathBuf, #[allow(dead_code)] std::sync::MutexGuard<'static, ()>);

impl Folder {
    fn new() -> Self {
        let turn = census::turn();
        let folder = std::env::temp_dir().join(format!("container-{}", std::process::id()));
        fs::create_dir(&folder).expect("a new temporary folder");
        Self(folder, turn)
    }

    /// A bundle with busybox in its root, and with this config.json.
    fn bundle(&self, config: &str) -> &Path {
        let bin = self.0.join("rootfs/bin");
        if !bin.exists() {
            fs::create_dir_all(&bin).expect("a folder");
            let busybox = workbook::tool::find("busybox").expect("is_here has looked");
            fs::copy(busybox, bin.join("busybox")).expect("a copy");
            symlink("busybox", bin.join("sh")).expect("a link");
        }
        fs::write(self.0.join("config.json"), config).expect("a file");
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // should it stay, the next test says so
    }
}

/// Is the lesson to be tested, and busybox there, which is what runs inside?
fn is_here() -> bool {
    let wanted = lessons::names().iter().any(|name| name == LESSON);
    let busybox = workbook::tool::find("busybox").is_ok();
    assert!(busybox || std::env::var_os("CI").is_none(), "busybox-static is not installed");
    if wanted && !busybox {
        eprintln!("not tried here: busybox is not installed");
    }
    wanted && busybox
}

/// The config.json that the program has for `--rootfs`, for a bundle of this user.
fn config_for(user: User) -> Value {
    let mut config = config();
    if user == User::Ordinary {
        let id = |of_the_user: u32| if geteuid().is_root() { 1000 } else { of_the_user };
        let map = |id| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        linux["uidMappings"] = map(id(geteuid().as_raw()));
        linux["gidMappings"] = map(id(getegid().as_raw()));
    }
    config
}

/// The same for root.
fn config() -> Value {
    let mut config: Value =
        serde_json::from_str(include_str!("../container/src/config.json")).expect("it is JSON");
    config["linux"].as_object_mut().expect("an object").remove("seccomp"); // which has a note
    config["process"]["env"] = json!(["PATH=/bin"]);
    config
}

fn command(user: User, arguments: &[&str], bundle: &Path) -> Command {
    let mut command = lessons::command(LESSON);
    command.arg("--bundle").arg(bundle).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    heeds_signals(host::run_as(&mut command, user));
    command
}

/// nohup(1), or a shell that has us in the background, makes us ignore some of them.
fn heeds_signals(command: &mut Command) {
    let heed = || {
        for heeded in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            // SAFETY: installs no handler.
            unsafe { signal(heeded, SigHandler::SigDfl) }?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only.
    unsafe { command.pre_exec(heed) };
}

fn sh(user: User, bundle: &Path, script: &str) -> Output {
    command(user, &["sh", "-c", script], bundle).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_is_all_that_is_seen_of_it() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    for user in USERS {
        let bundle = folder.bundle(&config_for(user).to_string());
        let before = Census::take(Path::new("/nonexistent"));
        for (script, status, stdout, stderr) in [
            ("exit 0", 0, "", ""),
            ("exit 42", 42, "", ""),
            ("echo out; echo err >&2; exit 1", 1, "out\n", "err\n"),
            ("kill -9 $$", 137, "", ""),
            ("kill -TERM $$", 143, "", ""),
            ("kill -40 $$", 168, "", ""),
            // An orphan is reaped, and one that still runs ends with the command.
            ("(sleep 0.1 & ); sleep 0.4; busybox ls -d /proc/[0-9]* | busybox wc -l", 0, "4\n", ""),
            ("busybox sleep 1000 & exit 3", 3, "", ""),
            ("echo \"$*$#$PATH$PWD$(busybox env | busybox wc -l)\"", 0, "0/bin/3\n", ""),
        ] {
            let output = sh(user, bundle, script);
            let seen = (output.status.code(), text(&output.stdout), text(&output.stderr));
            assert_eq!(seen, (Some(status), stdout.into(), stderr.into()), "{user:?}: {script}");
        }
        for (command_, status) in [("nosuch", 127), ("/bin", 126), ("/bin/nosuch", 127)] {
            let output = command(user, &[command_], bundle).output().expect("it starts");
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{user:?}: {said}");
            assert!(said.starts_with(&format!("{LESSON}: execve({command_:?}) = -1 E")), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        before.assert_same_within(Duration::ZERO, "container-demo");
    }
}

/// With `--system` the command is PID 1.
#[test]
fn a_system_container_has_its_own_init() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    for user in USERS {
        let bundle = folder.bundle(&config_for(user).to_string());
        for (arguments, pid) in [(&[][..], "2\n"), (&["--system"], "1\n")] {
            let arguments = [arguments, &["sh", "-c", "echo $$"]].concat();
            let output = command(user, &arguments, bundle).output().expect("it starts");
            assert_eq!(text(&output.stdout), pid, "{user:?} {arguments:?}: {output:?}");
        }
    }
}

/// Whom we are asked to tell, we tell; and the command decides what comes of it.
#[test]
fn signals_reach_the_command() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    let script = "trap 'echo got; exit 5' SIGNAL; echo ready; while :; do busybox sleep 0.05; done";
    for user in USERS {
        let bundle = folder.bundle(&config_for(user).to_string());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
            let script = script.replace("SIGNAL", signal.as_str().trim_start_matches("SIG"));
            let mut child =
                command(user, &["sh", "-c", &script], bundle).spawn().expect("it starts");
            let out = child.stdout.take().expect("a pipe");
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
            assert_eq!(lines.next().expect("a line").expect("UTF-8"), "ready");
            let pid = Pid::from_raw(child.id() as i32);
            Pidfd::open(pid).expect("it runs").send(signal);
            assert_eq!(lines.next().expect("a line").expect("UTF-8"), "got", "{user:?} {signal}");
            assert_eq!(child.wait().expect("its end").code(), Some(5), "{user:?} {signal}");
        }
    }
}

/// What the launcher had open, its environment, the host's root: nothing of it is within reach.
#[test]
fn nothing_of_the_launcher_leaks_in() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    let secret = "SECRET=launcher";
    for user in USERS {
        let bundle = folder.bundle(&config_for(user).to_string());
        for script in [
            "busybox ls /proc/self/fd | busybox wc -l", // 0, 1, 2, and the one of ls
            "busybox cat /proc/1/environ || echo refused",
            "busybox readlink /proc/1/exe || echo refused",
            "cd /proc/1/root && echo reached || echo refused",
            "cd ../../../..; busybox ls",
            "busybox env; busybox cat /proc/self/environ",
        ] {
            // Number 7 is the host's root: a shell opens it, and becomes the container.
            let mut shell = Command::new("/bin/sh");
            let line = "exec \"$@\" 7< /";
            shell.args(["-c", line, "sh"]).arg(lessons::program(LESSON));
            shell.arg("--bundle").arg(bundle).args(["sh", "-c", script]).env("SECRET", "launcher");
            let output = host::run_as(&mut shell, user).output().expect("it starts");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains(secret), "{user:?} {script}: {said}");
            match script.split_whitespace().last() {
                Some("-l") => assert_eq!(said, "4\n", "{user:?} {script}"),
                Some("refused") => assert!(said.contains("refused"), "{user:?} {script}: {said}"),
                Some("ls") => assert_eq!(said, "bin\ndev\nproc\nsys\n", "{user:?} {script}"),
                _ => {}
            }
        }
    }
}

/// A path in the root that is a symbolic link stays in the root: the host is not written to.
#[test]
fn links_in_the_root_lead_nowhere_else() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    let outside = folder.0.join("outside");
    fs::create_dir(&outside).expect("a folder");
    let mut wanted = config();
    let mounts = wanted["mounts"].as_array_mut().expect("a list");
    mounts.push(json!({ "destination": "/link/new", "type": "tmpfs", "source": "none" }));
    mounts.push(json!({ "destination": "/../../../up", "type": "tmpfs", "source": "none" }));
    let bundle = folder.bundle(&wanted.to_string());
    symlink(&outside, bundle.join("rootfs/link")).expect("a link");
    for user in USERS {
        let output = sh(user, bundle, "busybox ls /; busybox grep -c /new /proc/self/mountinfo");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0, "{user:?}: {said}");
        assert!(!Path::new("/up").exists(), "{user:?}: {said}");
    }
}

/// Before anything is created: on a host that forbids every namespace the fault is named all the
/// same.
#[test]
fn a_bad_bundle_is_refused_by_the_name_of_what_is_bad() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    let with = |pointer: &str, value: Value| {
        let mut config = config();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        match config.pointer_mut(parent).expect("a member") {
            Value::Array(list) => list[name.parse::<usize>().expect("a number")] = value,
            object => object[name] = value,
        }
        config.to_string()
    };
    let without = |pointer: &str| with(pointer, Value::Null);
    let deep = "[".repeat(100_000);
    let cases: Vec<(String, &str)> = vec![
        ("".into(), "not JSON: EOF while parsing a value at line 1"),
        ("{\n\"a\": tru}".into(), "not JSON: expected ident at line 2"),
        (config().to_string() + "}", "not JSON: trailing characters at line 1"),
        (deep, "not JSON: recursion limit exceeded at line 1"),
        ("[]".into(), "is no object"),
        ("{}".into(), "ociVersion: is missing"),
        (" ".repeat(10 << 20), "larger than 1 MiB"),
        (with("/ociVersion", json!("2.0.0")), "ociVersion: no version: 1.x is known here"),
        (with("/ociVersion", json!(1)), "ociVersion: is no string"),
        (without("/process"), "process: is missing"),
        (with("/process/args", json!([])), "process.args: names no command"),
        (with("/process/args", json!("sh")), "process.args: is no list"),
        (with("/process/args", json!([1])), "process.args[0]: is no string"),
        (with("/process/args", json!(["a\0b"])), "process.args[0]: has a zero byte"),
        (with("/process/cwd", json!("tmp")), "process.cwd: is no absolute path"),
        (with("/process/terminal", json!(true)), "process.terminal: standard input is no terminal"),
        (with("/process/user/uid", json!(-1)), "process.user.uid: is no number that fits"),
        (
            with("/process/capabilities/bounding/0", json!("CAP_X")),
            "process.capabilities.bounding[0]: no capability that is known here",
        ),
        (with("/process/rlimits/0/type", json!("RLIMIT_X")), "process.rlimits[0].type: no limit"),
        (
            with("/process/apparmorProfile", json!("x")),
            "process.apparmorProfile: is not supported: no security module",
        ),
        (without("/root"), "root: is missing"),
        (with("/root/path", json!("nosuch")), "root.path: No such file"),
        (with("/root/path", json!("../rootfs")), "root.path: leads out of the bundle"),
        (with("/root/path", json!("config.json")), "root.path: is no folder"),
        (with("/root/path", json!("link")), "root.path: a symbolic link is in it"),
        (
            with("/mounts/0/destination", json!("proc")),
            "mounts[0].destination: is no absolute path",
        ),
        (with("/mounts/0/type", json!("bind")), "mounts[0].source: No such file"),
        (with("/hooks", json!({})), "hooks: is not supported: programs of the host"),
        (with("/vm", json!({})), "vm: is not supported"),
        (with("/process.args", json!(["sh"])), "process.args: is not supported"),
        (with("/mounts/0/options/0", json!(1)), "mounts[0].options[0]: is no string"),
        (with("/mounts/0/uidMappings", json!([])), "mounts[0].uidMappings: is not supported"),
        (with("/process/rlimits/0/soft", json!(1.5)), "process.rlimits[0].soft: is no number"),
        (without("/linux"), "linux: is missing"),
        (with("/linux/namespaces/0/type", json!("x")), "linux.namespaces[0].type: no kind"),
        (
            with("/linux/namespaces/0/path", json!("/x")),
            "linux.namespaces[0].path: is not supported: to join",
        ),
        (with("/linux/namespaces", json!([])), "linux.namespaces: has no mount"),
        (with("/linux/namespaces", json!([{ "type": "mount" }])), "linux.namespaces: has no pid"),
        (
            with("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }])),
            "linux.uidMappings: a user",
        ),
        (with("/linux/sysctl", json!({ "a": "b" })), "linux.sysctl: is not supported: the kernel"),
        (with("/linux/resources", json!({ "rdma": {} })), "linux.resources.rdma: is not supported"),
    ];
    for (config, fault) in cases {
        let bundle = folder.bundle(&config);
        let _ = symlink("rootfs", bundle.join("link")); // there from the second one on
        let before = Census::take(bundle);
        let mut command = lessons::command(LESSON);
        command.arg("--bundle").arg(bundle);
        let output =
            host::run_on(&mut command, Host::NoUserNamespaces).output().expect("it starts");
        before.assert_same_within(Duration::ZERO, fault);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{fault}: {said}");
        assert!(said.contains(fault), "{fault}: {said}");
        assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{fault}: {said}");
    }
    fs::remove_file(folder.0.join("config.json")).expect("it was there");
    for missing in [folder.0.clone(), folder.0.join("nosuch")] {
        let output = command(User::Ordinary, &[], &missing).output().expect("it starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains("config.json: No such file"), "{said}");
    }
}

/// At any moment, however often: no process, no mount.
#[test]
fn killed_it_leaves_nothing() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    for user in USERS {
        let bundle = folder.bundle(&config_for(user).to_string());
        sh(user, bundle, "exit 0"); // the places of its mounts are there from now on
        for nth in 0..60 {
            let before = Census::take(bundle);
            let mut command =
                command(user, &["sh", "-c", "busybox sleep 1000 & busybox sleep 1000"], bundle);
            let mut child = command.spawn().expect("it starts");
            let pidfd =
                Pidfd::open(Pid::from_raw(child.id() as i32)).expect("nobody has waited for it");
            pidfd.ended_within(Duration::from_micros(250 * nth));
            pidfd.send(Signal::SIGKILL);
            child.wait().expect("its end");
            before.assert_same_within(Duration::from_secs(5), &format!("{user:?}, {nth}"));
        }
    }
}

/// Job control and Ctrl-C are the shell's inside, and afterwards the terminal is as it was.
#[test]
fn it_hands_over_the_terminal_and_takes_it_back() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    let bundle = folder.bundle(&config().to_string());
    for user in USERS {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-i").env("PS1", "outside> ").env_remove("ENV").current_dir(bundle);
        heeds_signals(host::run_as(&mut shell, user));
        let mut pty = Pty::start(shell).expect("a terminal");
        let mut after = |line: &str, prompt: &str| {
            pty.send(line);
            pty.until(prompt)
        };
        // The one word with many colons, of what stty(1) prints.
        let settings = |printed: &str| {
            let mut words = printed.split_whitespace().map(String::from);
            words.find(|word| word.matches(':').count() > 20).expect("what stty prints")
        };
        let run = format!("{} --rootfs rootfs", lessons::program(LESSON).display());
        let modes = settings(&after("stty -g; echo end\n", "end\n"));
        after(&format!("{run} /bin/sh\n"), "# ");
        assert!(after("busybox tty\n", "# ").contains("/dev/console"), "{user:?}");
        after("busybox sh -c 'echo slee''ping; exec busybox sleep 1000'\n", "sleeping");
        after("\x1a", "Stopped"); // Ctrl-Z
        after("kill -9 %1; wait; echo wai''ted\n", "waited");
        after("busybox sh -c 'echo asl''eep; busybox sleep 1000'\n", "asleep");
        after("\x03", "# "); // Ctrl-C
        after("busybox stty raw -echo; exit 9\n", "outside> ");
        after("echo status=$?\n", "status=9");
        assert_eq!(settings(&after("stty -g; echo end\n", "end\n")), modes, "{user:?}");
        let run = format!("{run} /bin/busybox sh -c 'echo asl''eep; busybox sleep 1000'\n");
        after(&run, "asleep");
        after("\x03", "outside> ");
        after("echo status=$?\n", "status=130");
        pty.send("exit\n");
        pty.end();
    }
}

/// Where we can have a cgroup. Elsewhere it says so, and runs all the same.
/// Where root can have such a cgroup: the one that asks for too much is killed, and of the time of
/// the processors there is as much as was asked for.
#[test]
fn memory_and_processor_time_are_limited() {
    let can = |controller| geteuid().is_root() && cgroups::try_out(&[controller]).is_ok();
    if !is_here() || !can("memory") || !can("cpu") {
        eprintln!("not tried here: limits of memory and processor time");
        return;
    }
    let folder = Folder::new();
    let mut config = config_for(User::Root);
    config["linux"]["resources"] =
        json!({ "memory": { "limit": 16 << 20 }, "cpu": { "quota": 50_000 } });
    let bundle = folder.bundle(&config.to_string());
    let before = Census::take(bundle);
    let too_much = "busybox dd if=/dev/zero of=/dev/null bs=64M count=1 2>&1; echo $?";
    let output = sh(User::Root, bundle, too_much);
    assert_eq!(text(&output.stdout).lines().last(), Some("137"), "{output:?}");

    let mut child = command(User::Root, &["sh", "-c", "echo here; read end"], bundle)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut here = String::new();
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut here).expect("a line");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(children).expect("its children"); // and who keeps the cgroup
    let cgroups = children.split_whitespace().filter_map(|pid| cgroups::of(pid, "cpu"));
    let files = cgroups.flat_map(|(at, _)| ["cpu.max", "cpu.cfs_quota_us"].map(|v| at.join(v)));
    let quotas: Vec<_> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let is_ours = |quota: &String| quota.split_whitespace().next() == Some("50000");
    assert!(quotas.iter().any(is_ours), "{quotas:?}");
    drop(child.stdin.take());
    child.wait().expect("its end");
    before.assert_same_within(Duration::from_secs(5), "a container with limits");
}

#[test]
fn limits_hold_or_are_named() {
    if !is_here() {
        return;
    }
    let folder = Folder::new();
    for user in USERS {
        let mut config = config_for(user);
        config["linux"]["resources"] = json!({ "pids": { "limit": 4 } });
        let bundle = folder.bundle(&config.to_string());
        let before = Census::take(bundle);
        // PID 1, the shell, and two more.
        let script = "for n in 1 2 3; do busybox sleep 1000 & done 2>&1; echo $!; exit 5";
        let output = sh(user, bundle, script);
        before.assert_same_within(Duration::ZERO, "a container with a limit");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let named = err.starts_with("container-demo: linux.resources: no pids.max, for ");
        let status = output.status.code();
        match err.as_str() {
            "" => assert!(out.contains("fork") && status != Some(5), "{user:?}: {out}, {status:?}"),
            _ => assert!(named && status == Some(5), "{user:?}: {out}{err}"),
        }
        let can = cgroups::try_out(&["pids"]).is_ok();
        assert!(user != User::Root || !geteuid().is_root() || !can || err.is_empty(), "{err}");

        // And killed at some moments nothing stays.
        for nth in 0..20 {
            let before = Census::take(bundle);
            let mut command = command(user, &["busybox", "sleep", "1000"], bundle);
            let mut child = command.spawn().expect("it starts");
            let pidfd =
                Pidfd::open(Pid::from_raw(child.id() as i32)).expect("nobody has waited for it");
            pidfd.ended_within(Duration::from_micros(900 * nth));
            pidfd.send(Signal::SIGKILL);
            child.wait().expect("its end");
            before.assert_same_within(Duration::from_secs(5), &format!("{user:?}, {nth}"));
        }
    }
}
