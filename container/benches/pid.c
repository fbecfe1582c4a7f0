// pid-demo in C: the same system calls, the same text.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) { perror(#call); _exit(69); } } while (0)

static const char *file(const char *name, int pid, const char *what) {
    static char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    if (!what) {
        ssize_t size = readlink(path, text, sizeof text - 1);
        MUST(size);
        text[size] = 0;
        return text;
    }
    int fd = open(path, O_RDONLY);
    MUST(fd);
    ssize_t size = read(fd, text, sizeof text - 1);
    MUST(size);
    text[size] = 0;
    close(fd);
    char *line = strstr(text, what);
    *strchr(line, '\n') = 0;
    return line + strlen(what);
}

static void put(const char *name, const char *text) {
    int fd = open(name, O_WRONLY);
    MUST(fd);
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

int main(void) {
    int said[2], word[2], inside[3];
    char call[64], map[32];
    printf("pid-demo: PID 1 inside, an ordinary process outside         book/src/pid-demo.md\n\n");
    if (geteuid()) {
        snprintf(map, sizeof map, "0 %d 1\n", geteuid());
        MUST(unshare(CLONE_NEWUSER));
        printf("outside  %-47s = 0\n", "unshare(CLONE_NEWUSER)");
        put("/proc/self/uid_map", map);
    }
    printf("outside  %-47s = %d\n", "getpid()", getpid());
    MUST(pipe2(said, O_CLOEXEC));
    MUST(pipe2(word, O_CLOEXEC));
    fflush(stdout);
    int pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    MUST(pid);
    if (!pid) {
        char go;
        MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
        read(word[0], &go, 1);
        inside[0] = getpid();
        inside[1] = getppid();
        MUST(inside[2] = fork());
        if (!inside[2]) _exit(0);
        waitpid(inside[2], NULL, 0);
        MUST(write(said[1], inside, sizeof inside));
        read(word[0], &go, 1);
        _exit(0);
    }
    MUST(write(word[1], "g", 1));
    printf("outside  %-47s = %d\n", "clone(CLONE_NEWPID|SIGCHLD)", pid);
    MUST(read(said[0], inside, sizeof inside));
    printf("inside   %-47s = %d\n", "getpid()", inside[0]);
    printf("inside   %-47s = %d\n", "getppid()", inside[1]);
    printf("inside   %-47s = %d\n", "fork()", inside[2]);
    snprintf(call, sizeof call, "/proc/%d/status: NSpid", pid);
    printf("outside  %-47s = %s\n", call, file("status", pid, "NSpid:\t"));
    printf("outside  %-47s = %s\n", "readlink(\"/proc/self/ns/pid\")", file("ns/pid", getpid(), NULL));
    snprintf(call, sizeof call, "readlink(\"/proc/%d/ns/pid\")", pid);
    printf("outside  %-47s = %s\n", call, file("ns/pid", pid, NULL));
    MUST(write(word[1], "e", 1));
    MUST(waitpid(pid, NULL, 0));
    printf("\nholds  A13    A flag to clone(2) puts the child into a new namespace.\n"
        "holds  A20    The first process in a new PID namespace has PID 1 there.\n"
        "holds  pid-1  The next process there is not PID 1 but PID 2.\n"
        "holds  pid-2  A parent outside has no PID there: getppid() gives 0.\n"
        "holds  A11    A process in a PID namespace still has a PID on the host.\n"
        "holds  A9     Its PID inside is not its PID on the host.\n\n"
        "by hand  unshare --map-root-user --pid --fork sh -c 'echo $$'\n         1\n");
    return 0;
}
