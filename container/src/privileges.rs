//! What a process may do, beside what the number of its user says: its capabilities, and the system
//! calls that a filter lets pass. The lessons that come first do it themselves: capabilities-demo,
//! seccomp-demo.

use std::mem::offset_of;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, seccomp_data, sock_filter};
use nix::sys::prctl::set_no_new_privs;

use workbook::bpf::{NAMESPACES, audit_arch, jump, load, ret};
use workbook::host::{Named as _, Refusal};

/// The five sets of capabilities(7), a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// What execve(2) can give.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What can be put in force.
    pub permitted: u64,
    /// What execve(2) keeps if the file agrees.
    pub inheritable: u64,
    /// What execve(2) keeps.
    pub ambient: u64,
}

static HEADER: [u32; 2] = [0x2008_0522, 0]; // _LINUX_CAPABILITY_VERSION_3, and this thread

/// The bit of a capability, such as `CAP_KILL`: linux/capability.h.
pub fn capability(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_")?;
    CAPABILITIES.split_whitespace().position(|known| known == name).map(|nth| 1 << nth)
}

/// Has this process a capability in force? capget(2). The kernel takes long to write its status.
pub fn in_force(name: &str) -> bool {
    let mut halves = [[0_u32; 3]; 2];
    // SAFETY: the kernel reads two numbers, and writes six.
    unsafe { libc::syscall(libc::SYS_capget, &raw const HEADER, &raw mut halves) };
    let effective = halves.map(|[effective, ..]| u64::from(effective));
    capability(name).is_some_and(|bit| (effective[0] | effective[1] << 32) & bit != 0)
}

/// PR_CAPBSET_DROP(2const), for each that is not to be kept. It takes CAP_SETPCAP.
pub fn keep_in_bounding_set(kept: u64) -> Result<(), Refusal> {
    for nth in (0..64).filter(|nth| kept & (1 << nth) == 0) {
        match prctl(libc::PR_CAPBSET_DROP, nth, 0) {
            Err(Errno::EINVAL) => break, // this kernel has no more
            dropped => dropped.named(format_args!("prctl(PR_CAPBSET_DROP, {nth})"))?,
        }
    }
    Ok(())
}

/// capset(2), then PR_CAP_AMBIENT(2const): all but the bounding set.
pub fn capset(sets: &Capabilities) -> Result<(), Refusal> {
    let three = [sets.effective, sets.permitted, sets.inheritable];
    let halves = [0, 32].map(|half| three.map(|set| (set >> half) as u32));
    // SAFETY: the kernel reads two numbers and six.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const HEADER, &raw const halves) };
    Errno::result(set).named("capset(2)")?;
    for nth in (0..64).filter(|nth| sets.ambient & (1 << nth) != 0) {
        let raised = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, nth);
        raised.named(format_args!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {nth})"))?;
    }
    Ok(())
}

fn prctl(option: c_int, second: u64, third: u64) -> nix::Result<()> {
    // SAFETY: takes numbers. What it does not use must be 0.
    Errno::result(unsafe { libc::prctl(option, second, third, 0_u64, 0_u64) }).map(drop)
}

/// PR_SET_NO_NEW_PRIVS(2const), then seccomp(2): none if the filter is empty. Without the first the
/// second takes CAP_SYS_ADMIN.
pub fn promise_and_filter(promise: bool, filter: &[sock_filter]) -> Result<(), Refusal> {
    if promise {
        set_no_new_privs().named("prctl(PR_SET_NO_NEW_PRIVS, 1)")?;
    }
    if filter.is_empty() {
        return Ok(());
    }
    let (len, filter) = (filter.len() as u16, filter.as_ptr().cast_mut());
    let (set, program) = (libc::SECCOMP_SET_MODE_FILTER, libc::sock_fprog { len, filter });
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, set, 0, &raw const program) };
    Errno::result(done).map(drop).named("seccomp(SECCOMP_SET_MODE_FILTER, filter)")
}

/// A filter for a container: what makes namespaces and mounts, loads code into the kernel, or has
/// been a way out before is refused. So does Docker's, to who lacks CAP_SYS_ADMIN.
pub fn filter() -> Vec<sock_filter> {
    let errno = |errno: Errno| ret(libc::SECCOMP_RET_ERRNO | errno as u32);
    let [no_such_call, refused] = [Errno::ENOSYS, Errno::EPERM].map(errno);
    let allowed = ret(libc::SECCOMP_RET_ALLOW);
    let argument = |nth: usize| load(offset_of!(seccomp_data, args) + 8 * nth); // its lower half
    let mut program = vec![
        // A call by the numbers of another architecture could be any.
        load(offset_of!(seccomp_data, arch)),
        jump(libc::BPF_JEQ, audit_arch(), 1, 0),
        no_such_call,
        load(offset_of!(seccomp_data, nr)),
        jump(libc::BPF_JGE, 0x4000_0000, 0, 1), // __X32_SYSCALL_BIT
        no_such_call,
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1),
        no_such_call, // then libc takes clone(2), whose flags a filter can read
    ];
    let refuse = |call: c_long| [jump(libc::BPF_JEQ, call as u32, 0, 1), refused];
    program.extend(REFUSED.into_iter().flat_map(refuse));
    program.extend([
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 4),
        argument(0),
        jump(libc::BPF_JSET, NAMESPACES as u32, 0, 1),
        refused,
        allowed,
        jump(libc::BPF_JEQ, libc::SYS_ioctl as u32, 0, 3),
        argument(1),
        jump(libc::BPF_JEQ, libc::TIOCSTI as u32, 0, 1), // types into the caller's terminal
        refused,
        allowed,
    ]);
    program
}

#[rustfmt::skip] // a purpose each
const REFUSED: [c_long; 24] = [
    libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr,
    libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, libc::SYS_reboot,
];

/// In the order of their numbers: linux/capability.h.
const CAPABILITIES: &str = "
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
    MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
    BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
