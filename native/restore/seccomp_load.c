/* seccomp filters, the very last that is set: they are held aside until the tracer lets go. What all threads have in common is set for all at once,
 * so that they may still be set for all at once later (SECCOMP_FILTER_FLAG_TSYNC wants the same history). Mirrors snapshot/seccomp_save.c. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>

#include "../kernel/filters.h"
#include "load.h"

static bool is_same(const struct seccomp_filter *a, const struct seccomp_filter *b)
{
    return a->flags == b->flags && a->code.len == b->code.len && memcmp(a->code.data, b->code.data, a->code.len) == 0;
}

static size_t common_count(const struct task *task)
{
    const struct thread *first = &task->threads[0];
    size_t common = first->filters_count;
    for (size_t t = 1; t < task->threads_count; t++) {
        const struct thread *other = &task->threads[t];
        size_t k = 0;
        while (k < common && k < other->filters_count && is_same(&first->filters[k], &other->filters[k]))
            k++;
        common = k;
    }
    return common;
}

static int filter_set(struct call_list *l, const struct seccomp_filter *f, uint64_t flags, struct err *e)
{
    struct {
        uint64_t len, code;
    } program = {f->code.len / sizeof(struct sock_filter), 0};
    uint64_t at;
    if (call_data(l, f->code.data, f->code.len, &program.code, e) < 0 || call_data(l, &program, sizeof program, &at, e) < 0 ||
        CALL(l, e, SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW | (f->flags & SECCOMP_FILTER_FLAG_LOG), at, 0, 0, 0) < 0)
        return -1;
    l->wanted[l->count - 1] = 0; /* TSYNC answers with the thread that stands in the way */
    return call_flush(l, e);
}

static int thread_filters(struct victim *v, const struct task *task, size_t thread, size_t from, size_t to, uint64_t flags, struct err *e)
{
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .thread = thread, .what = "set its seccomp filters"};
    for (size_t k = from; k < to; k++)
        if (filter_set(l, &task->threads[thread].filters[k], flags, e) < 0)
            return -1;
    return 0;
}

int seccomp_load(struct victim *v, const struct task *task, struct err *e)
{
    bool any = false;
    for (size_t k = 0; k < task->threads_count; k++)
        any = any || task->threads[k].filters_count;
    if (!any)
        return 0;
    for (size_t k = 0; k < v->thread_count; k++)
        if (filters_suspend(v->threads[k].tid, RESTORE_TRACED, e) < 0)
            return -1;
    size_t common = common_count(task);
    if (thread_filters(v, task, 0, 0, common, task->threads_count > 1 ? SECCOMP_FILTER_FLAG_TSYNC : 0, e) < 0)
        return -1;
    for (size_t k = 0; k < v->thread_count; k++)
        if (thread_filters(v, task, k, common, task->threads[k].filters_count, 0, e) < 0)
            return -1;
    return 0;
}
