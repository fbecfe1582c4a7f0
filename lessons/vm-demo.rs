//! A guest's tasks are no processes of the host.
//!
//! qemu-system-x86_64(1), memfd_create(2), proc_pid_status(5).

use std::fs::{File, read_dir, read_to_string};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, getpid};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::Lesson;
use workbook::tool::{self, Tool};
use workbook::transcript::Transcript;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("vm-demo.rs"),
    claims: &[
        ("vm-1", "A guest has tasks of its own, and they take turns."),
        ("A1", "A virtual machine is one process of its host: qemu, with no child."),
        ("vm-2", "The host has no process with the name of one of the tasks."),
        ("vm-3", "That one process of the host has several threads."),
    ],
    shell: false,
    controls: &[],
};

// ANCHOR: kernel
/// The guest's kernel, in 16-bit x86 code. The firmware loads it to 0x7c00 and jumps there.
const KERNEL: [u8; 60] = [
    0xfa, //                          cli              no interrupts: nobody disturbs a task
    0x31, 0xc0, //                    xor ax, ax
    0x8e, 0xd8, //                    mov ds, ax
    0x8e, 0xd0, //                    mov ss, ax
    0xb9, 2, 0, //                    mov cx, 2        two rounds
    0xbc, 0x00, 0x7d, //              mov sp, 0x7d00   the stack of the first task
    0x5e, //                  go_on:  pop si           what the task had in si: its name
    0xc3, //                          ret              and where it was
    0x89, 0xf3, //            task:   mov bx, si       the whole life of a task: it
    0x8a, 0x07, //            byte:   mov al, [bx]     writes its name to the serial port,
    0xba, 0xf8, 0x03, //              mov dx, 0x3f8
    0xee, //                          out dx, al
    0x43, //                          inc bx
    0x3c, b'\n', //                   cmp al, '\n'
    0x75, 0xf5, //                    jne byte
    0xe8, 0x02, 0x00, //              call next        lets the next task run,
    0xeb, 0xee, //                    jmp task         and begins again
    0x56, //                  next:   push si          onto the stack of this task
    0x83, 0xc4, 4, //                 add sp, 4        the stack of the next one
    0x81, 0xfc, 0x0c, 0x7d, //        cmp sp, 0x7d0c
    0x75, 0xe2, //                    jne go_on
    0xbc, 0x00, 0x7d, //              mov sp, 0x7d00   after the last comes the first
    0xe2, 0xdd, //                    loop go_on
    0xba, 0xfd, 0x03, //              mov dx, 0x3fd    after two rounds it
    0xec, //                  wait:   in al, dx        waits for a byte
    0xa8, 1, //                       test al, 1       from the serial port,
    0x74, 0xfb, //                    jz wait
    0xb0, 0x10, //                    mov al, 0x10     and switches the machine off
    0xe6, 0xf4, //                    out 0xf4, al
];
const TASKS: [&str; 3] = ["task-a", "task-b", "task-c"];

/// What the firmware looks for on a disk: a sector that ends with 0x55 0xaa.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..KERNEL.len()].copy_from_slice(&KERNEL);
    for (nth, name) in TASKS.iter().enumerate() {
        // A task is a name, and a stack of two words: the name's address, and that of `task`.
        sector[0x110 + 8 * nth..][..6].copy_from_slice(name.as_bytes());
        sector[0x116 + 8 * nth] = b'\n';
        sector[0x100 + 4 * nth..][..4].copy_from_slice(&[0x10 + 8 * nth as u8, 0x7d, 0x0f, 0x7c]);
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
// ANCHOR_END: kernel

fn main() -> ExitCode {
    LESSON.run(vm_demo)
}

fn vm_demo(t: &mut Transcript) -> Result<(), Refusal> {
    let program = tool::find("qemu-system-x86_64")?;
    let us = getpid();
    t.outside("getpid()", us);
    let mut qemu = start(&program)?;
    let pid = qemu.pid();
    t.outside("fork(), execve(\"qemu-system-x86_64\", ...)", pid);

    let said = qemu.until("task-c\ntask-a\ntask-b\ntask-c\n")?.to_string();
    let turns: Vec<_> = said.lines().filter(|line| line.starts_with("task-")).collect();
    turns.iter().for_each(|task| t.inside("guest", "out 0x3f8, al", task));

    // The guest waits for a byte now, and lives until we have looked.
    let processes = processes()?;
    let children = |pid: Pid| processes.iter().filter(|(_, ppid)| *ppid == pid.to_string()).count();
    let named = processes.iter().filter(|(name, _)| TASKS.contains(&&**name)).count();
    let task = format!("/proc/{pid}/task");
    let threads = read_dir(&task).named(format!("open({task:?})"))?.count();
    t.outside(format!("pgrep -c -P {us}"), children(us));
    t.outside(format!("pgrep -c -P {pid}"), children(pid));
    t.outside("pgrep -c -x 'task-[abc]'", named);
    t.outside(format!("ls {task} | wc -l"), threads);

    qemu.send("x");
    let (status, _) = qemu.end()?;
    t.outside(format!("waitpid({pid})"), status);

    t.claim("vm-1", turns == [TASKS, TASKS].concat() && status.code() == Some(33));
    t.claim("A1", children(us) == 1 && children(pid) == 0);
    t.claim("vm-2", named == 0);
    t.claim("vm-3", threads > 1);
    t.by_hand("qemu-system-x86_64 -M none -display none & pgrep -c -P $!; kill $!", 0);
    Ok(())
}

// ANCHOR: qemu
/// The guest's disk is memory that has no name in a file system: memfd_create(2). qemu inherits
/// it, and opens it by its number.
fn start(qemu: &Path) -> Result<Tool, Refusal> {
    let disk =
        memfd_create("boot sector", MFdFlags::empty()).named("memfd_create(\"boot sector\", 0)")?;
    let mut disk = File::from(disk);
    disk.write_all(&boot_sector()).named("write(memfd)")?;
    let mut command = Command::new(qemu);
    command.args(["-accel", "tcg"]); // by program, without the CPU's help
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "16"]);
    command.args(["-serial", "stdio"]); // its serial port is our pipe
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]); // how it switches itself off
    command.arg("-drive").arg(format!("format=raw,file=/proc/self/fd/{}", disk.as_raw_fd()));
    Tool::start(&mut command, Duration::from_secs(60))
}
// ANCHOR_END: qemu

/// All processes of the host: the name of each, and its parent's PID. So does ps(1) find them.
fn processes() -> Result<Vec<(String, String)>, Refusal> {
    let proc = read_dir("/proc").named("open(\"/proc\")")?;
    let names = proc.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| name.parse::<u32>().ok());
    let status = pids.filter_map(|pid| read_to_string(format!("/proc/{pid}/status")).ok());
    let field = |text: &str, name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_string()
    };
    Ok(status.map(|text| (field(&text, "Name:"), field(&text, "PPid:"))).collect())
}
