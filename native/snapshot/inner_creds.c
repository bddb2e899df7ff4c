/* Credentials that name processes which have ended: /proc knows them no more, but the kernel translates their numbers for whoever asks from
 * within the pod's pid namespace. So a grandchild of the engine asks there, with the engine's descriptors; it is gone before the job runs on, and
 * dies with the engine. */
#include "inner_creds.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files_facts.h"

struct question {
    int fd, offset;
    pid_t (*ask)(const struct question *q);
};

static pid_t peer_ask(const struct question *q)
{
    struct ucred creds = {0};
    socklen_t len = sizeof creds;
    return getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) < 0 ? 0 : creds.pid;
}

static pid_t sender_ask(const struct question *q)
{
    char byte;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct ucred))]; /* no room for descriptors that come with it */
    struct iovec place = {&byte, 1};
    struct msghdr header = {.msg_iov = &place, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct ucred creds = {0};
    if (setsockopt(q->fd, SOL_SOCKET, SO_PEEK_OFF, &q->offset, sizeof q->offset) < 0 || recvmsg(q->fd, &header, MSG_PEEK | MSG_DONTWAIT) < 0)
        return 0;
    for (const struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, (struct cmsghdr *)(uintptr_t)c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(&creds, CMSG_DATA(c), sizeof creds);
    return creds.pid;
}

static _Noreturn void child_answer(const struct question *q, int answer)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pid_t pid = q->ask(q);
    _exit(write(answer, &pid, sizeof pid) != sizeof pid);
}

static void child_await(pid_t child)
{
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static pid_t child_make(void)
{
    return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, NULL, NULL, 0);
}

/* Through a child between: an ordinary user's engine could not come back from there for its own later children. */
static _Noreturn void between(int space, const struct question *q, int answer)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pid_t child = setns(space, CLONE_NEWPID) < 0 ? -1 : child_make();
    if (child == 0)
        child_answer(q, answer);
    child_await(child);
    _exit(child < 0);
}

static pid_t asked_there(const struct pod *pod, const struct question *q)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/pid", pod->init_pid);
    AUTO_CLOSE int space = open(path, O_RDONLY | O_CLOEXEC);
    int ends[2];
    pid_t answer = 0;
    if (space < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return 0;
    pid_t child = child_make();
    if (child == 0)
        between(space, q, ends[1]);
    child_await(child);
    if (read(ends[0], &answer, sizeof answer) != sizeof answer)
        answer = 0;
    close(ends[0]);
    close(ends[1]);
    return answer;
}

/* Many sockets name the same few. */
static uint64_t inner_of(const struct pod *pod, const struct question *q, pid_t outer)
{
    static struct known {
        pid_t outer, inner;
    } *known;
    static size_t count;
    uint64_t living = pid_inside(outer);
    if (living || outer <= 0)
        return living;
    for (size_t k = 0; k < count; k++)
        if (known[k].outer == outer)
            return (uint64_t)known[k].inner;
    pid_t inner = asked_there(pod, q);
    *(struct known *)list_add((void **)&known, &count, sizeof *known) = (struct known){outer, inner > 0 ? inner : 0};
    return (uint64_t)(inner > 0 ? inner : 0);
}

uint64_t inner_peer(const struct pod *pod, int fd, pid_t outer)
{
    return inner_of(pod, &(struct question){.fd = fd, .ask = peer_ask}, outer);
}

uint64_t inner_sender(const struct pod *pod, int fd, int offset, pid_t outer)
{
    return inner_of(pod, &(struct question){.fd = fd, .offset = offset, .ask = sender_ask}, outer);
}
