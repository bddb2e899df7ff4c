/* See stop.h: the tree of a pod's processes; one of them: victim_stop.h. */
#include "stop.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "../pod/state.h"
#include "../store/crew.h"
#include "vfork.h"
#include "victim_stop.h"

#define STOP_AT_ONCE_NS 2000000ul /* whoever takes longer may be waiting for a child that we have stopped */
#define STOP_TRIES 4
#define LOOKS_MAX 1000
#define VDSO_TRIES 200
#define THREADS_AT_ONCE 32ul
#define VDSO_NAP_NS 10000

static struct victim *tree_find(struct victim *victims, size_t count, pid_t pid)
{
    for (size_t k = 0; k < count; k++)
        if (victims[k].leader == pid)
            return &victims[k];
    return NULL;
}

static int look(const struct pod *pod, struct victim **victims, size_t *count, bool *fresh, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    size_t n;
    if (pod_pids(pod, &pids, &n, e) < 0)
        return -1;
    for (size_t k = 0; k < n; k++) {
        struct victim *v = tree_find(*victims, *count, pids[k]);
        if (!v) {
            struct err gone;
            struct victim new;
            if (victim_open(pids[k], &new, &gone) < 0)
                continue;
            *victims = xrealloc(*victims, *count + 1, sizeof **victims);
            v = &(*victims)[(*count)++];
            *v = new;
            *fresh = true;
        }
        if (threads_seize(v, fresh, e) < 0)
            return -1;
    }
    for (size_t k = 0; k < *count;) {
        bool there = false;
        for (size_t p = 0; p < n; p++)
            there |= pids[p] == (*victims)[k].leader;
        if (there) {
            k++;
            continue;
        }
        victim_drop(*victims, count, k);
    }
    return 0;
}

/* 0, or 2 when a thread does not stop (its pid in *stuck). */
static int tree_wait(struct victim *victims, size_t count, uint64_t deadline_ns, pid_t *stuck, struct err *e)
{
    int result = 0;
    for (size_t k = 0; k < count; k++) {
        int got = threads_wait(&victims[k], deadline_ns, e); /* past the deadline only those that stand already */
        if (got < 0)
            return -1;
        if (got == 2) {
            result = 2;
            *stuck = victims[k].inner_pid;
        }
    }
    return result;
}

static size_t standing(const struct victim *victims, size_t count)
{
    size_t found = 0;
    for (size_t k = 0; k < count; k++)
        for (size_t t = 0; t < victims[k].thread_count; t++)
            found += victims[k].threads[t].stopped;
    return found;
}

/* The same. *fresh: whoever ran meanwhile may have made others. As long as one after the other stops, they are only many. */
static int tree_wait_patiently(struct victim *victims, size_t count, bool *fresh, pid_t *stuck, struct err *e)
{
    uint64_t now_ns;
    size_t before;
    int got;
    do {
        now_ns = clock_ns(CLOCK_MONOTONIC);
        before = standing(victims, count);
        got = tree_wait(victims, count, now_ns + STOP_AT_ONCE_NS, stuck, e);
    } while (got == 2 && standing(victims, count) > before);
    if (got != 2)
        return got;
    if (vfork_run_children(victims, count, now_ns + STOP_DEADLINE_NS, fresh, e) < 0)
        return -1;
    return tree_wait(victims, count, now_ns + STOP_DEADLINE_NS, stuck, e);
}

/* 0 stopped, 2 a thread does not stop (its pid in *stuck). */
static int tree_try_stop(const struct pod *pod, struct victim **victims, size_t *count, pid_t *stuck, struct err *e)
{
    bool frozen = pod_is_frozen(pod);
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        bool fresh = false;
        if (look(pod, victims, count, &fresh, e) < 0)
            return -1;
        if (frozen && pod_thaw(pod, e) < 0)
            return -1;
        frozen = false;
        int got = tree_wait_patiently(*victims, *count, &fresh, stuck, e);
        if (got)
            return got;
        if (!fresh)
            return 0;
    }
    return err_set(e, E_BUSY, "the pod makes processes faster than they can be stopped");
}

/* Some threads of one process; with the first of them its mappings. */
struct glance {
    struct victim *v;
    size_t first;
};

static int glance(void *ctx, size_t worker, size_t i, struct err *e)
{
    const struct glance *g = (struct glance *)ctx + i;
    (void)worker;
    if (threads_look(g->v, g->first, THREADS_AT_ONCE, e) < 0 || (!g->first && proc_maps_read(g->v->pid, false, &g->v->maps, e) < 0))
        return err_wrap(e, "process %d", g->v->inner_pid);
    return 0;
}

/* What needs no tracer is read on all processors. */
static int tree_look(struct victim *victims, size_t count, struct err *e)
{
    size_t pieces = 0, at = 0;
    for (size_t k = 0; k < count; k++)
        pieces += victims[k].settled ? 0 : (victims[k].thread_count + THREADS_AT_ONCE - 1) / THREADS_AT_ONCE;
    AUTO_FREE struct glance *glances = xcalloc(pieces + 1, sizeof *glances);
    for (size_t k = 0; k < count; k++) {
        if (victims[k].settled)
            continue;
        proc_maps_free(&victims[k].maps);
        for (size_t first = 0; first < victims[k].thread_count; first += THREADS_AT_ONCE)
            glances[at++] = (struct glance){&victims[k], first};
    }
    return crew_work(pieces, glance, glances, e);
}

static int tree_settle(struct victim *victims, size_t count, struct err *e)
{
    for (size_t k = 0; k < count; k++)
        if (!victims[k].settled && victim_stands(&victims[k], e) < 0)
            return err_wrap(e, "process %d", victims[k].inner_pid);
    if (tree_look(victims, count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++) {
        if (!victims[k].settled && threads_settle(&victims[k], e) < 0)
            return err_wrap(e, "process %d", victims[k].inner_pid);
        victims[k].settled = true;
    }
    return 0;
}

static bool is_in_vdso(const struct victim *v, const struct victim_thread *t)
{
    bool in_call = (int64_t)t->regs.orig_rax >= 0;
    for (size_t k = 0; k < v->maps.count && !in_call && !t->group_stopped; k++)
        if (strcmp(v->maps.items[k].path, "[vdso]") == 0)
            return t->regs.rip - v->maps.items[k].start < v->maps.items[k].end - v->maps.items[k].start;
    return false;
}

/* There a thread puts the time together from the machine's clock and the pod's offset to it. If it came back between the two, its clock
 * would jump: so it runs on for a moment. 0: nobody is there; 1: stop them again. */
static int vdso_leave(struct victim *victims, size_t count, struct err *e)
{
    bool ran = false;
    for (size_t k = 0; k < count; k++)
        for (size_t t = 0; t < victims[k].thread_count; t++) {
            struct victim_thread *thread = &victims[k].threads[t];
            if (!is_in_vdso(&victims[k], thread))
                continue;
            if (trace_resume(thread->tid, 0, e) < 0)
                return -1;
            thread->stopped = victims[k].settled = false;
            ran = true;
        }
    if (!ran)
        return 0;
    struct timespec moment = {0, VDSO_NAP_NS};
    nanosleep(&moment, NULL);
    for (size_t k = 0; k < count; k++)
        for (size_t t = 0; t < victims[k].thread_count; t++)
            if (!victims[k].threads[t].stopped && trace_interrupt(victims[k].threads[t].tid, e) < 0)
                return -1;
    return 1;
}

/* Threads that never stopped are let go when this process ends, or taken by a later stop: interrupt leaves no trace. Those that stand go
 * first: the others may be waiting for them. */
static void let_go(struct victim *victims, size_t count)
{
    uint64_t deadline_ns = 0;
    for (int late = 0; late < 2; late++) {
        for (size_t k = 0; k < count; k++)
            for (size_t t = 0; t < victims[k].thread_count; t++) {
                struct victim_thread *thread = &victims[k].threads[t];
                struct err ignored;
                if (thread->stopped == (late == 0) && (!late || thread_wait_stop(thread, deadline_ns, &ignored) == 0) &&
                    trace_detach(thread->tid, thread->stop_signal, &ignored) < 0)
                    continue;
            }
        deadline_ns = clock_ns(CLOCK_MONOTONIC) + STOP_DEADLINE_NS;
    }
}

/* 0 stopped and settled, nobody in the vDSO; 2 as above. */
static int tree_stop_outside(const struct pod *pod, struct victim **victims, size_t *count, pid_t *stuck, struct err *e)
{
    for (int tries = 0; tries < VDSO_TRIES; tries++) {
        int got = tree_try_stop(pod, victims, count, stuck, e);
        if (got)
            return got;
        int left = tree_settle(*victims, *count, e) < 0 ? -1 : vdso_leave(*victims, *count, e);
        if (left <= 0)
            return left;
    }
    return err_set(e, E_BUSY, "a process does nothing but read the time");
}

int tree_stop(const struct pod *pod, struct victim **victims, size_t *count, struct err *e)
{
    pid_t stuck = 0;
    for (int tries = 0; tries < STOP_TRIES; tries++) {
        *victims = NULL;
        *count = 0;
        int got = tree_stop_outside(pod, victims, count, &stuck, e);
        if (got == 0)
            return 0;
        let_go(*victims, *count);
        victims_free(*victims, *count);
        *victims = NULL;
        *count = 0;
        if (got != 2)
            return err_wrap(e, "stop the pod");
        struct timespec nap = {0, 5000000L << tries};
        nanosleep(&nap, NULL);
    }
    return err_set(e, E_BUSY, "process %d waits in the kernel (for a child of vfork, or for a device) and cannot be stopped", stuck);
}

int tree_release(const struct pod *pod, struct victim *victims, size_t count, bool freeze, struct err *e)
{
    int result = 0;
    struct err other;
    for (size_t k = 0; k < count; k++)
        if (victims[k].thread_count && victims[k].threads[0].stopped && remote_close(&victims[k], &other) < 0 && result == 0) {
            *e = other;
            result = -1;
        }
    if (freeze && pod_freeze(pod, &other) < 0 && result == 0) {
        *e = other;
        result = -1;
    }
    for (size_t k = 0; k < count; k++) {
        victims[k].tail = 0; /* taken out above */
        if (victim_release(&victims[k], &other) < 0 && result == 0) {
            *e = other;
            result = -1;
        }
    }
    return result;
}
