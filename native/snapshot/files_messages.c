/* See files_messages.h. */
#include "files_messages.h"
#include "inner_creds.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_BYTES 4096u
#define FIRST_BUFFER_BYTES (128u * 1024)

struct peeking {
    const struct saving *v;
    const struct source *src;
    size_t stream;           /* bytes of it, 0: messages */
    bool zero_ends;
    struct buf room;         /* cap bytes to receive into */
    int offset;              /* of the next message in the queue */
};

static int peek_off_set(int fd, int value, struct err *e)
{
    return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value) < 0 ? err_errno(e, "SO_PEEK_OFF") : 0;
}

/* Descriptors that peeking gave to us are closed at once. */
static size_t rights_close(const struct cmsghdr *c)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        close(fd);
    }
    return count;
}

static int control_parse(const struct peeking *p, struct msghdr *header, struct peeked *m, struct err *e)
{
    size_t rights = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            rights += rights_close(c);
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&m->creds, CMSG_DATA(c), sizeof m->creds);
            m->has_creds = true;
        }
    }
    return rights ? source_busy(p->v, p->src, e, "a Unix socket with %zu descriptors on their way (SCM_RIGHTS)", rights) : 0;
}

static int sender_find(const struct peeking *p, struct peeked *m, int at, struct err *e)
{
    m->inner_pid = inner_sender(p->v->s->pod, p->src->fd, at, m->creds.pid);
    return peek_off_set(p->src->fd, p->offset, e);
}

/* 1: a message, 0: no more. */
static int message_next(struct peeking *p, struct peeked *m, struct sockaddr_storage *from, struct err *e)
{
    for (;;) {
        _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
        struct iovec place = {p->room.data, p->room.cap};
        struct msghdr header = {.msg_name = from, .msg_namelen = sizeof *from, .msg_iov = &place, .msg_iovlen = 1,
                                .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(p->src->fd, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (p->stream ? 0 : MSG_TRUNC));
        if (n < 0)
            return errno == EAGAIN ? 0 : err_errno(e, "messages of a socket");
        if (n == 0 && (p->stream || p->zero_ends))
            return 0; /* the end of file behind the data */
        *m = (struct peeked){.data = p->room.data, .len = (size_t)n, .from = from, .from_len = header.msg_namelen};
        if (control_parse(p, &header, m, e) < 0)
            return -1;
        if ((size_t)n <= p->room.cap) {
            p->offset += (int)n;
            return m->has_creds && sender_find(p, m, p->offset - (int)n, e) < 0 ? -1 : 1;
        }
        p->room.data = xrealloc(p->room.data, 1, (size_t)n);
        p->room.cap = (size_t)n;
        if (peek_off_set(p->src->fd, p->offset, e) < 0)
            return -1;
    }
}

static int peek_begin(const struct saving *v, const struct source *src, int *before, socklen_t *len, struct err *e)
{
    if (getsockopt(src->fd, SOL_SOCKET, SO_PEEK_OFF, before, len) < 0)
        return err_errno(e, "SO_PEEK_OFF");
    if (journal_note(v->s->pod, "peekoff %d %d %lu %d", v->s->victims[src->victim].pid, src->number,
                     (unsigned long)src->facts.st.st_ino, *before) < 0)
        return err_set(e, E_IO, "journal cannot be written");
    return peek_off_set(src->fd, 0, e);
}

/* Nothing to read: nothing to touch. */
static bool is_empty(const struct source *src)
{
    struct pollfd state = {.fd = src->fd, .events = POLLIN};
    return poll(&state, 1, 0) >= 0 && !(state.revents & POLLIN);
}

int messages_peek(const struct saving *v, const struct source *src, size_t stream, bool zero_ends,
                  int (*fn)(void *ctx, const struct peeked *m, struct err *e), void *ctx, struct err *e)
{
    int before = -1;
    socklen_t len = sizeof before;
    if (is_empty(src))
        return 0;
    struct peeking p = {.v = v, .src = src, .stream = stream, .zero_ends = zero_ends,
                        .room = {xcalloc(1, FIRST_BUFFER_BYTES), 0, FIRST_BUFFER_BYTES}};
    int result = peek_begin(v, src, &before, &len, e);
    for (int more = 1; result == 0 && more && (!stream || (size_t)p.offset < stream);) {
        struct sockaddr_storage from = {0};
        struct peeked m;
        more = message_next(&p, &m, &from, e);
        if (more < 0 || (more && fn(ctx, &m, e) < 0))
            result = -1;
    }
    struct err on_leaving;
    if (peek_off_set(src->fd, before, &on_leaving) < 0 && result == 0)
        result = err_set(e, E_OS, "%s", on_leaving.message);
    buf_free(&p.room);
    return result;
}
