/* See mqueue_take.h. A call that was begun ends before its caller does, whatever kills it (signal(7)); so the number of messages in the queue tells how
 * many calls there were. The file is filled and its pages are there before the first of them: no call ends half done for want of memory. */
#include "mqueue_take.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../pod/state.h"

#define AREA "mqueue"
#define AREA_MAX (256ul << 20)
#define MESSAGES_MAX (1ul << 20)

enum phase { IDLE, TAKING, PUTTING };

struct area {
    uint64_t bytes;              /* of all of it */
    uint64_t phase;
    uint64_t dev, ino;           /* of the queue */
    uint64_t messages, content;  /* as found: how many, and their bytes */
    uint64_t message_bytes;      /* of the longest that it may hold */
    uint64_t taken;              /* whose records are complete */
};
struct record {
    uint64_t len;
    uint64_t priority;           /* the kernel writes the lower half */
    uint8_t data[];
};

int mqueue_look(int fd, struct mqueue_look *out, struct err *e)
{
    char text[256] = "", path[64];
    struct mq_attr attr;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    AUTO_CLOSE int own = open(path, O_RDONLY | O_CLOEXEC); /* the position in the text is the description's */
    if (own < 0 || pread(own, text, sizeof text - 1, 0) < 0 || syscall(SYS_mq_getsetattr, own, NULL, &attr) < 0)
        return err_errno(e, "state of a POSIX message queue");
    const char *pid = strstr(text, "NOTIFY_PID:"), *size = strstr(text, "QSIZE:");
    *out = (struct mqueue_look){.messages = (uint64_t)attr.mq_curmsgs, .bytes = size ? strtoul(size + strlen("QSIZE:"), NULL, 10) : 0,
                                .max_messages = (uint64_t)attr.mq_maxmsg, .message_bytes = (uint64_t)attr.mq_msgsize,
                                .notified_pid = pid ? strtoul(pid + strlen("NOTIFY_PID:"), NULL, 10) : 0};
    return 0;
}

/* ---- records, one behind the other */
static uint64_t record_bytes(uint64_t len)
{
    return sizeof(struct record) + (len + 7) / 8 * 8;
}

static struct record *record_first(struct area *a)
{
    return (struct record *)(void *)(a + 1);
}

static struct record *record_next(struct record *r)
{
    return (struct record *)(void *)((uint8_t *)r + record_bytes(r->len));
}

static struct record *record_at(struct area *a, uint64_t index)
{
    struct record *r = record_first(a);
    while (index--)
        r = record_next(r);
    return r;
}

static uint64_t content_taken(struct area *a)
{
    uint64_t total = 0;
    struct record *r = record_first(a);
    for (uint64_t k = 0; k < a->taken; k++, r = record_next(r))
        total += r->len;
    return total;
}

/* ---- taking and putting */
/* The last call may have been its caller's end: the message is here, its length is not. */
static int last_complete(struct area *a, const struct mqueue_look *q, struct err *e)
{
    uint64_t gone = a->messages - q->messages, before = content_taken(a);
    if (gone == a->taken)
        return 0;
    if (gone != a->taken + 1 || before + q->bytes > a->content || a->content - before - q->bytes > a->message_bytes)
        return err_set(e, E_BUG, "a POSIX message queue holds %lu of %lu messages, and %lu were taken", q->messages, a->messages, a->taken);
    record_at(a, a->taken)->len = a->content - before - q->bytes;
    __atomic_store_n(&a->taken, a->taken + 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int rest_take(struct area *a, int fd, struct err *e)
{
    struct record *r = record_at(a, a->taken);
    for (; a->taken < a->messages; r = record_next(r)) {
        long n = syscall(SYS_mq_timedreceive, fd, r->data, a->message_bytes, &r->priority, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "look at message %lu of a POSIX message queue", a->taken);
        r->len = (uint64_t)n;
        __atomic_store_n(&a->taken, a->taken + 1, __ATOMIC_SEQ_CST);
    }
    return 0;
}

static int rest_put(struct area *a, int fd, uint64_t from, struct err *e)
{
    struct record *r = record_at(a, from);
    for (uint64_t k = from; k < a->taken;) {
        if (syscall(SYS_mq_timedsend, fd, r->data, r->len, r->priority, NULL) < 0) {
            if (errno == EINTR)
                continue;
            return err_errno(e, "put message %lu of a POSIX message queue back", k);
        }
        k++;
        r = record_next(r);
    }
    return 0;
}

static void phase_set(struct area *a, enum phase phase)
{
    __atomic_store_n(&a->phase, phase, __ATOMIC_SEQ_CST);
}

/* From whatever the area says to a queue that is as it was. */
static int finish(struct area *a, int fd, struct err *e)
{
    struct mqueue_look q;
    if (mqueue_look(fd, &q, e) < 0)
        return -1;
    if (a->phase == TAKING) { /* to the end: what is put back comes behind what is there */
        if (last_complete(a, &q, e) < 0 || rest_take(a, fd, e) < 0)
            return -1;
        phase_set(a, PUTTING);
        q.messages = 0;
    }
    if (q.messages > a->taken)
        return err_set(e, E_BUG, "a POSIX message queue holds %lu messages, it held %lu", q.messages, a->taken);
    if (rest_put(a, fd, q.messages, e) < 0)
        return -1;
    phase_set(a, IDLE);
    return 0;
}

/* ---- the area */
static struct area *area_map(int fd, uint64_t bytes, struct err *e)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED)
        return err_errno(e, "map POD/" AREA), NULL;
    (void)mlock(at, bytes);
    return at;
}

static struct area *area_make(const struct pod *pod, const struct stat *st, const struct mqueue_look *q, struct err *e)
{
    uint64_t bytes = sizeof(struct area) + q->messages * record_bytes(0) + q->messages * 8 + q->bytes + record_bytes(q->message_bytes);
    if (q->messages > MESSAGES_MAX || q->bytes > AREA_MAX || q->message_bytes > AREA_MAX)
        return err_set(e, E_UNSUPPORTED, "a POSIX message queue with %lu messages of %lu bytes: too much to look at", q->messages, q->bytes), NULL;
    AUTO_CLOSE int fd = openat(pod->dirfd, AREA, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    errno = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)bytes);
    if (fd < 0 || errno)
        return err_errno(e, "POD/" AREA), NULL;
    struct area *a = area_map(fd, bytes, e);
    if (!a)
        return NULL;
    memset(a, 0, bytes); /* every page is written to, and may be again */
    *a = (struct area){.bytes = bytes, .dev = st->st_dev, .ino = st->st_ino, .messages = q->messages, .content = q->bytes, .message_bytes = q->message_bytes};
    return a;
}

static void area_end(const struct pod *pod, struct area *a)
{
    munmap(a, a->bytes);
    (void)unlinkat(pod->dirfd, AREA, 0);
}

static void messages_keep(struct area *a, struct mqueue *out)
{
    struct record *r = record_first(a);
    for (uint64_t k = 0; k < a->taken; k++, r = record_next(r)) {
        struct mq_message *m = LIST_ADD(out, messages);
        m->priority = (uint32_t)r->priority;
        bytes_set(&m->data, r->data, r->len);
    }
}

static int note(const char *word, uint64_t ino, struct err *e)
{
    return journal_note("mqueue %s %lu", word, ino) < 0 ? err_set(e, E_IO, "write the journal") : 0;
}

static int take_and_put(struct area *a, int fd, struct mqueue *out, struct err *e)
{
    if (note("take", a->ino, e) < 0)
        return -1;
    phase_set(a, TAKING);
    if (rest_take(a, fd, e) < 0 || note("put", a->ino, e) < 0) {
        struct err first = *e;
        return finish(a, fd, e) < 0 ? -1 : (*e = first, -1);
    }
    messages_keep(a, out);
    phase_set(a, PUTTING);
    return finish(a, fd, e);
}

int mqueue_messages_save(const struct pod *pod, int fd, struct mqueue *out, struct err *e)
{
    struct mqueue_look q;
    struct stat st;
    if (mqueue_look(fd, &q, e) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "state of a POSIX message queue");
    struct area *a = area_make(pod, &st, &q, e);
    if (!a)
        return -1;
    int result = take_and_put(a, fd, out, e);
    if (a->phase == IDLE)
        area_end(pod, a);
    else
        munmap(a, a->bytes); /* whoever undoes this act tries again */
    return result;
}

/* ---- after a death */
static int area_finish(const struct pod *pod, struct area *a, int (*find)(const struct pod *pod, dev_t dev, ino_t ino, struct err *e), struct err *e)
{
    e->code = E_OK;
    AUTO_CLOSE int fd = a->phase == IDLE ? -1 : find(pod, (dev_t)a->dev, (ino_t)a->ino, e);
    if (fd >= 0)
        return finish(a, fd, e);
    return e->code == E_OK ? 0 : -1; /* nobody has it any more: neither has its messages */
}

int mqueue_messages_undo(const struct pod *pod, int (*find)(const struct pod *pod, dev_t dev, ino_t ino, struct err *e), struct err *e)
{
    struct stat st;
    AUTO_CLOSE int file = openat(pod->dirfd, AREA, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0 && errno == ENOENT)
        return 0;
    if (file < 0 || fstat(file, &st) < 0)
        return err_errno(e, "POD/" AREA);
    struct area *a = (size_t)st.st_size < sizeof *a ? NULL : area_map(file, (uint64_t)st.st_size, e);
    if (!a && (size_t)st.st_size >= sizeof *a)
        return -1;
    bool begun = a && a->bytes == (uint64_t)st.st_size; /* else nothing was taken yet */
    int result = begun ? area_finish(pod, a, find, e) : 0;
    if (a)
        munmap(a, (size_t)st.st_size);
    if (result == 0 && unlinkat(pod->dirfd, AREA, 0) < 0)
        return err_errno(e, "remove POD/" AREA);
    return result < 0 ? err_wrap(e, "messages that a dead engine has taken") : 0;
}
