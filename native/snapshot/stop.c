/* See stop.h. ptrace alone does it: SEIZE and INTERRUPT. A signal that is about to be delivered is let through first (its
 * handler's frame is then part of what is captured), a job-control stop stays one. */
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rseq.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/filters.h"
#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "../pod/state.h"
#include "vfork.h"

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif
#define STOP_DEADLINE_NS 500000000ul
#define STOP_AT_ONCE_NS 2000000ul /* whoever takes longer may be waiting for a child that we have stopped */
#define STOP_TRIES 4
#define LOOKS_MAX 1000
#define VDSO_TRIES 200
#define VDSO_NAP_NS 10000

static void victim_free(struct victim *v)
{
    for (size_t k = 0; k < v->thread_count; k++)
        proc_status_free(&v->threads[k].status);
    free(v->threads);
    proc_maps_free(&v->maps);
    if (v->pidfd >= 0)
        close(v->pidfd);
    if (v->memfd >= 0)
        close(v->memfd);
}

void victims_free(struct victim *victims, size_t count)
{
    for (size_t k = 0; k < count; k++)
        victim_free(&victims[k]);
    free(victims);
}

void victim_drop(struct victim *victims, size_t *count, size_t index)
{
    victim_free(&victims[index]);
    memmove(&victims[index], &victims[index + 1], (*count - index - 1) * sizeof *victims);
    --*count;
}

static struct victim_thread *thread_find(struct victim *v, pid_t tid)
{
    for (size_t k = 0; k < v->thread_count; k++)
        if (v->threads[k].tid == tid)
            return &v->threads[k];
    return NULL;
}

static void thread_forget(struct victim *v, struct victim_thread *t)
{
    size_t at = (size_t)(t - v->threads);
    proc_status_free(&t->status);
    memmove(t, t + 1, (v->thread_count - at - 1) * sizeof *t);
    v->thread_count--;
}

/* Seize what is not seized yet. *fresh says if there was any. */
static int threads_seize(struct victim *v, bool *fresh, struct err *e)
{
    PID_LIST struct pid_list tids = {0};
    if (proc_threads(v->leader, &tids, e) < 0)
        return -1;
    for (size_t k = 0; k < tids.count; k++) {
        if (thread_find(v, tids.items[k]))
            continue;
        int gone = trace_seize(tids.items[k], 0, e);
        bool kept = gone < 0 && trace_is_own(tids.items[k]); /* it did not stop in an earlier try: that interrupt still waits for it */
        if (gone < 0 && !kept)
            return err_wrap(e, "process %d", v->inner_pid);
        if (gone > 0)
            continue;
        v->threads = xrealloc(v->threads, v->thread_count + 1, sizeof *v->threads);
        struct victim_thread *t = &v->threads[v->thread_count++];
        *t = (struct victim_thread){.tid = tids.items[k]};
        *fresh = true;
        if (!kept && trace_interrupt(t->tid, e) < 0)
            return -1;
    }
    return 0;
}

/* 0 stopped, 1 gone, 2 does not stop in time. */
static int thread_wait_stop(struct victim_thread *t, uint64_t deadline_ns, struct err *e)
{
    for (;;) {
        int status, late = trace_wait(t->tid, deadline_ns, &status, e);
        if (late < 0)
            return -1;
        if (late)
            return 2;
        if (!WIFSTOPPED(status))
            return 1;
        if (status >> 16 == PTRACE_EVENT_STOP) {
            t->stopped = true;
            t->group_stopped = WSTOPSIG(status) != SIGTRAP;
            return 0;
        }
        if (trace_resume(t->tid, status >> 16 ? 0 : WSTOPSIG(status), e) < 0)
            return -1;
    }
}

int threads_wait(struct victim *v, uint64_t deadline_ns, struct err *e)
{
    for (size_t k = 0; k < v->thread_count;) {
        struct victim_thread *t = &v->threads[k];
        int got = t->stopped ? 0 : thread_wait_stop(t, deadline_ns, e);
        if (got < 0 || got == 2)
            return got;
        if (got == 1)
            thread_forget(v, t);
        else
            k++;
    }
    return 0;
}

static bool is_interrupted_wait(const struct user_regs_struct *r)
{
    switch (r->orig_rax) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_rt_sigtimedwait:
    case SYS_semtimedop:
    case SYS_semop:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_io_getevents:
    case SYS_read: /* from here on: sockets with a time limit (SO_RCVTIMEO, SO_SNDTIMEO) */
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
        return (int64_t)r->rax == -EINTR;
    default:
        return false;
    }
}

/* These calls answer EINTR when a tracer stops them, which no signal caused: they are made again. */
static int wait_rewind(struct victim_thread *t, struct err *e)
{
    if (!is_interrupted_wait(&t->regs) || ((t->status.pending | t->status.shared_pending) & ~t->sigmask))
        return 0;
    t->regs.rax = t->regs.orig_rax;
    t->regs.rip -= 2;
    t->regs.orig_rax = (uint64_t)-1;
    return trace_regs_set(t->tid, &t->regs, e);
}

/* A thread inside a restartable sequence goes to its abort address, as after any preemption. */
static int rseq_settle(const struct victim *v, struct victim_thread *t, struct err *e)
{
    struct __ptrace_rseq_configuration c = {0};
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, (void *)sizeof c, &c) < 0)
        return 0;
    t->rseq = c;
    if (!c.rseq_abi_pointer)
        return 0;
    uint64_t section;
    struct rseq_cs cs;
    struct err ignored;
    if (victim_read(v, c.rseq_abi_pointer + offsetof(struct rseq, rseq_cs), &section, sizeof section, &ignored) < 0 || !section ||
        victim_read(v, section, &cs, sizeof cs, &ignored) < 0)
        return 0;
    if (t->regs.rip - cs.start_ip >= cs.post_commit_offset)
        return 0;
    t->regs.rip = cs.abort_ip;
    return trace_regs_set(t->tid, &t->regs, e);
}

static int notify_choose(struct victim *v, const struct proc_status *s)
{
    static const int quiet[] = {SIGURG, SIGWINCH, SIGCHLD};
    for (size_t k = 0; k < ARRAY_LENGTH(quiet); k++)
        if (!(s->caught & 1ul << (quiet[k] - 1)))
            return v->notify_signal = quiet[k];
    return v->notify_signal = SIGURG; /* whoever catches all of them (Go) takes a needless SIGURG for what it is */
}

/* Only when all threads stand: before that an execve(2) could have left us with the memory that was. */
static int memory_open(struct victim *v, struct err *e)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", v->pid);
    if (v->memfd >= 0)
        close(v->memfd);
    v->memfd = open(path, O_RDWR | O_CLOEXEC);
    return v->memfd < 0 ? err_errno(e, "open the memory of process %d", v->inner_pid) : 0;
}

/* Calls that are made in such a thread would come back to it as signals. */
static bool dispatches_itself(pid_t tid)
{
    struct {
        uint64_t mode, selector, offset, len;
    } config = {0};
    return ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, (void *)sizeof config, &config) == 0 && config.mode != 0;
}

/* Nothing can be asked of a first thread that has ended: another one stands for the process. */
static int living_choose(struct victim *v, struct err *e)
{
    if (!v->thread_count || thread_find(v, v->pid))
        return 0;
    v->pid = v->threads[0].tid;
    v->start_time = process_start(v->pid);
    close(v->pidfd);
    v->pidfd = proc_pidfd(v->pid);
    return v->pidfd >= 0 ? 0 : err_errno(e, "open thread %d of process %d", v->pid, v->inner_pid);
}

static int threads_settle(struct victim *v, struct err *e)
{
    if (living_choose(v, e) < 0 || (v->thread_count && memory_open(v, e) < 0))
        return -1;
    for (size_t k = 0; k < v->thread_count; k++) {
        struct victim_thread *t = &v->threads[k];
        proc_status_free(&t->status);
        if (proc_status_read(v->pid, t->tid, &t->status, e) < 0 || trace_regs_get(t->tid, &t->regs, e) < 0 ||
            trace_mask_get(t->tid, &t->sigmask, e) < 0)
            return -1;
        t->inner_tid = t->status.inner_pid;
        if (t->status.seccomp_filters && filters_are_readable() && filters_suspend(t->tid, 0, e) < 0)
            return -1;
        if (dispatches_itself(t->tid))
            return err_set(e, E_UNSUPPORTED, "thread %d takes its own system calls (PR_SET_SYSCALL_USER_DISPATCH)", t->inner_tid);
        if (k == 0)
            notify_choose(v, &t->status);
        if (rseq_settle(v, t, e) < 0 || wait_rewind(t, e) < 0)
            return -1;
    }
    return 0;
}

static int victim_open(pid_t pid, struct victim *v, struct err *e)
{
    PROC_STATUS struct proc_status s = {0}, leader = {0};
    *v = (struct victim){.pid = pid, .pidfd = -1, .memfd = -1};
    if (proc_status_read(pid, pid, &s, e) < 0 || proc_status_read(s.tgid, s.tgid, &leader, e) < 0)
        return -1;
    v->leader = s.tgid;
    v->inner_pid = leader.inner_pid;
    v->start_time = process_start(pid);
    v->pidfd = proc_pidfd(pid);
    return v->pidfd >= 0 ? 0 : err_errno(e, "open process %d", v->inner_pid);
}

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
        int got = threads_wait(&victims[k], deadline_ns, e);
        if (got < 0)
            return -1;
        if (got == 2) {
            result = 2;
            *stuck = victims[k].inner_pid;
        }
    }
    return result;
}

/* The same. *fresh: whoever ran meanwhile may have made others. */
static int tree_wait_patiently(struct victim *victims, size_t count, bool *fresh, pid_t *stuck, struct err *e)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    int got = tree_wait(victims, count, now_ns + STOP_AT_ONCE_NS, stuck, e);
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

static int tree_settle(struct victim *victims, size_t count, struct err *e)
{
    for (size_t k = 0; k < count; k++) {
        struct victim *v = &victims[k];
        if (v->settled)
            continue;
        proc_maps_free(&v->maps);
        if (threads_settle(v, e) < 0 || (v->thread_count && proc_maps_read(v->pid, false, &v->maps, e) < 0))
            return err_wrap(e, "process %d", v->inner_pid);
        v->settled = true;
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

int victim_release(struct victim *v, struct err *e)
{
    int result = v->thread_count ? remote_close(v, e) : 0;
    for (size_t k = 0; k < v->thread_count; k++) {
        struct err other;
        if (v->threads[k].stopped && trace_detach(v->threads[k].tid, v->threads[k].stop_signal, &other) < 0 && result == 0) {
            *e = other;
            result = -1;
        }
        v->threads[k].stopped = false;
    }
    return result;
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

int victim_stop(pid_t pid, struct victim *out, struct err *e)
{
    struct err gone;
    if (victim_open(pid, out, &gone) < 0)
        return 1;
    bool fresh = true;
    while (fresh) {
        fresh = false;
        if (threads_seize(out, &fresh, e) < 0)
            return -1;
        if (threads_wait(out, clock_ns(CLOCK_MONOTONIC) + 20 * STOP_DEADLINE_NS, e) != 0)
            return err_set(e, E_BUSY, "process %d cannot be stopped", out->inner_pid);
    }
    return out->thread_count ? threads_settle(out, e) : 1;
}
