/* Asking a pod's pager from outside how it stands. See pager.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "pager.h"

#define ANSWER_S 2
#define LOOK_MS 10
#define TELL_NS 1000000000ul

int pager_connect(const struct pod *pod, struct err *e)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = ANSWER_S};
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/" PAGER_SOCKET, pod->dirfd);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, "socket");
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0)
        return fd;
    int failed = errno;
    close(fd);
    errno = failed;
    return failed == ENOENT || failed == ECONNREFUSED ? err_set(e, E_NO_INPUT, "nothing is missing in the pod's memory") : err_errno(e, "ask the pod's pager");
}

int pager_status_get(const struct pod *pod, struct pager_status *out, struct err *e)
{
    struct timeval patience = {.tv_sec = ANSWER_S};
    AUTO_CLOSE int fd = pager_connect(pod, e);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (send(fd, (char[]){PAGER_STATUS}, 1, MSG_NOSIGNAL) != 1 || recv(fd, out, sizeof *out, 0) != (ssize_t)sizeof *out)
        return err_set(e, E_BUSY, "the pod's pager does not answer");
    out->why[sizeof out->why - 1] = 0;
    return 0;
}

static void progress(const struct pager_status *s, uint64_t *told_ns)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (now - *told_ns < TELL_NS)
        return;
    *told_ns = now;
    output_event("progress", "\"filling_left_bytes\":%lu,\"filling_total_bytes\":%lu", s->left_bytes, s->total_bytes);
}

int pager_await(const struct pod *pod, uint64_t patience_ms, struct err *e)
{
    struct pager_status s = {0};
    uint64_t told_ns = 0, give_up_ns = clock_ns(CLOCK_MONOTONIC) + patience_ms * 1000000;
    while (clock_ns(CLOCK_MONOTONIC) < give_up_ns) {
        if (pager_status_get(pod, &s, e) == 0)
            progress(&s, &told_ns);
        else if (e->code == E_NO_INPUT)
            return 0;
        poll(NULL, 0, LOOK_MS);
    }
    return err_set(e, E_BUSY, "the pod's memory is still being brought: %lu of %lu MiB are missing%s%s", s.left_bytes >> 20, s.total_bytes >> 20,
                   s.lacking ? ": " : "", s.lacking ? s.why : "");
}
