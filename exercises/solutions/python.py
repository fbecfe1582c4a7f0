#!/usr/bin/env python3
#[1-8
"""Runs a command in a container: my-container COMMAND [ARG...]"""
#]
#[9-12
"""Runs a command in a container: my-container [--rootfs DIR] COMMAND [ARG...]"""
#]
#[13
"""Runs a command in a container.

my-container [--rootfs DIR] COMMAND [ARG...]
my-container --enter PID COMMAND [ARG...]
"""
#]

#[2
import ctypes
#]
#[8
import fcntl
#]
import os
#[9
import platform
#]
#[3
import select
#]
import signal
#[2
import socket
#]
#[8
import struct
#]
import sys

#[2
LIBC = ctypes.CDLL(None, use_errno=True)
# linux/sched.h
#[4
CLONE_NEWNS = 0x00020000
#]
CLONE_NEWUTS = 0x04000000
#[7
CLONE_NEWIPC = 0x08000000
#]
CLONE_NEWUSER = 0x10000000
#[3
CLONE_NEWPID = 0x20000000
#]
#[8
CLONE_NEWNET = 0x40000000
#]
#]
#[12
CLONE_NEWCGROUP = 0x02000000
#]
#[9
# linux/mount.h
MS_BIND = 1 << 12
#]
#[5
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18
#]
#[9
MNT_DETACH = 2
# asm/unistd.h: for the machines that Debian calls amd64, and for arm64 and riscv64.
IS_X86 = platform.machine() == "x86_64"
SYS_pivot_root = 155 if IS_X86 else 41
#]
#[8
# linux/sockios.h, linux/if.h
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
#]
#[3
# linux/prctl.h
PR_SET_PDEATHSIG = 1
#]
#[12
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
# linux/capability.h: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE
KEPT = {0, 1, 3, 4, 5, 6, 7, 10}
#]
#[3
# The command gets these from us. SIGCHLD is for us.
PASSED_ON = {
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
#]


#[2
def call(name, *arguments):
    """A function of libc that the module os does not have in Python 3.11."""
    if getattr(LIBC, name)(*arguments) == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")


#]
#[6
def write(file, text):
    with open(file, "w") as file:
        file.write(text)


#]
#[3
def fork(child, parent):
    """Gives what the parent gives. The child does not come back, and ends when we do."""
    end, ours = os.pipe()
    pid = os.fork()
    if pid:
        return parent(pid)  # ours stays open until we end
    os.close(ours)
    # Should the one outside be killed, nobody waits for us.
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    # Who ended before that gives no signal. getppid(2) does not tell: in a new PID namespace it is
    # 0 from the start. But the pipe is at its end then.
    if select.select([end], [], [], 0)[0]:
        sys.exit("my-container: the process outside has ended")
    sys.exit(child())


#]
def container(words):
    """Gives the exit status of the command."""
    #[1-1
    run(words)
    #]
    #[3
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    #]
    #[9
    rootfs = None
    if words[:1] == ["--rootfs"]:
        rootfs, words = words[1], words[2:]
    #]
    #[2-5
    # Who is not root may make the others only in a user namespace: user_namespaces(7).
    if os.geteuid() != 0:
        call("unshare", CLONE_NEWUSER)
    #]
    #[6
    user_namespace()
    #]
    #[2-2
    inside(words)
    #]
    #[3
    # Not we, but our next child is the first process in it.
    call("unshare", CLONE_NEWPID)
    #[3-8
    return fork(lambda: inside(words), wait_for)
    #]
    #[9-10
    return fork(lambda: inside(rootfs, words), wait_for)
    #]
    #[11
    group = limited()
    status = fork(lambda: inside(group, rootfs, words), wait_for)
    if group:
        os.rmdir(group)  # PID 1 has ended, and before it all that were in there
    return status
    #]
    #]


#[6
def user_namespace():
    """One in which we are root, and outside who we were."""
    uid, gid = os.geteuid(), os.getegid()  # without a map both are 65534
    call("unshare", CLONE_NEWUSER)
    write("/proc/self/uid_map", f"0 {uid} 1")
    # Who could leave a group might get at what is kept from that group.
    write("/proc/self/setgroups", "deny")
    write("/proc/self/gid_map", f"0 {gid} 1")


#]
#[11
def limited():
    """A cgroup for at most 64 processes; None where we may not make one. Root may, and who was given
    a part of the tree: cgroups(7)."""
    with open("/proc/self/cgroup") as file:
        ours = dict(line.strip().split(":", 2)[1:] for line in file)
    try:
        if "pids" in ours:
            parent = "/sys/fs/cgroup/pids" + ours["pids"]
        else:
            parent = hands_down("/sys/fs/cgroup" + ours[""])
        group = f"{parent}/my-container-{os.getpid()}"
        if os.path.isdir(group):
            os.rmdir(group)  # of one that had our PID and was killed
        os.mkdir(group)
    except OSError as error:
        print(f"my-container: no limit of processes, for {error}", file=sys.stderr)
        return None
    write(f"{group}/pids.max", "64")
    return group


def hands_down(group):
    """In v2 no process can be limited below a cgroup with processes in it, such as ours. So this is
    the nearest above it that hands pids down."""
    while group != "/sys/fs":
        with open(f"{group}/cgroup.subtree_control") as file:
            if "pids" in file.read().split():
                return group
        group = os.path.dirname(group)
    raise OSError("no cgroup above ours hands pids down")


#]
#[2
#[2-8
def inside(words):
    """What is made here is the container's."""
#]
#[9-10
def inside(rootfs, words):
    """What is made here is the container's."""
#]
#[11
def inside(group, rootfs, words):
    """What is made here is the container's."""
    if group:
        write(f"{group}/cgroup.procs", "0")  # 0: who writes it
#]
    call("unshare", CLONE_NEWUTS)
    socket.sethostname("container")
    #[7
    call("unshare", CLONE_NEWIPC)
    #]
    #[8
    call("unshare", CLONE_NEWNET)
    lo_up()
    #]
    #[4
    call("unshare", CLONE_NEWNS)
    #]
    #[5
    # Our mounts are copies of the host's, and pass on to them what happens to them.
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    #]
    #[4-8
    # A proc shows the processes of the PID namespace of who mounts it.
    call("mount", b"proc", b"/proc", b"proc", 0, None)
    #]
    #[9
    if rootfs:
        change_root(os.fsencode(rootfs))
    else:
        mount_proc(b"/proc")
    #]
    #[2-9
    run(words)
    #]
    #[10
    return fork(lambda: run(words), wait_for)  # we are PID 1
    #]


#]
#[9
def change_root(folder):
    """Makes a folder our /, and leaves no path that leads to the old one."""
    # A root has to be a mount: pivot_root(2).
    call("mount", folder, folder, None, MS_BIND | MS_REC, None)
    # Who is not root of the host may mount a proc only while another is in sight.
    mount_proc(folder + b"/proc")
    os.chdir(folder)
    call("syscall", SYS_pivot_root, b".", b".")  # the old root is now mounted over the new one
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def mount_proc(place):
    """A proc shows the processes of the PID namespace of who mounts it."""
    call("mount", b"proc", place, b"proc", 0, None)


#]
#[8
def lo_up():
    """A new network has one interface, and that is down: netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to_net:
        fcntl.ioctl(to_net, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


#]
#[3
#[3-9
def wait_for(child):
    """Passes on signals until the child ends. Gives its exit status as a shell does: 128 + n if
    signal n has killed it."""
    while True:
        number = signal.sigwait(PASSED_ON)
        if number != signal.SIGCHLD:
            os.kill(child, number)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
#]
#[10
def wait_for(child):
    """Passes on signals until the child ends, and reaps whoever else becomes our child. Gives the
    exit status as a shell does: 128 + n if signal n has killed it."""
    while True:
        number = signal.sigwait(PASSED_ON)
        if number != signal.SIGCHLD:
            os.kill(child, number)
        pid = -1
        while pid:  # one SIGCHLD may stand for several children
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
#]


#]
#[13
def enter(pid, words):
    """Runs a command in the container in which a process is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    process = os.pidfd_open(pid)
    # In it we have the capabilities that the others ask for.
    call("setns", process, CLONE_NEWUSER)
    others = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
    call("setns", process, others)
    # As with unshare(2): not we, but our next child is in the PID namespace.
    return fork(lambda: run(words), wait_for)


#]
#[12
def fewer_powers():
    """execve(2) gives root what is in the bounding set, and the filter stays."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in set(range(last + 1)) - KEPT:
        call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    steps = b"".join(seccomp_filter())
    program = struct.pack("HP", len(steps) // 8, ctypes.cast(steps, ctypes.c_void_p).value)
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)


def seccomp_filter():
    """The kernel runs this for every system call, over a struct seccomp_data: seccomp(2)."""
    # linux/bpf_common.h, linux/seccomp.h, linux/audit.h; errno 1 is EPERM, 38 is ENOSYS.
    def load(offset):
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def jump_equal(number, then, otherwise):
        return struct.pack("HBBI", 0x15, then, otherwise, number)

    def jump_any(bits, then, otherwise):
        return struct.pack("HBBI", 0x45, then, otherwise, bits)

    def give(action):
        return struct.pack("HBBI", 0x06, 0, 0, action)

    allowed, refused, no_such_call = give(0x7FFF0000), give(0x00050001), give(0x00050026)
    machine = {"x86_64": 0xC000003E, "riscv64": 0xC00000F3}.get(platform.machine(), 0xC00000B7)
    # Calls that make or enter namespaces, change mounts, or put code into the kernel: unshare,
    # setns, mount, umount2, pivot_root, bpf, init_module, finit_module.
    on_x86 = [272, 308, 165, 166, 155, 321, 175, 313]
    calls = on_x86 if IS_X86 else [97, 268, 40, 39, 41, 280, 105, 273]
    # And these, which are younger and have one number everywhere: open_tree, move_mount, fsopen,
    # fsconfig, fsmount, fspick, mount_setattr.
    calls += [428, 429, 430, 431, 432, 433, 442]
    clone, clone3 = 56 if IS_X86 else 220, 435
    yield load(4)  # arch: another architecture has other numbers
    yield jump_equal(machine, 1, 0)
    yield no_such_call
    yield load(0)  # nr
    yield jump_any(0x40000000, 0, 1)  # x86's third set of numbers, x32
    yield no_such_call
    # Its flags are in memory, where a filter cannot look. libc takes clone(2) then.
    yield jump_equal(clone3, 0, 1)
    yield no_such_call
    for number in calls:
        yield jump_equal(number, 0, 1)
        yield refused
    yield jump_equal(clone, 0, 3)
    yield load(16)  # args[0], the flags
    namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID
    yield jump_any(namespaces | CLONE_NEWNET | CLONE_NEWCGROUP, 0, 1)
    yield refused
    yield allowed


#]
def run(words):
    """Becomes the command: it has our arguments and streams, and its end is ours."""
    #[12
    fewer_powers()
    #]
    # Python ignores them, and what is ignored or blocked stays so across execve(2).
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    #[3
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    #]
    try:
        os.execvp(words[0], words)
    except OSError as error:
        sys.exit(f"my-container: {words[0]}: {error.strerror}")


def main(words):
    if not words:
        sys.exit("my-container: which command?")
    try:
        #[1-12
        sys.exit(container(words))
        #]
        #[13
        if words[0] == "--enter":
            sys.exit(enter(int(words[1]), words[2:]))
        sys.exit(container(words))
        #]
    except OSError as error:
        sys.exit(f"my-container: {error}")


main(sys.argv[1:])
