/* Host name, IPC, network and control group namespaces that an ordinary user makes in a user namespace: names stay, what is in the pod's is not seen,
 * two processes share them, a third one has a second host name in an inner user namespace.
 * COVERAGE: host name namespace that the job made | captured |
 * COVERAGE: IPC namespace that the job made | captured | without POSIX message queues; with them refused by name
 * COVERAGE: control group namespace that the job made | captured |
 * COVERAGE: network namespace that the job made, with its loopback device alone | captured | */
#include <errno.h>
#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "spaces_net.h"

static ino_t space(const char *pid, const char *name)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, name);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static int name_is(const char *wanted, const char *domain)
{
    char name[65] = {0}, of[65] = {0};
    return gethostname(name, sizeof name) == 0 && strcmp(name, wanted) == 0 && getdomainname(of, sizeof of) == 0 && (!domain || strcmp(of, domain) == 0);
}

static int abstract(int listening)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0box"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(fd >= 0);
    if (listening ? bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 4) < 0 : connect(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static pid_t child_start(int inner, int told, int go)
{
    pid_t child = fork();
    if (child)
        return child;
    char byte;
    if (inner) {
        become(CLONE_NEWUSER | CLONE_NEWUTS, 0, 0);
        MUST(sethostname("inner", 5) == 0);
    }
    MUST(write(told, "r", 1) == 1 && read(go, &byte, 1) == 1);
    MUST(name_is(inner ? "inner" : "box", "realm") && lo_is_up(0) && shmget(77, 4096, 0) < 0 && errno == ENOENT);
    MUST(abstract(0) >= 0);
    char parent[16];
    snprintf(parent, sizeof parent, "%d", getppid());
    static const char *const names[] = {"net", "ipc", "cgroup", "uts"};
    for (size_t k = 0; !inner && k < 4; k++) /* of a process with more rights it may not look at them */
        MUST(space("self", names[k]) && space("self", names[k]) == space(parent, names[k]));
    _exit(40);
}

int main(void)
{
    int go[2], told[2], status;
    char byte, outer[65] = {0}, now[65] = {0};
    static const char *const names[] = {"user", "uts", "ipc", "net", "cgroup"};
    MUST(pipe(go) == 0 && pipe(told) == 0 && gethostname(outer, sizeof outer) == 0 && shmget(77, 4096, IPC_CREAT | 0600) >= 0);
    pid_t boxed = fork();
    if (boxed == 0) {
        become(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP, 0, 0);
        MUST(sethostname("box", 3) == 0 && setdomainname("realm", 5) == 0 && !lo_is_up(0) && lo_is_up(1));
        int inner[2], pair[2], listener = abstract(1), client = abstract(0), server = accept(listener, NULL, NULL);
        MUST(pipe(inner) == 0 && listener >= 0 && client >= 0 && server >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
        MUST(write(pair[0], "pair", 4) == 4 && write(client, "name", 4) == 4);
        pid_t first = child_start(0, inner[1], go[0]), second = child_start(1, inner[1], go[0]);
        MUST(read(inner[0], &byte, 1) == 1 && read(inner[0], &byte, 1) == 1);
        MUST(write(told[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
        MUST(read(pair[1], outer, 4) == 4 && memcmp(outer, "pair", 4) == 0 && read(server, outer, 4) == 4 && memcmp(outer, "name", 4) == 0);
        MUST(name_is("box", "realm") && lo_is_up(0) && shmget(77, 4096, 0) < 0 && errno == ENOENT);
        MUST(waitpid(first, &status, 0) == first && WEXITSTATUS(status) == 40 && waitpid(second, &status, 0) == second && WEXITSTATUS(status) == 40);
        MUST(shmget(77, 4096, IPC_CREAT | 0600) >= 0 && sethostname("other", 5) == 0);
        _exit(0);
    }
    MUST(read(told[0], &byte, 1) == 1);
    victim_wait();
    char pid[16];
    snprintf(pid, sizeof pid, "%d", boxed);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        MUST(space("self", names[k]) && space(pid, names[k]) && space("self", names[k]) != space(pid, names[k]));
    MUST(abstract(0) < 0 && errno == ECONNREFUSED && write(go[1], "xx", 2) == 2 && write(go[1], "x", 1) == 1);
    MUST(waitpid(boxed, &status, 0) == boxed && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    MUST(gethostname(now, sizeof now) == 0 && strcmp(now, outer) == 0 && shmget(77, 4096, 0) >= 0);
    return victim_ok();
}
