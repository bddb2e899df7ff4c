/* System V message queues: every queue of the pod's ipc namespace (sysv_save.c has entered it), each message looked at without taking
 * it (MSG_COPY). Mirrored by restore/sysvmsg_load.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "sysv_save.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

struct message {
    long type;
    uint8_t data[];
};

static int message_add(struct sysv_queue *out, struct message *m, size_t room, long nth, struct err *e)
{
    ssize_t n = msgrcv((int)out->msqid, m, room, nth, MSG_COPY | IPC_NOWAIT);
    if (n < 0)
        return errno == ENOMSG ? 1 : err_errno(e, "message %ld of System V queue %lu", nth, out->msqid);
    struct sysv_message *kept = LIST_ADD(out, messages);
    kept->type = m->type;
    bytes_set(&kept->data, m->data, (size_t)n);
    return 0;
}

static int queue_save(struct snapshot *s, int msqid, const struct msqid_ds *ds, struct err *e)
{
    size_t room = ds->__msg_cbytes;
    AUTO_FREE struct message *m = xcalloc(1, sizeof *m + room + 1);
    struct sysv_queue *out = LIST_ADD(&s->image, sysv_queues);
    *out = (struct sysv_queue){.msqid = (uint64_t)msqid, .key = ds->msg_perm.__key, .mode = ds->msg_perm.mode & 0777,
                               .uid = ds->msg_perm.uid, .gid = ds->msg_perm.gid, .max_bytes = ds->msg_qbytes};
    int end = 0;
    for (long nth = 0; !end; nth++)
        if ((end = message_add(out, m, room, nth, e)) < 0)
            return -1;
    return out->messages_count == ds->msg_qnum ? 0 : err_set(e, E_OS, "System V queue %d shows %zu of %lu messages", msqid, out->messages_count, ds->msg_qnum);
}

int sysvmsg_save(struct snapshot *s, struct err *e)
{
    struct msginfo info;
    int highest = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&info);
    if (highest < 0)
        return err_errno(e, "list System V message queues");
    for (int index = 0; index <= highest && info.msgpool; index++) {
        struct msqid_ds ds;
        int msqid = msgctl(index, MSG_STAT, &ds);
        if (msqid >= 0 && queue_save(s, msqid, &ds, e) < 0)
            return -1;
    }
    return 0;
}
