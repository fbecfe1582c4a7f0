//! What linux/filter.h and linux/audit.h declare, as far as filters need it: the instructions of a
//! program for seccomp(2), and which machine a call is for.

use std::env::consts::ARCH;

use nix::libc::{self, c_int, sock_filter};

/// What clone(2) can make. `CLONE_NEWTIME` is for clone3(2) and unshare(2) only.
pub const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// linux/audit.h: the machine, as an ELF file names it, 64 bits, the lower byte first.
pub fn audit_arch() -> u32 {
    let machine = match ARCH {
        "x86_64" => libc::EM_X86_64,
        "riscv64" => libc::EM_RISCV,
        _ => libc::EM_AARCH64,
    };
    0xc000_0000 | u32::from(machine)
}

/// Loads the four bytes at this offset of struct seccomp_data: `BPF_STMT` of linux/filter.h.
pub fn load(offset: usize) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32, 0, 0)
}

/// Leaves out `jt` instructions if the test is true, `jf` if not: `BPF_JUMP` of linux/filter.h.
pub fn jump(test: u32, operand: u32, jt: u8, jf: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_K | test, operand, jt, jf)
}

/// Ends the program: what the kernel does with the call, such as `SECCOMP_RET_ALLOW`.
pub fn ret(action: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
