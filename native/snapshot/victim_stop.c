/* See victim_stop.h. ptrace alone does it: SEIZE and INTERRUPT. A signal that is about to be delivered is let through first (its
 * handler's frame is then part of what is captured), a job-control stop stays one. */
#include "victim_stop.h"

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
#include "stop.h"

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

#define AT_ONCE 1ul /* a deadline that has passed */

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

/* At the second look the lists are the same but for what came or went since. */
static bool thread_is_known(struct victim *v, pid_t tid, size_t place)
{
    return (place < v->thread_count && v->threads[place].tid == tid) || thread_find(v, tid);
}

static void thread_forget(struct victim *v, struct victim_thread *t)
{
    size_t at = (size_t)(t - v->threads);
    proc_status_free(&t->status);
    memmove(t, t + 1, (v->thread_count - at - 1) * sizeof *t);
    v->thread_count--;
}

/* Seize what is not seized yet. *fresh says if there was any. */
int threads_seize(struct victim *v, bool *fresh, struct err *e)
{
    PID_LIST struct pid_list tids = {0};
    if (proc_threads(v->leader, &tids, e) < 0)
        return -1;
    for (size_t k = 0; k < tids.count; k++) {
        if (thread_is_known(v, tids.items[k], k))
            continue;
        int gone = trace_seize(tids.items[k], 0, e);
        bool kept = gone < 0 && trace_is_own(tids.items[k]); /* it did not stop in an earlier try: that interrupt still waits for it */
        if (gone < 0 && !kept)
            return err_wrap(e, "process %d", v->inner_pid);
        if (gone > 0)
            continue;
        if ((v->thread_count & (v->thread_count - 1)) == 0)
            v->threads = xrealloc(v->threads, v->thread_count ? 2 * v->thread_count : 1, sizeof *v->threads);
        struct victim_thread *t = &v->threads[v->thread_count++];
        *t = (struct victim_thread){.tid = tids.items[k]};
        *fresh = true;
        if (!kept && trace_interrupt(t->tid, e) < 0)
            return -1;
    }
    return 0;
}

/* 0 stopped, 1 gone, 2 does not stop in time. */
int thread_wait_stop(struct victim_thread *t, uint64_t deadline_ns, struct err *e)
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
    int late = 0;
    for (size_t k = 0; k < v->thread_count;) {
        struct victim_thread *t = &v->threads[k];
        int got = t->stopped ? 0 : thread_wait_stop(t, late ? AT_ONCE : deadline_ns, e);
        if (got < 0)
            return got;
        late = got == 2 ? got : late;
        if (got == 1)
            thread_forget(v, t);
        else
            k++;
    }
    return late;
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

int victim_stands(struct victim *v, struct err *e)
{
    return living_choose(v, e) < 0 || (v->thread_count && memory_open(v, e) < 0) ? -1 : 0;
}

int threads_look(struct victim *v, size_t first, size_t count, struct err *e)
{
    for (size_t k = first; k < v->thread_count && k < first + count; k++) {
        struct victim_thread *t = &v->threads[k];
        proc_status_free(&t->status);
        t->status = (struct proc_status){0};
        if (proc_status_read(v->pid, t->tid, &t->status, e) < 0)
            return -1;
        t->inner_tid = t->status.inner_pid;
    }
    return 0;
}

int threads_settle(struct victim *v, struct err *e)
{
    for (size_t k = 0; k < v->thread_count; k++) {
        struct victim_thread *t = &v->threads[k];
        if (trace_regs_get(t->tid, &t->regs, e) < 0 || trace_mask_get(t->tid, &t->sigmask, e) < 0)
            return -1;
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

int victim_open(pid_t pid, struct victim *v, struct err *e)
{
    PROC_STATUS struct proc_status s = {0}, leader = {0};
    *v = (struct victim){.pid = pid, .pidfd = -1, .memfd = -1};
    if (proc_status_read(pid, pid, &s, e) < 0 || (s.tgid != pid && proc_status_read(s.tgid, s.tgid, &leader, e) < 0))
        return -1;
    v->leader = s.tgid;
    v->inner_pid = s.tgid != pid ? leader.inner_pid : s.inner_pid;
    v->start_time = process_start(pid);
    v->pidfd = proc_pidfd(pid);
    return v->pidfd >= 0 ? 0 : err_errno(e, "open process %d", v->inner_pid);
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
    if (victim_stands(out, e) < 0 || threads_look(out, 0, out->thread_count, e) < 0)
        return -1;
    return out->thread_count ? threads_settle(out, e) : 1;
}
