// peak COMMAND...: runs it and says, on standard error, how many kB its largest process had in memory.
// execve(2) does not start that count anew, so whoever asks has to be small.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct rusage usage;
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, NULL, 0, &usage) < 0) return 1;
    fprintf(stderr, "\n%ld\n", usage.ru_maxrss);
    return 0;
}
