/* See netdump.h. */
#include "netdump.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"

#define ANSWER_BYTES (64u * 1024)

/* 1: more to come. */
static int answers_take(const uint8_t *data, size_t len, netdump_fn each, void *ctx, int *number, struct err *e)
{
    size_t left = len;
    for (const struct nlmsghdr *m = (const void *)data; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
        if (m->nlmsg_flags & NLM_F_DUMP_INTR)
            return err_set(e, E_BUSY, "a network namespace that is just being changed");
        if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR) {
            int code = 0;
            memcpy(&code, NLMSG_DATA(m), m->nlmsg_len >= NLMSG_LENGTH(sizeof code) ? sizeof code : 0);
            *number = errno = code < 0 ? -code : 0;
            return *number ? err_errno(e, "netlink") : 0;
        }
        if (each(ctx, m, e) < 0)
            return -1;
    }
    return 1;
}

int netdump(int protocol, uint16_t type, const void *header, size_t len, netdump_fn each, void *ctx, int *number, struct err *e)
{
    AUTO_CLOSE int fd = netlink_open(-1, protocol, e);
    if (fd < 0)
        return *number = errno, -1;
    return netdump_on(fd, type, header, len, each, ctx, number, e);
}

int netdump_on(int fd, uint16_t type, const void *header, size_t len, netdump_fn each, void *ctx, int *number, struct err *e)
{
    AUTO_BUF struct buf ask = {0};
    AUTO_FREE uint8_t *answer = xcalloc(1, ANSWER_BYTES);
    *number = 0;
    netlink_end(&ask, netlink_begin(&ask, type, NLM_F_DUMP, header, len));
    if (send(fd, ask.data, ask.len, 0) < 0)
        return *number = errno, err_errno(e, "netlink send");
    for (int more = 1; more == 1;) {
        ssize_t n = recv(fd, answer, ANSWER_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return *number = errno, err_errno(e, "netlink receive");
        more = answers_take(answer, (size_t)n, each, ctx, number, e);
        if (more < 0)
            return -1;
    }
    return 0;
}

static int count_one(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    (void)m, (void)e;
    ++*(int *)ctx;
    return 0;
}

int netdump_count(int protocol, uint16_t type, const void *header, size_t len)
{
    struct err ignored;
    int count = 0, number;
    return netdump(protocol, type, header, len, count_one, &count, &number, &ignored) < 0 ? -(number ? number : EIO) : count;
}
