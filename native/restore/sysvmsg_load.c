/* System V message queues with their old ids and messages, made in podinit before the processes. Mirrors snapshot/sysvmsg_save.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

#include "sysv_load.h"

struct message {
    long type;
    uint8_t data[];
};

static int message_put(int msqid, const struct sysv_message *m, struct err *e)
{
    if (m->type <= 0 || m->data.len > INT32_MAX)
        return err_set(e, E_BAD_IMAGE, "a message of type %ld", m->type);
    AUTO_FREE struct message *copy = xcalloc(1, sizeof *copy + m->data.len + 1);
    copy->type = m->type;
    if (m->data.len)
        memcpy(copy->data, m->data.data, m->data.len);
    return msgsnd(msqid, copy, m->data.len, IPC_NOWAIT) < 0 ? err_errno(e, "put a message of %zu bytes back", m->data.len) : 0;
}

static int queue_load(struct restore *r, const struct sysv_queue *q, struct err *e)
{
    if (q->msqid > INT32_MAX || ipc_next_id(r, "msg", q->msqid, e) < 0)
        return q->msqid > INT32_MAX ? err_set(e, E_BAD_IMAGE, "its number") : -1;
    int msqid = msgget((key_t)q->key, IPC_CREAT | IPC_EXCL | 0600);
    if (msqid < 0)
        return err_errno(e, "make it");
    if ((uint64_t)msqid != q->msqid)
        return err_set(e, E_OS, "it got the number %d", msqid);
    for (size_t k = 0; k < q->messages_count; k++)
        if (message_put(msqid, &q->messages[k], e) < 0)
            return -1;
    bool own = q->uid == r->image->pod.uid;
    struct msqid_ds ds = {.msg_perm = {.uid = own ? (uid_t)q->uid : getuid(), .gid = own ? (gid_t)r->image->pod.gid : getgid(), .mode = q->mode & 0777},
                          .msg_qbytes = q->max_bytes};
    return msgctl(msqid, IPC_SET, &ds) < 0 ? err_errno(e, "set its owner and its %lu bytes", q->max_bytes) : 0;
}

int sysvmsg_load(struct restore *r, uint64_t space, struct err *e)
{
    for (size_t k = 0; k < r->image->sysv_queues_count; k++)
        if (r->image->sysv_queues[k].ipc_space == space && queue_load(r, &r->image->sysv_queues[k], e) < 0)
            return err_wrap(e, "System V message queue %lu", r->image->sysv_queues[k].msqid);
    return 0;
}
