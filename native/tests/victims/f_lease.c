/* Leases: for reading and for writing, on files of the root and of private file systems, two of one file in two processes, with a signal of their
 * own; none is broken by a snapshot, and each is broken afterwards by whoever opens the file against it.
 * COVERAGE: leases (F_SETLEASE) on files of the pod | captured | for writing: not on mapped or nameless files and files of the node */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "victim.h"

#define SIGNAL (SIGRTMIN + 3)
static const char *paths[] = {"/tmp/leased", "/var/tmp/leases/leased"};
static int writers[2], readers[2], told[2];
static volatile sig_atomic_t heard_fd = -1;
static pid_t child;

static void hear(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    heard_fd = info->si_fd;
}
static char *reading(const char *path)
{
    static char name[100];
    snprintf(name, sizeof name, "%s-read", path);
    return name;
}
static int make(const char *path, int flags)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    MUST(fd >= 0 && write(fd, "content", 7) == 7 && ftruncate(fd, 100000) == 0 && close(fd) == 0);
    fd = open(path, flags);
    MUST(fd >= 0 && lseek(fd, 3, SEEK_SET) == 3);
    return fd;
}
static int lease(int fd, int kind)
{
    MUST(fcntl(fd, F_SETSIG, SIGNAL) == 0 && fcntl(fd, F_SETLEASE, kind) == 0);
    return fd;
}
/* Somebody else opens it: it is told, and gives the lease back. */
static void taken_back(const char *path, int fd, int flags)
{
    heard_fd = -1;
    MUST(open(path, flags | O_NONBLOCK) < 0 && errno == EWOULDBLOCK);
    while (heard_fd < 0)
        usleep(100);
    MUST(heard_fd == fd && fcntl(fd, F_SETLEASE, F_UNLCK) == 0);
    int other = open(path, flags | O_NONBLOCK);
    MUST(other >= 0 && close(other) == 0);
}
static void child_main(void)
{
    for (int k = 0; k < 2; k++)
        readers[k] = lease(open(reading(paths[k]), O_RDONLY), F_RDLCK);
    char byte;
    MUST(write(told[1], "r", 1) == 1 && read(told[1], &byte, 1) == 1);
    for (int k = 0; k < 2; k++)
        MUST(fcntl(readers[k], F_GETLEASE) == F_RDLCK && fcntl(readers[k], F_SETLEASE, F_UNLCK) == 0);
    _exit(0);
}

int main(void)
{
    struct sigaction a = {.sa_sigaction = hear, .sa_flags = SA_SIGINFO | SA_RESTART};
    char byte, got[8] = "";
    int status;
    MUST(sigaction(SIGNAL, &a, NULL) == 0);
    bool layered = mkdir("/var/tmp/leases", 0700) == 0; /* an ordinary user's pod may not write there */
    paths[1] = layered ? paths[1] : "/dev/shm/leased";
    for (int k = 0; k < 2; k++) {
        writers[k] = lease(make(paths[k], k && layered ? O_WRONLY : O_RDWR), F_WRLCK);
        readers[k] = make(reading(paths[k]), O_RDONLY);
    }
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, told) == 0);
    child = fork();
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        child_main();
    }
    MUST(read(told[0], &byte, 1) == 1);
    for (int k = 0; k < 2; k++)
        lease(readers[k], F_RDLCK);
    victim_wait();
    MUST(heard_fd == -1 && fcntl(writers[0], F_GETLEASE) == F_WRLCK && fcntl(writers[1], F_GETLEASE) == F_WRLCK);
    MUST(write(told[0], "v", 1) == 1 && waitpid(child, &status, 0) == child && status == 0);
    for (int k = 0; k < 2; k++) {
        MUST(fcntl(readers[k], F_GETLEASE) == F_RDLCK && fcntl(readers[k], F_GETSIG) == SIGNAL);
        taken_back(reading(paths[k]), readers[k], O_WRONLY);
        taken_back(paths[k], writers[k], O_RDONLY);
        MUST(lseek(writers[k], 0, SEEK_CUR) == 3 && lseek(readers[k], 0, SEEK_CUR) == 3);
        MUST(pread(readers[k], got, 7, 0) == 7 && !strcmp(got, "content") && unlink(reading(paths[k])) == 0 && unlink(paths[k]) == 0);
    }
    MUST(pread(writers[0], got, 7, 0) == 7 && !strcmp(got, "content"));
    return victim_ok();
}
