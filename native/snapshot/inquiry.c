/* See inquiry.h. */
#include "inquiry.h"

#include <stdlib.h>

int inquiry_begin(struct inquiry *q, struct victim *v, size_t thread, struct err *e)
{
    q->v = v;
    q->thread = thread;
    q->count = q->used = 0;
    return remote_open(v, e);
}

uint64_t inquiry_room(struct inquiry *q, size_t len)
{
    size_t at = q->used;
    q->used += (len + 7) & ~(size_t)7;
    CHECK(q->used <= q->v->data_len);
    return q->v->data + at;
}

size_t inquiry_add(struct inquiry *q, struct remote_call call)
{
    CHECK(q->count < REMOTE_BATCH_MAX);
    q->calls[q->count] = call;
    return q->count++;
}

int inquiry_run(struct inquiry *q, struct err *e)
{
    if (remote_batch(q->v, q->thread, q->calls, q->count, false, NULL, e) < 0)
        return -1;
    q->answers = xrealloc(q->answers, q->used + 1, 1);
    return victim_read(q->v, q->v->data, q->answers, q->used, e);
}

const void *inquiry_answer(const struct inquiry *q, uint64_t room)
{
    CHECK(room >= q->v->data && room - q->v->data < q->used);
    return q->answers + (room - q->v->data);
}

void inquiry_free(struct inquiry *q)
{
    free(q->answers);
    q->answers = NULL;
}
