/* See files_messages.h. */
#include "files_messages.h"
#include "empties.h"
#include "inner_creds.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif
#define CONTROL_BYTES 4096u
#define FIRST_BUFFER_BYTES (128u * 1024)

struct peeking {
    const struct saving *v;
    const struct source *src;
    size_t stream;           /* bytes of it, 0: messages */
    bool zero_ends;
    struct buf room;         /* cap bytes to receive into */
    int offset;              /* of the next message in the queue */
    struct empties_answer *answer; /* of this look, NULL: none that an empty message could be seen by */
};

static int peek_off_set(int fd, int value, struct err *e)
{
    return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value) < 0 ? err_errno(e, "SO_PEEK_OFF") : 0;
}

static void rights_close(struct peeked *m)
{
    for (size_t i = 0; i < m->rights_count; i++)
        close(m->rights[i]);
    m->rights_count = 0;
}

/* Peeking gives us duplicates of the descriptors. */
static void rights_take(const struct cmsghdr *c, struct peeked *m)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && m->rights_count < RIGHTS_MAX; i++)
        memcpy(&m->rights[m->rights_count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
}

/* With SO_PASSPIDFD every message brings one more, made for whoever looks. */
static void pidfd_close(const struct cmsghdr *c)
{
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if (fd >= 0)
        close(fd);
}

static void control_parse(struct msghdr *header, struct peeked *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_RIGHTS)
            rights_take(c, m);
        if (c->cmsg_type == SCM_PIDFD)
            pidfd_close(c);
        if (c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&m->creds, CMSG_DATA(c), sizeof m->creds);
            m->has_creds = true;
        }
    }
}

static int sender_find(const struct peeking *p, struct peeked *m, int at, struct err *e)
{
    m->inner_pid = inner_sender(p->v->s->pod, p->src->fd, at, m->creds.pid);
    return peek_off_set(p->src->fd, p->offset, e);
}

/* The first `room` bytes of what lies at `offset` of the queue; *none: nothing does. */
static ssize_t look_at(const struct peeking *p, int offset, size_t room, struct peeked *m, struct sockaddr_storage *from, bool *none, struct err *e)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
    struct empties_answer own = {0}, *a = p->answer ? p->answer : &own;
    size_t first = p->answer ? sizeof a->first : 0;
    struct iovec places[] = {{a->first, first}, {p->room.data + first, room - first}};
    struct msghdr *header = &a->header;
    header->msg_name = from, header->msg_namelen = sizeof *from;
    header->msg_iov = places, header->msg_iovlen = ARRAY_LENGTH(places);
    header->msg_control = control, header->msg_controllen = sizeof control;
    *none = false;
    m->rights_count = 0;
    m->has_creds = false;
    if (peek_off_set(p->src->fd, offset, e) < 0)
        return -1;
    ssize_t n = recvmsg(p->src->fd, header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (p->stream ? 0 : MSG_TRUNC));
    *none = n < 0 && errno == EAGAIN;
    if (n < 0)
        return *none ? 0 : err_errno(e, "messages of a socket");
    memcpy(p->room.data, a->first, first);
    control_parse(header, m);
    m->data = p->room.data;
    m->len = (size_t)n;
    m->from = from;
    m->from_len = header->msg_namelen;
    if (!(header->msg_flags & MSG_CTRUNC))
        return n;
    rights_close(m);
    return err_set(e, E_UNSUPPORTED, "more descriptors on their way (SCM_RIGHTS) than the engine may open");
}

/* A look at a stream goes over what was sent without descriptors and ends behind the bytes that brought some: how many before those were sent without.
 * Peeking shows descriptors too early, so it is what can be copied that tells: of pieces that do not fit whole before the end of our memory
 * nothing is. */
static ssize_t plain_bytes(const struct peeking *p, size_t len, struct err *e)
{
    struct iovec places[] = {{p->room.data, len - 1}, {NULL, 1}};
    struct msghdr header = {.msg_iov = places, .msg_iovlen = 2};
    if (peek_off_set(p->src->fd, p->offset, e) < 0)
        return -1;
    ssize_t n = recvmsg(p->src->fd, &header, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && errno != EFAULT ? err_errno(e, "messages of a socket") : n < 0 ? 0 : n;
}

static ssize_t plain_first(const struct peeking *p, size_t len, struct peeked *m, struct sockaddr_storage *from, struct err *e)
{
    bool none;
    rights_close(m);
    ssize_t plain = plain_bytes(p, len, e);
    if (plain < 0)
        return -1;
    ssize_t n = look_at(p, p->offset, plain ? (size_t)plain : len, m, from, &none, e);
    if (n >= 0 && plain)
        rights_close(m);
    return n;
}

static void room_widen(struct peeking *p, size_t cap)
{
    p->room.data = xrealloc(p->room.data, 1, cap);
    p->room.cap = cap;
}

/* 1: a message, 0: no more. */
static int message_next(struct peeking *p, struct peeked *m, struct sockaddr_storage *from, struct err *e)
{
    bool none;
    p->answer = empties_look(p->src->facts.st.st_ino);
    ssize_t n = look_at(p, p->offset, p->room.cap, m, from, &none, e);
    p->answer = NULL;
    empties_looked(p->src->facts.st.st_ino, n == 0 && !none && !p->stream && !p->zero_ends);
    if (n > (ssize_t)p->room.cap) {
        rights_close(m);
        room_widen(p, (size_t)n);
        n = look_at(p, p->offset, p->room.cap, m, from, &none, e);
    }
    if (n < 0 || none || (n == 0 && (p->stream || p->zero_ends))) /* the end of file behind the data */
        return n < 0 ? -1 : 0;
    if (p->stream && m->rights_count && (n = plain_first(p, (size_t)n, m, from, e)) < 0)
        return -1;
    p->offset += (int)n;
    if (!m->has_creds || sender_find(p, m, p->offset - (int)n, e) == 0)
        return 1;
    rights_close(m);
    return -1;
}

static int peek_begin(const struct saving *v, const struct source *src, int *before, socklen_t *len, struct err *e)
{
    if (getsockopt(src->fd, SOL_SOCKET, SO_PEEK_OFF, before, len) < 0)
        return err_errno(e, "SO_PEEK_OFF");
    if (journal_note("peekoff %d %d %lu %d", v->s->victims[src->victim].pid, src->number,
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
    uint64_t ino = src->facts.st.st_ino;
    if (empties_open(v->s->pod, e) < 0)
        return -1;
    if (is_empty(src)) {
        empties_forget(ino);
        return 0;
    }
    if (!stream && empties_have(ino))
        return source_busy(v, src, e, "a socket with an empty datagram that an earlier snapshot has seen");
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
