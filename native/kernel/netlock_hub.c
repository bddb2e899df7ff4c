/* See netlock_hub.h. The child holds a lock on the pod's directory as long as it lives: nobody opens the hub while a dead engine's child may
 * still be cutting it. */
#include "netlock_hub.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOCK_TIMEOUT_MS 3000

static int child_channel = -1;

struct answer {
    int result;
    struct err error;
};

/* -1 when it is not to be had in time. */
static int directory_lock(const struct pod *pod)
{
    int fd = openat(pod->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int waited_ms = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += 5) {
        if (waited_ms < LOCK_TIMEOUT_MS) {
            poll(NULL, 0, 5);
            continue;
        }
        close(fd);
        fd = -1;
    }
    return fd;
}

static _Noreturn void child_main(const struct pod *pod, int channel)
{
    struct answer a = {0};
    char asked;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int fd = 0; fd < 3; fd++) /* our output's end is told by the end of the engine */
        close(fd);
    if (directory_lock(pod) < 0)
        a.result = err_set(&a.error, E_BUSY, "another engine works on %s", pod->dir);
    if (send(channel, &a, sizeof a, MSG_NOSIGNAL) != (ssize_t)sizeof a)
        _exit(0);
    while (recv(channel, &asked, 1, 0) == 1) {
        a = (struct answer){0};
        a.result = netlock_at_hub(pod, asked == 'c', &a.error);
        if (send(channel, &a, sizeof a, MSG_NOSIGNAL) != (ssize_t)sizeof a)
            break;
        netlock_rest();
    }
    _exit(0);
}

static int answer_take(struct err *e)
{
    struct answer a;
    ssize_t n;
    do
        n = recv(child_channel, &a, sizeof a, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof a)
        return err_set(e, E_PROTOCOL, "the child that works at the hub died");
    if (a.result < 0)
        *e = a.error;
    return a.result < 0 ? -1 : 0;
}

int netlock_leave_child(const struct pod *pod, struct err *e)
{
    int ends[2];
    if (!pod->net.present || child_channel >= 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(e, "socketpair");
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child_main(pod, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err_errno(e, "fork");
    }
    child_channel = ends[0];
    return answer_take(e);
}

int netlock_ask_hub(const struct pod *pod, bool cut, struct err *e)
{
    if (child_channel < 0) {
        AUTO_CLOSE int lock = directory_lock(pod);
        (void)lock; /* without it too: what must be done at the hub is done */
        return netlock_at_hub(pod, cut, e);
    }
    if (send(child_channel, cut ? "c" : "o", 1, MSG_NOSIGNAL) != 1)
        return err_errno(e, "ask the child that works at the hub");
    return answer_take(e);
}
