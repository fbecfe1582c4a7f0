//! A guest's processes have no PID on the host.
//!
//! A Linux under qemu-system-x86_64(1); bootparam(7), random(4) for boot_id, reboot(2).

use std::fs::{read_dir, read_to_string};
use std::io::{Read as _, stdin};
use std::os::fd::AsRawFd as _;
use std::process::{Command, ExitCode, exit};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_name;
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{ForkResult, Pid, fork, getpid, pause};
use workbook::guest::{self, hear, tell};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::Lesson;
use workbook::tool::{self, Tool};
use workbook::transcript::Transcript;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("guest-demo.rs"),
    claims: &[
        ("gst-1", "A guest has booted a kernel of its own."),
        ("gst-2", "It has a process list of its own: PID 1 and what that has made."),
        ("gst-3", "On the host there is one process for it, which has no children."),
        ("A1", "The processes of a Linux guest have no PID on its host."),
        ("gst-4", "A guest that reboots does not reboot its host."),
    ],
    shell: false,
    controls: &[],
};

const RELEASE: &str = "cut -d- -f1 /proc/sys/kernel/osrelease";
const BOOT_ID: &str = "cut -d- -f1 /proc/sys/kernel/random/boot_id";
const USER_SPACE: &str = "ps --ppid 2 -p 2 --deselect -o comm= | wc -l";
const READY: &str = "\nready\n";
const BY_NAME: &str = "pgrep --count --exact 'apple|pear|plum'";

fn main() -> ExitCode {
    // In the guest, the kernel starts this program too.
    if getpid() == Pid::from_raw(1) && std::env::var_os("WORKBOOK_GUEST").is_some() {
        let Err(refusal) = init();
        guest::give_up(&refusal)
    }
    LESSON.run(guest_demo)
}

fn guest_demo(t: &mut Transcript) -> Result<(), Refusal> {
    // ANCHOR: machine
    // A processor in software, 256 MB, a serial line, a kernel and its first file system.
    let mut qemu = Command::new(tool::find("qemu-system-x86_64")?);
    qemu.args(["-accel", "tcg", "-M", "q35", "-m", "256", "-nodefaults", "-no-user-config"]);
    qemu.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-kernel").arg(guest::kernel()?);
    let initramfs = guest::initramfs()?; // this program as /init, in memory
    qemu.args(["-initrd", &format!("/proc/self/fd/{}", initramfs.as_raw_fd())]);
    // What the kernel does not know goes into the environment of /init: bootparam(7). A guest in
    // trouble reboots at once, panic=-1, and with -no-reboot that is its end. A timer that is late,
    // because the host is busy, is no trouble: no_timer_check.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check WORKBOOK_GUEST=1"]);
    // ANCHOR_END: machine
    let host_boot = cut(BOOT_ID)?;
    t.outside(RELEASE, cut(RELEASE)?);
    t.outside(BOOT_ID, &host_boot);
    let mut qemu = Tool::start(&mut qemu, Duration::from_secs(600))?; // it boots in seconds
    let pid = qemu.pid().to_string();
    t.outside("fork()", &pid);

    let [_, guest_boot, pid_inside, all_inside, fruit_inside] = hear(t, qemu.until(READY)?)?;
    let host = processes()?; // of the host, while the guest is there
    let children = host.iter().filter(|process| process.parent == pid).count();
    t.outside(format!("pgrep --count --parent {pid}"), children);
    t.outside(BY_NAME, fruit(&host));
    qemu.send("\n");
    let (status, said) = qemu.end()?;
    let [_reboot] = hear(t, said.split(READY).nth(1).unwrap_or_default())?;
    t.outside(format!("waitpid({pid}): WEXITSTATUS"), status.code().unwrap_or(-1));
    t.outside(BOOT_ID, cut(BOOT_ID)?);

    t.claim("gst-1", guest_boot != host_boot);
    t.claim("gst-2", pid_inside == "1" && all_inside == "4" && fruit_inside == "3");
    t.claim("gst-3", host.iter().any(|process| process.pid == pid) && children == 0);
    t.claim("A1", fruit_inside == "3" && fruit(&host) == 0);
    t.claim("gst-4", status.success() && cut(BOOT_ID)? == host_boot);
    t.by_hand(BOOT_ID, &host_boot);
    t.by_hand(BY_NAME, fruit(&host));
    Ok(())
}

// ANCHOR: init
/// The whole life of the guest's PID 1.
fn init() -> Result<std::convert::Infallible, Refusal> {
    let mounted = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>);
    mounted.named("mount(\"proc\", \"/proc\", \"proc\", 0, NULL)")?;
    for name in [c"apple", c"pear", c"plum"] {
        set_name(name).named("prctl(PR_SET_NAME)")?; // a child starts with its parent's name
        // SAFETY: this program has one thread, so the child may do whatever we may.
        if let ForkResult::Child = unsafe { fork() }.named("fork()")? {
            pause(); // until the machine is gone
            exit(0);
        }
    }
    set_name(c"init").named("prctl(PR_SET_NAME)")?;
    let guest = processes()?;
    tell(RELEASE, cut(RELEASE)?);
    tell(BOOT_ID, cut(BOOT_ID)?);
    tell("getpid()", getpid());
    // PID 2 is the parent of the kernel's own threads.
    let others = guest.iter().filter(|process| process.pid != "2" && process.parent != "2");
    tell(USER_SPACE, others.count());
    tell(BY_NAME, fruit(&guest));
    print!("{READY}");
    stdin().read(&mut [0]).named("read(0)")?; // the host looks now
    tell("reboot(RB_AUTOBOOT)", "?"); // it does not return
    reboot(RebootMode::RB_AUTOBOOT).named("reboot(RB_AUTOBOOT)")
}

/// A process as /proc describes it: proc_pid_stat(5).
struct Process {
    pid: String,
    name: String,
    parent: String,
}

/// What a kernel shows in /proc. The host and the guest are both asked like this.
fn processes() -> Result<Vec<Process>, Refusal> {
    let proc = read_dir("/proc").named("open(\"/proc\")")?;
    let names = proc.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter(|name| name.parse::<u32>().is_ok());
    let process = |pid| {
        let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?; // it may have ended
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?.to_string();
        Some(Process { pid, name: name.to_string(), parent })
    };
    Ok(pids.filter_map(process).collect())
}
// ANCHOR_END: init

fn fruit(processes: &[Process]) -> usize {
    processes.iter().filter(|p| ["apple", "pear", "plum"].contains(&&*p.name)).count()
}

/// cut(1), where the file is the last word of its command.
fn cut(command: &str) -> Result<String, Refusal> {
    let file = command.rsplit(' ').next().unwrap_or_default();
    let text = read_to_string(file).named(format!("open({file:?})"))?;
    Ok(text.trim_end().split('-').next().unwrap_or_default().to_string())
}
