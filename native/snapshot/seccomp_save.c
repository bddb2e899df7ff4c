/* See seccomp_save.h. */
#include "seccomp_save.h"

#include <linux/seccomp.h>
#include <signal.h>
#include <sys/syscall.h>

#include "../kernel/filters.h"

unsigned filters_of_pod(const struct pod *pod)
{
    return pod->facts.io_uring_allowed ? 0u : 1u;
}

int seccomp_save(const struct pod *pod, const struct victim_thread *t, struct thread *out, struct err *e)
{
    struct filter *filters;
    size_t count;
    if (t->status.seccomp == SECCOMP_MODE_STRICT)
        return err_set(e, E_UNSUPPORTED, "thread %d: it is in the strict mode of seccomp", t->inner_tid);
    if (t->status.seccomp_filters <= filters_of_pod(pod))
        return 0;
    if (!filters_are_readable())
        return err_set(e, E_UNSUPPORTED, "thread %d: it has seccomp filters of its own, which only root can read", t->inner_tid);
    if (filters_read(t->tid, &filters, &count, e) < 0)
        return -1;
    for (size_t k = filters_of_pod(pod); k < count; k++) {
        struct seccomp_filter *to = LIST_ADD(out, filters);
        to->flags = filters[k].flags;
        bytes_set(&to->code, filters[k].code, filters[k].len * sizeof *filters[k].code);
    }
    filters_free(filters, count);
    return 0;
}

/* Must it succeed? Then nothing but leave is good enough; of the others an error does no harm. */
static bool is_harmless(uint32_t action, bool needed)
{
    return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG || (!needed && action == SECCOMP_RET_ERRNO);
}

static unsigned guarded; /* filters of the pod that are its own */

static int calls_guard(const struct victim *v, size_t thread, const struct remote_call *calls, size_t count, struct err *e)
{
    const struct victim_thread *t = &v->threads[thread];
    const struct remote_call ends[] = {
        {.nr = SYS_tgkill, .args = {(uint64_t)v->inner_pid, (uint64_t)t->inner_tid, (uint64_t)v->notify_signal}},
        {.nr = SYS_rt_sigprocmask, .args = {SIG_SETMASK, v->scratch, 0, 8}},
    };
    struct filter *filters;
    size_t filter_count, k;
    if (t->status.seccomp_filters <= guarded)
        return 0;
    if (filters_read(t->tid, &filters, &filter_count, e) < 0)
        return -1;
    for (k = 0; k < count + ARRAY_LENGTH(ends); k++)
        if (!is_harmless(filters_judge(filters, filter_count, k < count ? &calls[k] : &ends[k - count]), k >= count))
            break;
    filters_free(filters, filter_count);
    return k == count + ARRAY_LENGTH(ends)
               ? 0
               : err_set(e, E_UNSUPPORTED, "process %d: its seccomp filters end it for a call that the engine has to make in it (%lu)", v->inner_pid,
                         k < count ? calls[k].nr : ends[k - count].nr);
}

void seccomp_guard(const struct pod *pod)
{
    guarded = filters_of_pod(pod);
    remote_guard = calls_guard;
}
