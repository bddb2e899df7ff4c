/* One stopped process (or zombie) without its threads, memory and descriptors: what stands in /proc (task_look.c), then what only it can tell. Mirrored by
 * restore/task_load.c. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../base/fiber.h"
#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "../store/crew.h"
#include "inquiry.h"
#include "save.h"
#include "seccomp_save.h"
#include "sleep_save.h"
#include "spaces.h"
#include "stop.h"
#include "sysv_save.h"

#define SIGNALS 64
#define MEMBARRIER_CMD_GET_REGISTRATIONS (1 << 9)
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68
#endif

struct kernel_sigaction {
    uint64_t handler, flags, restorer, mask;
};

static void order_add(struct snapshot *s, const struct victim *old, size_t count, const pid_t *parents, pid_t parent, size_t *at)
{
    for (size_t k = 0; k < count; k++)
        if (parents[k] == parent) {
            s->victims[(*at)++] = old[k];
            order_add(s, old, count, parents, old[k].leader, at);
        }
}

/* podinit reaps its children whenever it likes: of those that have ended only the pod's command is worth a word. */
static bool is_reaped(const struct snapshot *s, const struct victim *v)
{
    PROC_STATUS struct proc_status status = {0};
    struct err gone;
    if (v->thread_count)
        return false;
    return proc_status_read(v->pid, v->pid, &status, &gone) < 0 ||
           (status.ppid == s->pod->init_pid && (uint64_t)v->inner_pid != s->pod->facts.command_pid);
}

static void reaped_drop(struct snapshot *s)
{
    for (size_t k = 0; k < s->victim_count;) {
        if (is_reaped(s, &s->victims[k]))
            victim_drop(s->victims, &s->victim_count, k);
        else
            k++;
    }
}

/* Parents before children; whoever's parent is outside (native exec) cannot be captured. */
static int victims_sort(struct snapshot *s, struct err *e)
{
    size_t count = s->victim_count, at = 0;
    AUTO_FREE pid_t *parents = xcalloc(count + 1, sizeof *parents);
    AUTO_FREE struct victim *old = xcalloc(count + 1, sizeof *old);
    memcpy(old, s->victims, count * sizeof *old);
    for (size_t k = 0; k < count; k++) {
        PROC_STATUS struct proc_status status = {0};
        if (!old[k].thread_count && proc_status_read(old[k].pid, old[k].pid, &status, e) < 0)
            return -1;
        parents[k] = old[k].thread_count ? old[k].threads[0].status.ppid : status.ppid;
    }
    order_add(s, old, count, parents, s->pod->init_pid, &at);
    if (at == count)
        return 0;
    memcpy(s->victims, old, count * sizeof *old);
    return err_set(e, E_BUSY, "a process was started in the pod from outside (native exec): wait until it ends");
}

/* ---- what only the process can tell */
struct answers {
    struct kernel_sigaction actions[SIGNALS];
    struct itimerval itimers[3];
    struct rlimit64 limits[RLIM_NLIMITS];
    uint64_t subreaper;
};

#define QUESTIONS_AFTER 6ul /* the last ones have their answers in what they return */

static size_t process_ask(struct inquiry *q)
{
    const size_t first = q->count;
    const uint64_t at = inquiry_room(q, sizeof(struct answers));
    for (uint64_t g = 0; g < SIGNALS; g++)
        inquiry_add(q, (struct remote_call){.nr = SYS_rt_sigaction, .args = {g + 1, 0, at + g * sizeof(struct kernel_sigaction), 8}});
    for (uint64_t k = 0; k < 3; k++)
        inquiry_add(q, (struct remote_call){.nr = SYS_getitimer,
                                            .args = {k, at + offsetof(struct answers, itimers) + k * sizeof(struct itimerval)}});
    for (uint64_t k = 0; k < RLIM_NLIMITS; k++)
        inquiry_add(q, (struct remote_call){.nr = SYS_prlimit64,
                                            .args = {0, k, 0, at + offsetof(struct answers, limits) + k * sizeof(struct rlimit64)}});
    const struct remote_call last[] = {
        {.nr = SYS_prctl, .args = {PR_GET_CHILD_SUBREAPER, at + offsetof(struct answers, subreaper)}},
        {.nr = SYS_membarrier, .args = {MEMBARRIER_CMD_GET_REGISTRATIONS}}, /* ENOSYS, EINVAL: there are none */
        {.nr = SYS_prctl, .args = {PR_GET_MEMORY_MERGE}},
        {.nr = SYS_prctl, .args = {PR_GET_DUMPABLE}},
        {.nr = SYS_prctl, .args = {PR_GET_THP_DISABLE}},
        {.nr = SYS_brk},
    };
    for (size_t k = 0; k < ARRAY_LENGTH(last); k++)
        inquiry_add(q, last[k]);
    return first;
}

static uint64_t us_of(const struct timeval *t)
{
    return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

static void answers_take(const struct answers *a, struct task *out)
{
    for (uint64_t g = 0; g < SIGNALS; g++) {
        const struct kernel_sigaction *k = &a->actions[g];
        if (!k->handler && !k->flags && !k->mask)
            continue;
        struct sigaction_of *to = LIST_ADD(out, sigactions);
        *to = (struct sigaction_of){g + 1, k->handler, k->flags, k->restorer, k->mask};
    }
    for (uint64_t k = 0; k < 3; k++) {
        const struct itimerval *t = &a->itimers[k];
        uint64_t interval = us_of(&t->it_interval), value = us_of(&t->it_value);
        if (!interval && !value)
            continue;
        /* A periodic timer whose signal is pending stands still until the signal is taken. */
        *LIST_ADD(out, itimers) = (struct itimer){k, interval, value ? value : interval};
    }
    for (uint64_t k = 0; k < RLIM_NLIMITS; k++) {
        struct rlimit_of *to = LIST_ADD(out, rlimits);
        *to = (struct rlimit_of){k, a->limits[k].rlim_cur, a->limits[k].rlim_max};
    }
    out->child_subreaper = a->subreaper & 0xffffffff;
}

static int process_take(const struct inquiry *q, size_t first, struct task *out, struct err *e)
{
    const struct remote_call *calls = q->calls + first, *last = calls + SIGNALS + 3 + RLIM_NLIMITS;
    for (const struct remote_call *c = calls; c < last + QUESTIONS_AFTER; c++)
        if (c->ret < 0 && c->ret > -4096 && c != last + 1 && c != last + 2) {
            errno = (int)-c->ret;
            return err_errno(e, "ask the process (call %lu, number %td)", c->nr, c - calls);
        }
    answers_take(inquiry_answer(q, calls[0].args[2]), out);
    out->membarrier = last[1].ret > 0 ? (uint64_t)last[1].ret : 0;
    out->memory_merge = last[2].ret > 0;
    out->mm.dumpable = (uint64_t)last[3].ret;
    out->mm.thp_disable = (uint64_t)last[4].ret;
    out->mm.brk = (uint64_t)last[5].ret;
    return 0;
}

/* Mappings beyond those that the first questions had room for. */
static int policies_rest(struct inquiry *q, struct victim *v, struct task *out, size_t from, struct err *e)
{
    while (from < out->mm.vmas_count) {
        if (inquiry_begin(q, v, 0, e) < 0)
            return -1;
        size_t count = policies_ask(q, out, from);
        if (inquiry_run(q, e) < 0)
            return -1;
        policies_take(q, 0, out, from, count);
        from += count;
    }
    return 0;
}

/* The process, its first thread and its mappings at one stop. */
static int inside_save(struct inquiry *q, struct victim *v, struct task *out, struct err *e)
{
    if (inquiry_begin(q, v, 0, e) < 0)
        return -1;
    size_t process = process_ask(q), thread = thread_ask(q), policies = q->count, count = policies_ask(q, out, 0);
    if (inquiry_run(q, e) < 0 || process_take(q, process, out, e) < 0 || thread_take(q, thread, &out->threads[0], e) < 0)
        return -1;
    policies_take(q, policies, out, 0, count);
    return policies_rest(q, v, out, count, e);
}

/* ---- posix timers: which there are stands in /proc (task_look.c) */
static int timer_save(struct victim *v, struct posix_timer *t, struct err *e)
{
    struct itimerspec spec = {0};
    uint64_t at;
    if (remote_put(v, 0, &spec, sizeof spec, &at, e) < 0)
        return -1;
    struct remote_call calls[] = {{.nr = SYS_timer_gettime, .args = {t->id, at}}, {.nr = SYS_timer_getoverrun, .args = {t->id}}};
    if (remote_batch(v, 0, calls, 2, true, NULL, e) < 0 || victim_read(v, at, &spec, sizeof spec, e) < 0)
        return -1;
    if (calls[0].ret < 0)
        return err_set(e, E_OS, "timer %lu cannot be read", t->id);
    t->interval_ns = (uint64_t)spec.it_interval.tv_sec * 1000000000 + (uint64_t)spec.it_interval.tv_nsec;
    t->remaining_ns = (uint64_t)spec.it_value.tv_sec * 1000000000 + (uint64_t)spec.it_value.tv_nsec;
    t->overrun = calls[1].ret > 0 ? (uint64_t)calls[1].ret : 0;
    return 0;
}

static uint64_t inner_tid_of(const struct victim *v, uint64_t tid)
{
    for (size_t k = 0; k < v->thread_count; k++)
        if ((uint64_t)v->threads[k].tid == tid)
            return (uint64_t)v->threads[k].inner_tid;
    return tid;
}

static int timers_save(struct victim *v, struct task *out, struct err *e)
{
    for (size_t k = 0; k < out->posix_timers_count; k++) {
        out->posix_timers[k].notify_tid = inner_tid_of(v, out->posix_timers[k].notify_tid);
        if (timer_save(v, &out->posix_timers[k], e) < 0)
            return -1;
    }
    return 0;
}

static int task_save(struct victim *v, struct task *out, struct err *e)
{
    AUTO_BUF struct buf pending = {0};
    AUTO_FREE struct inquiry *q = xcalloc(1, sizeof *q);
    for (size_t k = 0; k < v->thread_count; k++)
        LIST_ADD(out, threads);
    int result = trace_pending(v->pid, true, &pending, e) < 0 || inside_save(q, v, out, e) < 0 || timers_save(v, out, e) < 0 ? -1 : 0;
    inquiry_free(q);
    bytes_set(&out->pending, pending.data, pending.len);
    return result;
}

static int process_look(void *ctx, size_t worker, size_t k, struct err *e)
{
    struct snapshot *s = ctx;
    (void)worker;
    return task_look(s, &s->victims[k], &s->image.tasks[k], e) < 0 ? err_wrap(e, "process %d", s->victims[k].inner_pid) : 0;
}

static int process_save(void *ctx, size_t k, struct err *e)
{
    struct snapshot *s = ctx;
    if (!s->victims[k].thread_count)
        return 0;
    return task_save(&s->victims[k], &s->image.tasks[k], e) < 0 ? err_wrap(e, "process %d", s->victims[k].inner_pid) : 0;
}

/* ---- threads: some of each process side by side */
struct lane {
    struct snapshot *s;
    size_t process, number;
};

/* The first thread of a process was asked with it. */
static int lane_thread_save(const struct lane *l, struct victim *v, size_t k, struct inquiry *q, struct err *e)
{
    struct thread *out = &l->s->image.tasks[l->process].threads[k];
    sleep_save(l->s, v, &v->threads[k], out);
    if (seccomp_save(l->s->pod, &v->threads[k], out, e) < 0)
        return -1;
    return k ? thread_save(v, k, q, out, e) : thread_look(v, k, out, e);
}

static int lane_save(void *ctx, size_t i, struct err *e)
{
    const struct lane *l = (struct lane *)ctx + i;
    struct victim v = remote_lane(&l->s->victims[l->process], l->number);
    AUTO_FREE struct inquiry *q = xcalloc(1, sizeof *q);
    int result = 0;
    for (size_t k = l->number; k < v.thread_count && result == 0; k += REMOTE_LANES)
        result = lane_thread_save(l, &v, k, q, e);
    inquiry_free(q);
    return result < 0 ? err_wrap(e, "process %d", v.inner_pid) : 0;
}

static int threads_save(struct snapshot *s, struct err *e)
{
    size_t count = 0;
    AUTO_FREE struct lane *lanes = xcalloc(s->victim_count * REMOTE_LANES + 1, sizeof *lanes);
    for (size_t k = 0; k < s->victim_count; k++)
        for (size_t n = 0; n < REMOTE_LANES && n < s->victims[k].thread_count; n++)
            lanes[count++] = (struct lane){s, k, n};
    return fibers_run(count, lane_save, lanes, e);
}

int tasks_save(struct snapshot *s, struct err *e)
{
    reaped_drop(s);
    if (victims_sort(s, e) < 0)
        return -1;
    for (size_t k = 0; k < s->victim_count; k++)
        LIST_ADD(&s->image, tasks);
    if (spaces_take(s, e) < 0 || sysv_save(s, e) < 0 || crew_work(s->victim_count, process_look, s, e) < 0)
        return -1;
    return fibers_run(s->victim_count, process_save, s, e) < 0 ? -1 : threads_save(s, e) < 0 || threads_directories_save(s, e) < 0 ? -1 : spaces_save(s, e);
}
