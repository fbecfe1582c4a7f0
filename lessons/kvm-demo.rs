//! A guest is memory and a CPU inside a process.
//!
//! ioctl(2) on /dev/kvm; linux/kvm.h and Documentation/virt/kvm/api.rst of the kernel.

use std::fs::File;
use std::os::fd::{AsRawFd as _, RawFd};
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::libc::{self, MAP_FAILED, MAP_SHARED, PROT_READ};
use nix::sys::wait::{WaitPidFlag, waitpid};
use workbook::host::{Named as _, Refusal};
use workbook::kvm::*; // linux/kvm.h
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("kvm-demo.rs"),
    claims: &[
        ("kvm-1", "A virtual machine is an open file of a process, its CPU another."),
        ("kvm-2", "The guest runs in a call of that process, ioctl(KVM_RUN)."),
        ("kvm-3", "What it writes to its memory is in the memory of that process."),
        ("A1", "A virtual machine runs in one process: this one, with no child."),
    ],
    shell: false,
    controls: &[Control {
        name: "run",
        what: "the guest is complete, and nobody calls KVM_RUN",
        breaks: &["kvm-2", "kvm-3"],
    }],
};

// ANCHOR: program
/// The guest's whole program. A PC's CPU begins at 0xfffffff0, 16 bytes below 4 GiB.
const PROGRAM: [u8; 12] = [
    0xb0, 6, //          mov al, 6
    0xb3, 7, //          mov bl, 7
    0xf6, 0xe3, //       mul bl           al is their product now
    0xa2, 0, 0, //       mov [0], al      writes it to memory, at address 0
    0xe6, 0x10, //       out 0x10, al     and to a device, at port 0x10
    0xf4, //             hlt
];

/// A page of memory. Atomic, because somebody else may change it: the guest.
#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

static RAM: Page = Page([const { AtomicU8::new(0) }; 4096]);
static ROM: Page = Page([const { AtomicU8::new(0) }; 4096]);
// ANCHOR_END: program

fn main() -> ExitCode {
    LESSON.run(kvm_demo)
}

fn kvm_demo(t: &mut Transcript) -> Result<(), Refusal> {
    can_run_x86()?;
    let kvm =
        File::options().read(true).write(true).open("/dev/kvm").named("open(\"/dev/kvm\")")?;
    let kvm = kvm.as_raw_fd();
    t.outside("open(\"/dev/kvm\")", file(kvm)?);
    let version = ioctl(kvm, KVM_GET_API_VERSION, 0).named("ioctl(kvm, KVM_GET_API_VERSION, 0)")?;
    t.outside("ioctl(kvm, KVM_GET_API_VERSION, 0)", version);
    let (vm, vcpu) = machine(t, kvm)?;

    for (byte, code) in ROM.0[0xff0..].iter().zip(PROGRAM) {
        byte.store(code, Relaxed);
    }
    let before = RAM.0[0].load(Relaxed);
    t.outside("RAM[0]", before);
    let exits = if t.without("run") { None } else { Some(run(t, kvm, vcpu)?) };
    let after = RAM.0[0].load(Relaxed);
    t.outside("RAM[0]", after);
    let child = waitpid(None, Some(WaitPidFlag::WNOHANG)).map(drop);
    t.outside("waitpid(-1, NULL, WNOHANG)", result(child));

    t.claim("kvm-1", file(vm)?.ends_with("kvm-vm") && file(vcpu)?.contains("kvm-vcpu"));
    t.claim("kvm-2", before == 0 && exits == Some([KVM_EXIT_IO, KVM_EXIT_HLT]));
    t.claim("kvm-3", before == 0 && after == 42);
    t.claim("A1", child == Err(Errno::ECHILD));
    t.by_hand("stat --format=%F /dev/kvm", "character special file");
    Ok(())
}

// ANCHOR: machine
/// A virtual machine with two pages of memory and a CPU. It is gone when its files are closed:
/// at the latest when this process ends.
fn machine(t: &mut Transcript, kvm: RawFd) -> Result<(RawFd, RawFd), Refusal> {
    let vm = ioctl(kvm, KVM_CREATE_VM, 0).named("ioctl(kvm, KVM_CREATE_VM, 0)")?;
    t.outside("ioctl(kvm, KVM_CREATE_VM, 0)", file(vm)?);
    for (slot, name, page, guest_phys_addr) in [(0, "RAM", &RAM, 0), (1, "ROM", &ROM, 0xfffff000)] {
        let userspace_addr = ptr::from_ref(page) as u64; // where it is in this process
        let region = Region { slot, flags: 0, guest_phys_addr, memory_size: 4096, userspace_addr };
        // SAFETY: the kernel copies the struct; the page is a static, and outlives the guest.
        let set = unsafe { kvm_set_user_memory_region(vm, &region) };
        t.did(&format!("ioctl(vm, KVM_SET_USER_MEMORY_REGION, {name})"), set.map(drop))?;
    }
    let vcpu = ioctl(vm, KVM_CREATE_VCPU, 0).named("ioctl(vm, KVM_CREATE_VCPU, 0)")?;
    t.outside("ioctl(vm, KVM_CREATE_VCPU, 0)", file(vcpu)?);
    Ok((vm, vcpu))
}
// ANCHOR_END: machine

// ANCHOR: run
/// Runs the guest twice: until it needs us for a device, and until it halts.
fn run(t: &mut Transcript, kvm: RawFd, vcpu: RawFd) -> Result<[u32; 2], Refusal> {
    let size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0).named("ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE)")?;
    let size = size as usize;
    // SAFETY: a new mapping, of the size that the kernel says, and never unmapped.
    let shared = unsafe { libc::mmap(ptr::null_mut(), size, PROT_READ, MAP_SHARED, vcpu, 0) };
    if shared == MAP_FAILED {
        return Err(Errno::last()).named("mmap(NULL, size, PROT_READ, MAP_SHARED, vcpu, 0)");
    }
    let mut exits = [0; 2];
    for exit in &mut exits {
        deadline(10)?;
        ioctl(vcpu, KVM_RUN, 0).named("ioctl(vcpu, KVM_RUN, 0)")?;
        // SAFETY: the mapping begins with this struct, and nobody changes it until we run again.
        let run = unsafe { shared.cast::<Run>().read() };
        *exit = run.exit_reason;
        t.outside("ioctl(vcpu, KVM_RUN, 0)", format!("0, {}", exit_name(*exit)));
        if *exit == KVM_EXIT_IO {
            let byte = shared.cast::<u8>().wrapping_add(run.data_offset as usize);
            // SAFETY: at this exit the kernel says where in the mapping the byte is.
            let byte = unsafe { byte.read() };
            t.inside("guest", format!("out {:#x}, al", run.port), byte);
        }
    }
    Ok(exits)
}
// ANCHOR_END: run

/// What this file descriptor is open on: proc_pid_fd(5).
fn file(fd: RawFd) -> Result<String, Refusal> {
    let link = format!("/proc/self/fd/{fd}");
    Ok(readlink(&*link).named(format!("readlink({link:?})"))?.display().to_string())
}
