// The floor: what a container's start costs at the least. The namespaces and mounts of an ordinary container by bare system
// calls, and nothing else: no filter, no capabilities, no cgroup, no record.
// Arguments: lower directory, upper, work, an empty directory for the root, program.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        _exit(125);
    }
}

static void add(const char *type, const char *at, unsigned long flags, const char *data) {
    mkdir(at, 0755);
    check(mount(type, at, type, flags, data), at);
}

static void become(char **arguments) {
    char options[4096];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", arguments[1], arguments[2], arguments[3]);
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    check(mount("overlay", arguments[4], "overlay", 0, options), "overlay");
    check(chdir(arguments[4]), "chdir");
    add("proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    add("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    add("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
    add("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    add("mqueue", "dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    add("sysfs", "sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount");
    check(chdir("/"), "chdir");
    char *program[] = {arguments[5], NULL}, *environment[] = {NULL};
    execve(program[0], program, environment);
    check(1, program[0]);
}

int main(int count, char **arguments) {
    if (count != 6) {
        return 125;
    }
    struct clone_args clone = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
        .exit_signal = SIGCHLD,
    };
    long child = syscall(SYS_clone3, &clone, sizeof clone);
    check(child < 0, "clone3");
    if (child == 0) {
        become(arguments);
    }
    int status;
    check(waitpid((pid_t)child, &status, 0) < 0, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
