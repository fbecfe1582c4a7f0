//! What linux/kvm.h declares, as far as kvm-demo needs it, and ioctl(2) for it.

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong};
use nix::request_code_none;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::alarm;

use crate::host::{Named as _, Refusal};

const KVMIO: u8 = 0xae;

/// KVM runs a guest on the CPU itself, so x86 code needs an x86 CPU.
pub fn can_run_x86() -> Result<(), Refusal> {
    let can = if cfg!(target_arch = "x86_64") { Ok(()) } else { Err(Errno::ENOEXEC) };
    can.named("open(\"/dev/kvm\"), then run x86 code")
}

/// A request of ioctl(2) that takes an integer.
pub struct Request(c_ulong);

/// 12, since Linux 2.6.22.
pub const KVM_GET_API_VERSION: Request = Request(request_code_none!(KVMIO, 0x00) as c_ulong);
/// Makes a virtual machine: gives a file descriptor.
pub const KVM_CREATE_VM: Request = Request(request_code_none!(KVMIO, 0x01) as c_ulong);
/// The size of what the kernel shares with us about a CPU: [`Run`] and what it points to.
pub const KVM_GET_VCPU_MMAP_SIZE: Request = Request(request_code_none!(KVMIO, 0x04) as c_ulong);
/// Makes a CPU: gives a file descriptor.
pub const KVM_CREATE_VCPU: Request = Request(request_code_none!(KVMIO, 0x41) as c_ulong);
/// Runs the guest until it needs us.
pub const KVM_RUN: Request = Request(request_code_none!(KVMIO, 0x80) as c_ulong);

/// ioctl(2) with an integer.
pub fn ioctl(fd: RawFd, request: Request, argument: c_ulong) -> nix::Result<c_int> {
    // SAFETY: a `Request` takes no pointer.
    Errno::result(unsafe { libc::ioctl(fd, request.0 as _, argument) })
}

/// struct kvm_userspace_memory_region: this memory of ours is memory of the guest.
#[repr(C)]
pub struct Region {
    /// The number of the region.
    pub slot: u32,
    /// Such as "read-only".
    pub flags: u32,
    /// Where the guest finds it.
    pub guest_phys_addr: u64,
    /// In bytes.
    pub memory_size: u64,
    /// Where it is in our memory.
    pub userspace_addr: u64,
}

mod raw {
    #![allow(missing_docs)] // the macro writes none
    nix::ioctl_write_ptr!(kvm_set_user_memory_region, super::KVMIO, 0x46, super::Region);
}
pub use raw::kvm_set_user_memory_region;

/// Why KVM_RUN came back: the guest wrote to a port, or read from one.
pub const KVM_EXIT_IO: u32 = 2;
/// Why KVM_RUN came back: the guest halted.
pub const KVM_EXIT_HLT: u32 = 5;

/// The name of an exit reason.
pub fn exit_name(reason: u32) -> String {
    match reason {
        KVM_EXIT_IO => "KVM_EXIT_IO".to_string(),
        KVM_EXIT_HLT => "KVM_EXIT_HLT".to_string(),
        other => format!("exit reason {other}"),
    }
}

/// The beginning of struct kvm_run, and of its union the part for KVM_EXIT_IO.
#[repr(C)]
pub struct Run {
    requests: [u8; 8],
    /// Why KVM_RUN came back.
    pub exit_reason: u32,
    state: [u8; 20],
    direction: u8,
    size: u8,
    /// The port.
    pub port: u16,
    count: u32,
    /// Where the byte is that was written, from the beginning of this struct.
    pub data_offset: u64,
}

/// There are hosts whose KVM starts a guest and never comes back. A signal that has a handler
/// interrupts KVM_RUN: EINTR.
pub fn deadline(seconds: u32) -> Result<(), Refusal> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &handler) }.named("sigaction(SIGALRM)")?;
    alarm::set(seconds);
    Ok(())
}
