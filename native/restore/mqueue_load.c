/* POSIX message queues and their descriptors; those whose name is gone first, so that no name is taken twice. Mirrors snapshot/mqueue_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_load.h"

/* Within one priority they come in the order in which they were put. */
static int messages_put(int fd, const struct mqueue *q, struct err *e)
{
    for (size_t k = 0; k < q->messages_count; k++) {
        const struct mq_message *m = &q->messages[k];
        if (syscall(SYS_mq_timedsend, fd, m->data.len ? m->data.data : (const uint8_t *)"", m->data.len, m->priority, NULL) < 0)
            return err_errno(e, "put message %zu into it", k);
    }
    return 0;
}

static int queue_make(const struct restore *r, const struct mqueue *q, struct err *e)
{
    struct mq_attr attr = {.mq_maxmsg = (long)q->max_messages, .mq_msgsize = (long)q->message_bytes};
    if (q->name[0] != '/' || !q->name[1] || strchr(q->name + 1, '/') || q->max_messages > INT32_MAX || q->message_bytes > INT32_MAX)
        return err_set(e, E_BAD_IMAGE, "the name \"%s\" of a message queue", q->name);
    int fd = (int)syscall(SYS_mq_open, q->name + 1, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_CLOEXEC, 0600, &attr);
    if (fd < 0)
        return err_errno(e, "make it");
    bool own = q->uid == r->pod->facts.uid;
    if ((own && fchown(fd, (uid_t)q->uid, (gid_t)r->pod->facts.gid) < 0) || fchmod(fd, (mode_t)(q->mode & 0777)) < 0) {
        close(fd);
        return err_errno(e, "set its owner");
    }
    return fd;
}

static int descriptors_make(struct restore *r, const struct mqueue *q, int queue, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++) {
        const struct file *f = &r->image->files[i];
        if (f->kind != FILE_MQUEUE || f->ref != q->id)
            continue;
        int fd = file_reopen(queue, f->flags, e);
        if (fd < 0 || file_place(r, i, fd, e) < 0 || file_flags_set(r, i, e) < 0)
            return -1;
    }
    return 0;
}

static int queue_load(struct restore *r, const struct mqueue *q, struct err *e)
{
    AUTO_CLOSE int queue = queue_make(r, q, e);
    if (queue < 0 || messages_put(queue, q, e) < 0 || descriptors_make(r, q, queue, e) < 0)
        return -1;
    return q->unlinked && syscall(SYS_mq_unlink, q->name + 1) < 0 ? err_errno(e, "take its name away") : 0;
}

int mqueues_load(struct restore *r, struct err *e)
{
    for (int named = 0; named < 2; named++)
        for (size_t i = 0; i < r->image->mqueues_count; i++)
            if ((r->image->mqueues[i].unlinked ? 0 : 1) == named && queue_load(r, &r->image->mqueues[i], e) < 0)
                return err_wrap(e, "POSIX message queue %s", r->image->mqueues[i].name);
    return 0;
}
