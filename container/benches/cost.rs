//! What a container costs: from start to reap of `true`, in the same root and the same namespaces,
//! by container-demo, by a C program that makes the same calls and nothing else, and by other tools.
//!
//! `cargo bench -p container` measures as whoever runs it, root or an ordinary user, and prints
//! tables in Markdown: book/src/what-a-container-costs.md shows those in benches/root.md and
//! benches/user.md. `ROUNDS=300` sets how many rounds. Each round runs everybody once, in turn, so
//! that a busy moment of the machine is everybody's: what counts is the ratio in the same round.
//!
//! It needs cc(1) with a static libc, and takes those of the other tools that are installed.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use nix::libc::{self, c_int};
use nix::unistd::{getegid, geteuid};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TRUE: &str = "int main(void) { return 0; }";
/// Says that it is there, and stays.
const STAY: &str =
    "#include <unistd.h>\nint main(void) { write(1, \"\\n\", 1); for (;;) pause(); }";

/// What is built and laid out for the run. It goes with us.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // should it stay, it harms nobody
    }
}

/// A name, and the words of its command line.
type Contestant = (&'static str, Vec<String>);

fn main() -> Result<()> {
    // cargo test --all-targets runs it too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let folder = Folder(env::temp_dir().join(format!("container-cost-{}", process::id())));
    let programs = build(&folder.0)?;
    let rounds = env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let user = if geteuid().is_root() { "root" } else { "an ordinary user" };
    println!("Measured on {}, as {user}, in {rounds} rounds.", machine()?);
    println!("\n### Each namespace alone, as {user}\n");
    namespaces(rounds)?;
    for whole in [false, true] {
        for net in [true, false] {
            let what = if whole { "All that container-demo has" } else { "A root and /proc" };
            let with = if net { "with" } else { "without" };
            println!("\n### {what}, as {user}, {with} a network namespace\n");
            let all = contestants(&folder.0, &programs, (whole, net), "/bin/true")?;
            compare(&folder.0, all, rounds)?;
        }
    }
    println!("\n### Many alive at once, as {user}\n");
    many(&folder.0, &programs)?;
    println!("\n### pid-demo, and the same in C, as {user}\n");
    let lesson = programs.lesson.display().to_string();
    let c = folder.0.join("pid").display().to_string();
    compare(&folder.0, vec![("in C", vec![c]), ("pid-demo", vec![lesson])], rounds)
}

/// Our programs: as `cargo build --release` makes it, and linked so that nothing is left to do at
/// its start; and pid-demo.
struct Programs {
    ours: PathBuf,
    fixed: PathBuf,
    lesson: PathBuf,
}

fn build(folder: &Path) -> Result<Programs> {
    let root = folder.join("rootfs");
    for place in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(place))?;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    cc(&sources.join("raw.c"), &folder.join("raw"), &["-static"])?;
    cc(&sources.join("peak.c"), &folder.join("peak"), &["-static"])?;
    cc(&sources.join("pid.c"), &folder.join("pid"), &[])?;
    for (name, source) in [("true", TRUE), ("stay", STAY)] {
        let file = folder.join(name).with_extension("c");
        fs::write(&file, source)?;
        cc(&file, &root.join("bin").join(name), &["-static"])?;
    }
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_container-demo"));
    let release = ours.parent().ok_or("no folder")?;
    let target = release.parent().ok_or("no folder")?;
    cargo(target, &["--release", "--bin", "pid-demo"])?;
    let fixed = r#"build.rustflags=["-Ctarget-feature=+crt-static","-Crelocation-model=static"]"#;
    cargo(
        &target.join("static"),
        &["--profile", "small", "--bin", "container-demo", "--config", fixed],
    )?;
    let fixed = target.join("static/small/container-demo");
    Ok(Programs { lesson: release.join("pid-demo"), ours, fixed })
}

fn cc(source: &Path, program: &Path, how: &[&str]) -> Result<()> {
    let mut cc = Command::new("cc");
    let built = cc.args(["-O2", "-w"]).args(how).arg("-o").arg(program).arg(source).status()?;
    if built.success() { Ok(()) } else { Err(format!("cc {}", source.display()).into()) }
}

fn cargo(target: &Path, what: &[&str]) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--manifest-path"]).arg(manifest).args(what);
    let built = cargo.arg("--target-dir").arg(target).status()?;
    if built.success() { Ok(()) } else { Err(format!("cargo build {what:?}").into()) }
}

fn machine() -> Result<String> {
    let (cpu, kernel) = (fs::read_to_string("/proc/cpuinfo")?, "/proc/sys/kernel/osrelease");
    let kernel = fs::read_to_string(kernel)?;
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": a CPU");
    let cpu = cpu.trim_start_matches(['\t', ':', ' ']);
    let count = std::thread::available_parallelism()?;
    let date = String::from_utf8(Command::new("date").arg("+%F").output()?.stdout)?;
    Ok(format!("{}, on Linux {kernel}, {count} cores of an {cpu}", date.trim()))
}

/// Who makes a container of this root and runs this command in it. The C program comes first.
fn contestants(
    folder: &Path,
    programs: &Programs,
    (whole, net): (bool, bool),
    command: &str,
) -> Result<Vec<Contestant>> {
    let is_root = geteuid().is_root();
    let (root, bundle) = (folder.join("rootfs"), bundle(folder, (whole, net), command)?);
    let (root, bundle) = (root.display(), bundle.display());
    let words = |line: String| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    let (task, user) = (if whole { "whole" } else { "small" }, u8::from(!is_root));
    let ours = |program: &Path| words(format!("{} --bundle {bundle}", program.display()));
    let mut all = vec![
        (
            "C",
            words(format!(
                "{}/raw {task} {} {user} {root} {command}",
                folder.display(),
                u8::from(net)
            )),
        ),
        ("container-demo, static", ours(&programs.fixed)),
        ("the same without an init", [ours(&programs.fixed), vec!["--system".into()]].concat()),
        ("container-demo", ours(&programs.ours)),
    ];
    let (unshare_net, bwrap_net) = if net { ("--net", "--unshare-net") } else { ("", "") };
    if !whole {
        let user = if is_root { "" } else { "--map-root-user" };
        all.push((
            "unshare(1)",
            words(format!(
                "unshare {user} --mount --pid --fork --uts --ipc --cgroup {unshare_net} \
                 --kill-child --root={root} --mount-proc {command}"
            )),
        ));
    }
    let dev = if whole { "--dev /dev" } else { "" };
    all.push((
        "bubblewrap",
        words(format!(
            "bwrap --unshare-user-try --unshare-pid --unshare-uts --unshare-ipc \
             --unshare-cgroup-try {bwrap_net} --die-with-parent --bind {root} / --proc /proc {dev} \
             --hostname container {command}"
        )),
    ));
    if whole {
        let id = process::id();
        for runtime in ["runc", "crun --cgroup-manager=disabled"] {
            let line = format!("{runtime} --root {bundle}/state run --bundle {bundle} cost-{id}");
            all.push((runtime.split(' ').next().unwrap_or_default(), words(line)));
        }
        let config = lxc(folder, net)?;
        let line = format!("lxc-execute -q -P {} -n cost", folder.display());
        all.push(("lxc-execute", words(format!("{line} -f {} -- {command}", config.display()))));
    }
    Ok(all)
}

fn lxc(folder: &Path, net: bool) -> Result<PathBuf> {
    let kind = if net { "empty" } else { "none" };
    let mut config = format!(
        "lxc.rootfs.path = dir:{}/rootfs\nlxc.net.0.type = {kind}\nlxc.mount.auto = proc:rw\n\
         lxc.autodev = 1\nlxc.console.path = none\nlxc.tty.max = 0\nlxc.pty.max = 0\n\
         lxc.apparmor.profile = unconfined\n",
        folder.display()
    );
    if !geteuid().is_root() {
        write!(config, "lxc.idmap = u 0 {} 1\nlxc.idmap = g 0 {} 1\n", geteuid(), getegid())?;
    }
    let file = folder.join("lxc.conf");
    fs::write(&file, config)?;
    Ok(file)
}

/// A bundle with this root: a config.json that asks for /proc alone, or for what container-demo has
/// without one.
fn bundle(folder: &Path, (whole, net): (bool, bool), command: &str) -> Result<PathBuf> {
    let bundle = folder.join(format!("{whole}-{net}"));
    let mut config: serde_json::Value = serde_json::from_str(include_str!("../src/config.json"))?;
    config["process"]["args"] = [command].into();
    config["root"] = serde_json::json!({ "path": folder.join("rootfs").to_str() });
    let linux = &mut config["linux"];
    linux["seccomp"].take(); // runc's filter would be another
    let of_kind = |kind: &'static str| move |one: &serde_json::Value| one["type"] == kind;
    if !net {
        let namespaces = linux["namespaces"].as_array_mut().ok_or("no namespaces")?;
        namespaces.retain(|namespace| !of_kind("network")(namespace));
    }
    if !geteuid().is_root() {
        let map = |id: u32| serde_json::json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        linux["uidMappings"] = map(geteuid().as_raw());
        linux["gidMappings"] = map(getegid().as_raw());
        let namespaces = linux["namespaces"].as_array_mut().ok_or("no namespaces")?;
        namespaces.push(serde_json::json!({ "type": "user" }));
    }
    if !whole {
        linux["maskedPaths"].take();
        linux["readonlyPaths"].take();
    }
    let mounts = config["mounts"].as_array_mut().ok_or("no mounts")?;
    // Who does not own the network namespace may not mount sysfs.
    mounts.retain(
        |mount| if whole { net || !of_kind("sysfs")(mount) } else { of_kind("proc")(mount) },
    );
    fs::create_dir_all(&bundle)?;
    fs::write(bundle.join("config.json"), config.to_string())?;
    Ok(bundle)
}

/// What one run took.
fn run((name, words): &Contestant) -> Result<Duration> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let status = child.wait()?;
    let time = start.elapsed();
    let said = io::read_to_string(child.stderr.take().ok_or("no pipe")?)?;
    let why = || format!("{name}: {}", said.lines().last().unwrap_or("no word"));
    if status.success() { Ok(time) } else { Err(why().into()) }
}

/// The most that one of its processes had in memory, in kB.
fn peak(peak: &Path, (_, words): &Contestant) -> Result<u64> {
    let mut command = Command::new(peak);
    let said = command.args(words).stdin(Stdio::null()).output()?.stderr;
    Ok(String::from_utf8(said)?.lines().last().ok_or("no word")?.parse()?)
}

fn compare(folder: &Path, mut all: Vec<Contestant>, rounds: usize) -> Result<()> {
    let mut not_here = Vec::new();
    all.retain(|one| match run(one).and_then(|_| run(one)) {
        Ok(_) => true,
        Err(error) => {
            not_here.push(format!("{}: {error}", one.0));
            false
        }
    });
    #[derive(Clone, Default)]
    struct Came {
        times: Vec<f64>,
        ratios: Vec<f64>,
        failed: usize,
    }
    let mut came = vec![Came::default(); all.len()];
    for _ in 0..rounds {
        let first = run(&all[0])?.as_secs_f64();
        for (nth, (one, came)) in all.iter().zip(&mut came).enumerate() {
            let time = if nth == 0 { Ok(first) } else { run(one).map(|time| time.as_secs_f64()) };
            match time {
                Ok(time) => {
                    came.times.push(time * 1e3);
                    came.ratios.push(time / first);
                }
                Err(_) => came.failed += 1,
            }
        }
    }
    println!("| | median | half of the runs | ratio to C | largest process |");
    println!("|---|---|---|---|---|");
    for (one, came) in all.iter().zip(&mut came) {
        let [quarter, median, three] = quartiles(&mut came.times);
        let [_, ratio, _] = quartiles(&mut came.ratios);
        let (name, peak) = (one.0, peak(&folder.join("peak"), one)?);
        println!(
            "| {name} | {median:.2} ms | {quarter:.2} to {three:.2} | {ratio:.2} | {peak} kB |"
        );
        if came.failed > 0 {
            not_here.push(format!("{name}, {} times, on which it failed", came.failed));
        }
    }
    not_here.iter().for_each(|why| println!("\nNot measured: {why}."));
    Ok(())
}

fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

/// From clone(2) to the end of waitpid(2), of a process that does nothing, with a flag each.
fn namespaces(rounds: usize) -> Result<()> {
    let user = if geteuid().is_root() { 0 } else { libc::CLONE_NEWUSER };
    let mut kinds = vec![
        ("none", 0),
        ("CLONE_NEWUTS", libc::CLONE_NEWUTS),
        ("CLONE_NEWIPC", libc::CLONE_NEWIPC),
        ("CLONE_NEWCGROUP", libc::CLONE_NEWCGROUP),
        ("CLONE_NEWPID", libc::CLONE_NEWPID),
        ("CLONE_NEWNS", libc::CLONE_NEWNS),
        ("CLONE_NEWNET", libc::CLONE_NEWNET),
    ];
    kinds.insert(1, ("CLONE_NEWUSER", libc::CLONE_NEWUSER));
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..rounds {
        for ((_, kind), times) in kinds.iter().zip(&mut times) {
            let with = if *kind == 0 { 0 } else { kind | user };
            cloned(0)?; // meanwhile the kernel can clear away what was before
            times.push(cloned(with)?.as_secs_f64() * 1e6);
        }
    }
    println!("| | median | half of the runs |\n|---|---|---|");
    for ((name, kind), times) in kinds.iter().zip(&mut times) {
        let [quarter, median, three] = quartiles(times);
        let with = if user & !kind != 0 && *kind != 0 { ", with CLONE_NEWUSER" } else { "" };
        println!("| {name}{with} | {median:.0} µs | {quarter:.0} to {three:.0} |");
    }
    Ok(())
}

fn cloned(flags: c_int) -> Result<Duration> {
    let start = Instant::now();
    // SAFETY: we have one thread, and the child makes no call but _exit(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: no status is asked for.
    let reaped = unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) };
    if reaped > 0 { Ok(start.elapsed()) } else { Err(io::Error::last_os_error().into()) }
}

/// Starts some, then times how long one more takes to say that it is there.
fn many(folder: &Path, programs: &Programs) -> Result<()> {
    let all = contestants(folder, programs, (true, true), "/bin/stay")?;
    let few = ["C", "container-demo, static", "container-demo", "bubblewrap"];
    println!(
        "| | alive | start of one more | to that at 10 | its own, each | the kernel's, each |"
    );
    println!("|---|---|---|---|---|---|");
    for one in all.iter().filter(|(name, _)| few.contains(name)) {
        let (mut alive, mut at_ten, empty) = (Vec::<Child>::new(), None, kernel_memory()?);
        for wanted in [10, 100, 1000] {
            while alive.len() < wanted {
                alive.push(started(one)?.0);
            }
            let own =
                own_memory(&alive)?.map_or("not to be read".into(), |own| format!("{own} kB"));
            // The kernel gives back with delay, so a difference says something of many only.
            let kernel = match wanted {
                1000 => format!("{} kB", (kernel_memory()? - empty) / 1000),
                _ => String::new(),
            };
            let mut times = Vec::new();
            for _ in 0..50 {
                let (child, time) = started(one)?;
                times.push(time.as_secs_f64() * 1e3);
                end(child)?;
            }
            let [_, median, _] = quartiles(&mut times);
            let ratio = median / *at_ten.get_or_insert(median);
            println!("| {} | {wanted} | {median:.2} ms | {ratio:.2} | {own} | {kernel} |", one.0);
        }
        alive.into_iter().try_for_each(end)?;
    }
    Ok(())
}

fn started((_, words): &Contestant) -> Result<(Child, Duration)> {
    let start = Instant::now();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    Ok((child, start.elapsed()))
}

fn end(mut child: Child) -> Result<()> {
    // Its whole group, for one of the tools leaves a process now and then if only the first dies.
    // SAFETY: the group is our child's own, and we have not reaped it.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
    child.wait()?;
    Ok(())
}

/// The proportional set size, in kB, of the runtime's own processes, each container's: all but the
/// command, which has no child: proc_pid_smaps(5). None where we may not look: whoever is no root
/// may not, into a process that is not dumpable.
fn own_memory(alive: &[Child]) -> Result<Option<u64>> {
    let text = |file: String| fs::read_to_string(file).unwrap_or_default();
    let (mut sum, mut left) = (0, alive.iter().map(Child::id).collect::<Vec<_>>());
    while let Some(pid) = left.pop() {
        let children = text(format!("/proc/{pid}/task/{pid}/children"));
        if children.is_empty() {
            continue;
        }
        left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        let rollup = text(format!("/proc/{pid}/smaps_rollup"));
        let Some(pss) = rollup.lines().find_map(|line| line.strip_prefix("Pss:")) else {
            return Ok(None);
        };
        sum += pss.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(Some(sum / alive.len() as u64))
}

/// What the kernel has taken for itself, in kB: proc_meminfo(5).
fn kernel_memory() -> Result<i64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<i64>().ok())
    };
    Ok(["Slab", "KernelStack", "PageTables", "Percpu"].iter().filter_map(|name| of(name)).sum())
}
