/* What lies in the queues of Unix sockets, looked at once, before the savers of the kinds run: a message may bring descriptors (SCM_RIGHTS) of which
 * nobody else holds any. Such a description becomes a source as if a process held it, named by the socket that it lies in; is it a Unix
 * socket, its own queue is looked at as well. */
#include <errno.h>
#include <linux/kcmp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "../kernel/tcpstate.h"
#include "files_messages.h"

/* A descriptor that came with a message. */
struct brought {
    size_t message;
    int fd;
};
struct looking {
    struct unix_message *queue;
    size_t queue_count;
    struct brought *brought;
    size_t brought_count;
};

static int message_add(void *ctx, const struct peeked *m, struct err *e)
{
    struct looking *l = ctx;
    struct unix_message *message = LIST_ADD(l, queue);
    (void)e;
    bytes_set(&message->data, m->data, m->len);
    if (m->from_len > offsetof(struct sockaddr_un, sun_path))
        bytes_set(&message->address, m->from, m->from_len);
    if (m->has_creds) {
        message->has_creds = 1;
        message->pid = m->inner_pid;
        message->uid = m->creds.uid;
        message->gid = m->creds.gid;
    }
    for (size_t i = 0; i < m->rights_count; i++)
        *LIST_ADD(l, brought) = (struct brought){l->queue_count - 1, m->rights[i]};
    return 0;
}

/* ---- descriptions */
static bool is_source(const struct source *src, const struct stat *st, int fd)
{
    return src->facts.st.st_dev == st->st_dev && src->facts.st.st_ino == st->st_ino &&
           syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, src->fd) == 0;
}

static bool source_find(const struct saving *v, int fd, size_t *found)
{
    struct stat st;
    for (size_t i = 0; fstat(fd, &st) == 0 && i < v->sources_count; i++)
        if (is_source(&v->sources[i], &st, fd)) {
            *found = i;
            return true;
        }
    return false;
}

/* A restore makes these when the queues are filled already: in their owner, or when nothing is made in the file system any more. */
static bool comes_late(const struct source *src)
{
    static const char proc[] = "/proc/";
    const char *process = strncmp(src->facts.link, proc, strlen(proc)) ? "" : src->facts.link + strlen(proc);
    return src->kind == FILE_PIDFD || src->kind == FILE_EPOLL || src->kind == FILE_INOTIFY || (process[0] >= '0' && process[0] <= '9') ||
           (src->kind == FILE_PTY_SLAVE && src->facts.st.st_rdev == makedev(5, 0));
}

/* A process that holds it would have been found first. Closes fd, or keeps it as the source's. */
static int passed_place(struct saving *v, size_t carrier, int fd, size_t *index, struct err *e)
{
    if (source_find(v, fd, index)) {
        close(fd);
    } else {
        *index = v->sources_count;
        struct source *added = LIST_ADD(v, sources);
        *added = (struct source){.victim = v->sources[carrier].victim, .number = v->sources[carrier].number, .fd = fd, .passed = true};
        if (source_learn(v, added, getpid(), fd, e) < 0)
            return -1;
    }
    const struct source *src = &v->sources[*index];
    if (comes_late(src) || (src->passed && facts_field(&src->facts, "lock"))) /* locks are saved with those who hold them */
        return source_busy(v, &v->sources[carrier], e, "a Unix socket with a descriptor on its way (SCM_RIGHTS) that cannot be captured there: %s",
                           src->facts.link);
    return 0;
}

static int brought_place(struct saving *v, size_t carrier, struct looking *l, const struct brought *b, struct err *e)
{
    size_t index;
    if (passed_place(v, carrier, b->fd, &index, e) < 0)
        return -1;
    LIST_ADD(&l->queue[b->message], rights)->file = index + 1; /* as entries_make numbers them */
    return 0;
}

/* ---- queues */
static bool is_unix(const struct source *src)
{
    int domain = 0;
    socklen_t len = sizeof domain;
    return src->kind == FACTS_SOCKET && getsockopt(src->fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

/* Whose first message would be an error, taken by whoever looks (unix_save says so). */
static bool has_error(const struct source *src)
{
    struct pollfd state = {.fd = src->fd};
    return poll(&state, 1, 0) < 0 || state.revents & POLLERR;
}

static size_t queue_bytes(const struct looking *l)
{
    size_t total = 0;
    for (size_t i = 0; i < l->queue_count; i++)
        total += l->queue[i].data.len;
    return total;
}

static int queue_look(const struct saving *v, const struct source *src, struct looking *l, struct err *e)
{
    int waiting = 0;
    const struct diag_unix *d = diag_find_unix(&v->view.diag, src->facts.st.st_ino);
    bool stream = d && d->type == SOCK_STREAM;
    if (!d || d->state == TCP_LISTEN || ioctl(src->fd, SIOCINQ, &waiting) < 0)
        return 0;
    if (stream ? waiting == 0 || d->state == TCP_CLOSE : has_error(src))
        return 0;
    if (messages_peek(v, src, stream ? (size_t)waiting : 0, d->shutdown & TCP_SHUT_RECEIVE, message_add, l, e) < 0)
        return -1;
    if (stream && queue_bytes(l) != (size_t)waiting)
        return source_refuse(v, src, e, "a Unix socket with data that cannot be looked at (%zu of %d bytes)", queue_bytes(l), waiting);
    return 0;
}

int queues_look(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->sources_count; i++) { /* grows */
        struct looking l = {0};
        if (!is_unix(&v->sources[i]))
            continue;
        int result = queue_look(v, &v->sources[i], &l, e);
        for (size_t k = 0; k < l.brought_count; k++)
            if (result == 0)
                result = brought_place(v, i, &l, &l.brought[k], e);
            else
                close(l.brought[k].fd);
        v->sources[i].queue = l.queue;
        v->sources[i].queue_count = l.queue_count;
        free(l.brought);
        if (result < 0)
            return -1;
    }
    return 0;
}
