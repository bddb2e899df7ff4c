/* See netlink.h. The kernel works through netlink requests inside sendmsg, so every answer is there when it returns. */
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ERRNO_MAX 4095

static int socket_bound(int protocol, struct err *e)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return err_errno(e, "netlink socket");
    struct sockaddr_nl me = {.nl_family = AF_NETLINK};
    if (bind(fd, (struct sockaddr *)&me, sizeof me) < 0) {
        err_errno(e, "bind netlink socket");
        close(fd);
        return -1;
    }
    return fd;
}

/* Who may enter a namespace may not always return (an ordinary user's own user namespace): then a child that shares our descriptors
 * goes there, makes the socket, and ends. */
static int socket_by_child(int nsfd, int protocol, struct err *e)
{
    int ends[2], status;
    struct answer {
        int fd;
        struct err error;
    } answer = {.fd = -1};
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0) {
        answer.fd = setns(nsfd, CLONE_NEWNET) < 0 ? err_errno(&answer.error, "enter the network namespace") : socket_bound(protocol, &answer.error);
        ssize_t n = write(ends[1], &answer, sizeof answer);
        _exit(n != (ssize_t)sizeof answer);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    close(ends[1]); /* shared with the child: closed only now */
    AUTO_CLOSE int from = ends[0];
    if (pid < 0 || io_read_all(from, &answer, sizeof answer, e) < 0)
        return err_errno(e, "the child that enters the network namespace");
    if (answer.fd < 0)
        *e = answer.error;
    return answer.fd;
}

int netlink_open(int nsfd, int protocol, struct err *e)
{
    if (nsfd < 0)
        return socket_bound(protocol, e);
    AUTO_CLOSE int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return err_errno(e, "open our network namespace");
    if (setns(home, CLONE_NEWNET) < 0)
        return socket_by_child(nsfd, protocol, e);
    if (setns(nsfd, CLONE_NEWNET) < 0)
        return err_errno(e, "enter the network namespace");
    int fd = socket_bound(protocol, e);
    CHECK(setns(home, CLONE_NEWNET) == 0);
    return fd;
}

static void pad(struct buf *b)
{
    static const uint8_t zeros[4];
    buf_add(b, zeros, (4 - b->len % 4) % 4);
}

void netlink_pad(struct buf *b, const void *data, size_t len)
{
    buf_add(b, data, len);
    pad(b);
}

size_t netlink_begin(struct buf *b, uint16_t type, uint16_t flags, const void *header, size_t len)
{
    size_t at = b->len;
    struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST), .nlmsg_seq = (uint32_t)at + 1};
    buf_add(b, &h, sizeof h);
    buf_add(b, header, len);
    pad(b);
    return at;
}

void netlink_end(struct buf *b, size_t at)
{
    uint32_t len = (uint32_t)(b->len - at);
    memcpy(b->data + at, &len, sizeof len);
}

void netlink_put(struct buf *b, uint16_t type, const void *data, size_t len)
{
    struct nlattr a = {.nla_len = (uint16_t)(sizeof a + len), .nla_type = type};
    buf_add(b, &a, sizeof a);
    buf_add(b, data, len);
    pad(b);
}

void netlink_put_u32(struct buf *b, uint16_t type, uint32_t value)
{
    netlink_put(b, type, &value, sizeof value);
}

void netlink_put_str(struct buf *b, uint16_t type, const char *text)
{
    netlink_put(b, type, text, strlen(text) + 1);
}

size_t netlink_nest(struct buf *b, uint16_t type)
{
    size_t at = b->len;
    netlink_put(b, type | NLA_F_NESTED, "", 0);
    return at;
}

void netlink_nest_end(struct buf *b, size_t at)
{
    uint16_t len = (uint16_t)(b->len - at);
    memcpy(b->data + at, &len, sizeof len);
}

/* The first error among the answers of one datagram, 0 if there is none. */
static int error_in(const uint8_t *data, size_t len)
{
    for (size_t at = 0; at + sizeof(struct nlmsghdr) <= len;) {
        struct nlmsghdr h;
        memcpy(&h, data + at, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > len - at)
            return 0;
        int number = 0;
        if (h.nlmsg_type == NLMSG_ERROR && h.nlmsg_len >= sizeof h + sizeof number)
            memcpy(&number, data + at + sizeof h, sizeof number);
        if (number)
            return number < 0 && number >= -ERRNO_MAX ? -number : EPROTO;
        at += NLMSG_ALIGN(h.nlmsg_len);
    }
    return 0;
}

int netlink_send(int fd, const struct buf *b, int *errno_out, struct err *e)
{
    int first = 0;
    *errno_out = 0;
    if (send(fd, b->data, b->len, 0) < 0) {
        *errno_out = errno;
        return err_errno(e, "netlink send");
    }
    for (;;) {
        uint8_t answer[16384];
        ssize_t n = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (!first)
            first = error_in(answer, (size_t)n);
    }
    errno = *errno_out = first;
    return first ? err_errno(e, "netlink") : 0;
}
