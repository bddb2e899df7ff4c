/* The tracer of a restore: takes each waiting process of the new pod and makes it what it was. The processes die with the
 * tracer (EXITKILL) until they are released. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "../base/fiber.h"
#include "../kernel/namespaces.h"
#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "../snapshot/sleep_save.h"
#include "../snapshot/stop.h"
#include "fill.h"
#include "load.h"
#include "timer_load.h"

/* The tracer is told by a signal that is not among those that the process had pending. */
static int notify_choose(const struct task *t)
{
    uint64_t taken = 0;
    const struct bytes *lists[] = {&t->pending};
    for (size_t k = 0; k < t->threads_count + 1; k++) {
        const struct bytes *list = k ? &t->threads[k - 1].pending : lists[0];
        for (size_t at = 0; at + sizeof(siginfo_t) <= list->len; at += sizeof(siginfo_t)) {
            siginfo_t info;
            memcpy(&info, list->data + at, sizeof info);
            taken |= 1ul << ((unsigned)info.si_signo - 1) % 64;
        }
    }
    for (int number = SIGURG; number < 64; number++)
        if (!(taken & 1ul << (number - 1)))
            return number;
    return SIGWINCH;
}

struct newborn {
    pid_t pid, inner;
};

static struct newborn *newborns_read(const pid_t *pids, size_t count)
{
    struct newborn *out = xcalloc(count + 1, sizeof *out);
    for (size_t k = 0; k < count; k++) {
        PROC_STATUS struct proc_status s = {0};
        struct err gone;
        if (proc_status_read(pids[k], pids[k], &s, &gone) == 0)
            out[k] = (struct newborn){pids[k], s.inner_pid};
    }
    return out;
}

static int newborn_find(const struct task *t, const struct newborn *all, size_t count, pid_t *out, struct err *e)
{
    for (size_t k = 0; k < count; k++)
        if ((uint64_t)all[k].inner == t->pid) {
            *out = all[k].pid;
            return 0;
        }
    return err_set(e, E_OS, "process %lu did not come up", t->pid);
}

static int victim_take(struct restore *r, size_t index, const struct newborn *all, size_t count, struct err *e)
{
    const struct task *t = &r->image->tasks[index];
    struct victim *v = &r->victims[index];
    pid_t pid = 0;
    if (newborn_find(t, all, count, &pid, e) < 0)
        return -1;
    int gone = victim_stop(pid, v, e);
    if (gone)
        return gone < 0 ? -1 : err_set(e, E_OS, "process %lu ended", t->pid);
    if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)RESTORE_TRACED) < 0)
        return err_errno(e, "process %lu", t->pid);
    v->expendable = true;
    v->notify_signal = notify_choose(t);
    v->threads[0].sigmask = ~0ul;
    return 0;
}


struct crowd {
    struct restore *r;
    struct newborn *newborns;
    size_t count;
};

static int process_map(void *ctx, size_t k, struct err *e)
{
    struct crowd *c = ctx;
    const struct task *t = &c->r->image->tasks[k];
    struct victim *v = &c->r->victims[k];
    if (t->state == TASK_ZOMBIE)
        return 0;
    if (victim_take(c->r, k, c->newborns, c->count, e) < 0)
        return -1;
    if (vmas_load(c->r, v, t, e) < 0 || locks_load_remote(c->r, v, t, e) < 0 || memory_clear(c->r, v, t, e) < 0 ||
        fill_open(c->r, v, t, &c->r->fills[k], e) < 0)
        return err_wrap(e, "process %lu", t->pid);
    return 0;
}

/* Its threads get their numbers one after the other, and nobody else may get one meanwhile. */
static bool is_alone(const struct task *t)
{
    return t->user_space && t->threads_count > 1;
}

static int process_set(struct restore *r, size_t k, struct err *e)
{
    const struct task *t = &r->image->tasks[k];
    struct victim *v = &r->victims[k];
    if (!v->thread_count)
        return 0;
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .what = "set it up"};
    if (r->fills[k].number >= 0 && CALL(l, e, SYS_close, (uint64_t)r->fills[k].number, 0, 0, 0, 0, 0) < 0)
        return -1;
    if (vmas_seal(l, t, e) < 0 || task_load(l, r, t, e) < 0 || threads_load(l, r, t, e) < 0)
        return err_wrap(e, "process %lu", t->pid);
    return 0;
}

static int process_set_beside(void *ctx, size_t k, struct err *e)
{
    struct restore *r = ctx;
    return is_alone(&r->image->tasks[k]) ? 0 : process_set(r, k, e);
}

static int processes_set(struct restore *r, struct err *e)
{
    if (fibers_run(r->image->tasks_count, process_set_beside, r, e) < 0)
        return -1;
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (is_alone(&r->image->tasks[k]) && process_set(r, k, e) < 0)
            return -1;
    return 0;
}

int inject_all(struct restore *r, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    size_t count;
    if (pod_pids(r->pod, &pids, &count, e) < 0)
        return -1;
    AUTO_FREE struct newborn *newborns = newborns_read(pids, count);
    struct crowd crowd = {r, newborns, count};
    r->groups_settable = groups_are_settable(r->pod->init_pid);
    r->fills = xcalloc(r->image->tasks_count, sizeof *r->fills);
    r->victims = xcalloc(r->image->tasks_count, sizeof *r->victims);
    if (fibers_run(r->image->tasks_count, process_map, &crowd, e) < 0 || memory_load(r, e) < 0)
        return -1;
    return processes_set(r, e);
}

static int victim_finish(void *ctx, size_t index, struct err *e)
{
    struct restore *r = ctx;
    const struct task *t = &r->image->tasks[index];
    struct victim *v = &r->victims[index];
    AUTO_FREE struct user_regs_struct *regs = xcalloc(v->thread_count + 1, sizeof *regs);
    if (!v->thread_count)
        return 0;
    if (timers_load(v, t, e) < 0 || seccomp_load(v, t, e) < 0)
        return err_wrap(e, "process %lu", t->pid);
    for (size_t k = v->thread_count; k-- > 0;) /* the leader last: nothing is called in it afterwards but by remote_close */
        if (sleep_load(v, k, &t->threads[k], &regs[k], e) < 0)
            return err_wrap(e, "process %lu", t->pid);
    if (remote_close(v, e) < 0)
        return err_wrap(e, "process %lu", t->pid);
    for (size_t k = 0; k < v->thread_count; k++)
        if (thread_last(v, k, &t->threads[k], &regs[k], e) < 0)
            return err_wrap(e, "process %lu", t->pid);
    return 0;
}

/* A stopped process stays one: the stop is waiting when it is let go. */
static int victim_let_go(struct restore *r, size_t index, struct err *e)
{
    struct victim *v = &r->victims[index];
    if (r->image->tasks[index].state == TASK_STOPPED && kill(v->pid, SIGSTOP) < 0)
        return err_errno(e, "stop process %d", v->inner_pid);
    for (size_t k = 0; k < v->thread_count; k++)
        if (trace_detach(v->threads[k].tid, 0, e) < 0)
            return -1;
    return 0;
}

int release_all(struct restore *r, struct err *e)
{
    AUTO_BUF struct buf waits = {0};
    if (fibers_run(r->image->tasks_count, victim_finish, r, e) < 0)
        return -1;
    sleepers_describe(r->victims, r->image->tasks, r->image->tasks_count, &waits);
    if (sleepers_keep(r->pod, &waits, e) < 0 || netlock_clear(r->pod, e) < 0)
        return -1;
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->victims[k].thread_count && victim_let_go(r, k, e) < 0)
            return -1;
    return 0; /* what netlock_clear leaves to be done is done when this process ends, and nobody waits for it */
}
