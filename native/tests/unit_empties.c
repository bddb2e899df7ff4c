/* What is remembered of empty datagrams by an engine that is killed behind, before or without its look at a queue. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "snapshot/empties.h"
#include "tap.h"

#define INODE 77u

static struct pod pod;

/* A look as the engine takes it, in a process that ends before it can note what it saw. */
static void look_and_die(int fd, bool called)
{
    struct err e = {0};
    if (empties_open(&pod, &e) < 0)
        _exit(1);
    struct empties_answer *a = empties_look(INODE);
    char rest[64];
    struct iovec places[] = {{a->first, sizeof a->first}, {rest, sizeof rest}};
    a->header.msg_iov = places;
    a->header.msg_iovlen = 2;
    _exit(called && recvmsg(fd, &a->header, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) < 0 && errno != EAGAIN);
}

static bool remembered(void)
{
    struct err e = {0};
    return empties_open(&pod, &e) == 0 && empties_have(INODE);
}

static int in_child(bool look, int fd, bool called)
{
    int status;
    pid_t pid = fork();
    if (pid == 0 && look)
        look_and_die(fd, called);
    if (pid == 0)
        _exit(remembered());
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void killed(const char *message, size_t len, bool called, bool expected, const char *words)
{
    int ends[2];
    unlinkat(pod.dirfd, "empties", 0);
    bool made = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0 && (!message || send(ends[0], message, len, 0) == (ssize_t)len);
    ok(made && in_child(true, ends[1], called) == 0 && in_child(false, -1, false) == expected, "%s", words);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    char dir[] = "/tmp/clusteros-empties-XXXXXX";
    if (!mkdtemp(dir) || (pod.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    killed("", 0, true, true, "an empty datagram that was looked at is remembered");
    killed("x", 1, true, false, "one byte is not taken for an empty datagram");
    killed("a longer message than what is kept of it", 40, true, false, "nor is a longer message");
    killed(NULL, 0, true, false, "nor an empty queue");
    killed("", 0, false, false, "what was not looked at yet can be looked at");
    unlinkat(pod.dirfd, "empties", 0);
    rmdir(dir);
    return done_testing();
}
