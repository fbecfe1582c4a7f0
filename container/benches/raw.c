// The least that a container can cost: the system calls of a container, and no more.
// raw small|whole NET USER ROOT COMMAND...: with /proc alone or all that container-demo has without
// a bundle; with a network namespace; with a user namespace.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) { perror(#call); _exit(69); } } while (0)

static void put(const char *file, const char *text) {
    int fd = open(file, O_WRONLY);
    MUST(fd);
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

static const struct { const char *source, *place, *kind; unsigned long flags; const char *data; } MOUNTS[] = {
    { "proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL },
    { "tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=64m" },
    { "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620" },
    { "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=64m" },
    { "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL },
    { "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL },
};
static const char *DEVICES[] = { "null", "zero", "full", "random", "urandom", "tty" };
static const char *READ_ONLY[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };
static const char *MASKED[] = { "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware" };
#define EACH(i, list) for (unsigned i = 0; i < sizeof list / sizeof *list; i++)

static void mounts(int whole, int net) {
    EACH(i, MOUNTS) {
        if (!whole && i > 0) break;
        if (!net && !strcmp(MOUNTS[i].kind, "sysfs")) continue; // only who owns a network may mount it
        mkdir(MOUNTS[i].place, 0755);
        MUST(mount(MOUNTS[i].source, MOUNTS[i].place, MOUNTS[i].kind, MOUNTS[i].flags, MOUNTS[i].data));
    }
    if (!whole) return;
    EACH(i, DEVICES) {
        char from[32], to[32];
        snprintf(from, sizeof from, "dev/%s", DEVICES[i]);
        snprintf(to, sizeof to, "/dev/%s", DEVICES[i]);
        close(open(to, O_CREAT | O_WRONLY, 0644));
        MUST(mount(from, to, NULL, MS_BIND, NULL));
    }
    symlink("/proc/self/fd", "/dev/fd");
    symlink("/proc/self/fd/0", "/dev/stdin");
    symlink("/proc/self/fd/1", "/dev/stdout");
    symlink("/proc/self/fd/2", "/dev/stderr");
    symlink("pts/ptmx", "/dev/ptmx");
    EACH(i, READ_ONLY)
        if (!mount(READ_ONLY[i], READ_ONLY[i], NULL, MS_BIND | MS_REC, NULL))
            MUST(mount(NULL, READ_ONLY[i], NULL,
                MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    EACH(i, MASKED)
        if (mount("/dev/null", MASKED[i], NULL, MS_BIND, NULL))
            mount("tmpfs", MASKED[i], "tmpfs", MS_RDONLY, NULL); // or it is not there
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int whole = !strcmp(argv[1], "whole"), net = atoi(argv[2]), user = atoi(argv[3]);
    char uids[32], gids[32];
    snprintf(uids, sizeof uids, "0 %d 1\n", getuid());
    snprintf(gids, sizeof gids, "0 %d 1\n", getgid());
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP
            | (net ? CLONE_NEWNET : 0) | (user ? CLONE_NEWUSER : 0),
        .exit_signal = SIGCHLD,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    MUST(pid);
    if (pid > 0) {
        int status;
        MUST(waitpid(pid, &status, 0));
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    if (user) {
        put("/proc/self/setgroups", "deny");
        put("/proc/self/uid_map", uids);
        put("/proc/self/gid_map", gids);
    }
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    int host = open("/", O_PATH | O_CLOEXEC);
    MUST(mount(argv[4], argv[4], NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(argv[4]));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(fchdir(host));
    mounts(whole, net);
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    MUST(sethostname("container", 9));
    execv(argv[5], argv + 5);
    MUST(-1);
}
