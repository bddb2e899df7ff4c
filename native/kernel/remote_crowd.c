/* See remote.h: batches in many threads at one time. Only for processes that end with their tracer, so nothing of them needs to be put back if
 * it dies, and one piece of code serves all threads. */
#include <sys/mman.h>

#include "remote_code.h"
#include "trace.h"

struct victim remote_slot(const struct victim *v, size_t slot)
{
    CHECK(v->scratch && v->expendable && slot < REMOTE_CROWD_MAX);
    _Static_assert(CODE_TABLE + (int)REMOTE_CROWD_MAX * CODE_SLOT_BYTES <= (int)REMOTE_SCRATCH_BYTES, "slots fit");
    struct victim out = *v;
    out.data = v->scratch + CODE_TABLE + slot * (size_t)CODE_SLOT_BYTES + CODE_SLOT_DATA;
    out.data_len = CODE_SLOT_BYTES - CODE_SLOT_DATA;
    return out;
}

static uint64_t table_of(const struct victim *v, const struct remote_job *j)
{
    CHECK(j->slot < REMOTE_CROWD_MAX && j->count <= REMOTE_CROWD_CALLS);
    return v->scratch + CODE_TABLE + j->slot * (size_t)CODE_SLOT_BYTES;
}

static int job_begin(struct victim *v, const struct remote_job *j, struct err *e)
{
    struct victim_thread *t = &v->threads[j->thread];
    struct user_regs_struct r = t->regs;
    if (victim_write(v, table_of(v, j), j->calls, j->count * sizeof *j->calls, e) < 0)
        return -1;
    r.rip = v->scratch + (uint64_t)CODE_START;
    r.r15 = table_of(v, j), r.r14 = j->count, r.r13 = 0;
    r.r12 = (unsigned)t->inner_tid;
    return remote_code_start(v, j->thread, &r, e);
}

int remote_crowd(struct victim *v, const struct remote_job *jobs, size_t count, struct err *e)
{
    AUTO_SNIPPET struct snippet c = {0};
    code_crowd(&c, v, v->scratch);
    if (victim_write(v, v->scratch, c.bytes.data, c.bytes.len, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        if (job_begin(v, &jobs[k], e) < 0)
            return err_wrap(e, "calls in process %d", v->inner_pid);
    struct user_regs_struct last;
    for (size_t k = 0; k < count; k++)
        if (remote_code_await(v, jobs[k].thread, c.told, &last, e) < 0 ||
            victim_read(v, table_of(v, &jobs[k]), jobs[k].calls, jobs[k].count * sizeof *jobs[k].calls, e) < 0)
            return err_wrap(e, "calls in process %d", v->inner_pid);
    return 0;
}
