/* A call whose end only the kernel remembers (nanosleep, poll, futex) is begun once more for what was left of its time, and interrupted before it
 * sleeps: the thread then has a restart block of its own again, and its registers, which say that such a call is to be restarted, hold true. Mirrors
 * snapshot/sleep_save.c. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "../kernel/trace.h"
#include "load.h"

#define RESTART_FIRST (-511) /* above all that mean "again" */
#define RESTART_BLOCK (-516)

struct begun { /* lies in the work area of the process */
    struct timespec left;
    uint8_t code[8];
};

static bool has_known_end(const struct thread *t, const struct user_regs_struct *r)
{
    bool known = t->restart_nr == SYS_nanosleep || t->restart_nr == SYS_clock_nanosleep || t->restart_nr == SYS_poll ||
                 (t->restart_nr == SYS_futex && ((int)r->rsi & FUTEX_CMD_MASK) == FUTEX_WAIT);
    return known && t->restart_remaining_ns && (int64_t)r->orig_rax >= 0 && (int64_t)r->rax == RESTART_BLOCK;
}

static void call_set(const struct thread *t, uint64_t at, struct user_regs_struct *r)
{
    r->rip = at + offsetof(struct begun, code);
    r->rax = t->restart_nr;
    r->orig_rax = (uint64_t)-1;
    if (t->restart_nr == SYS_nanosleep)
        r->rdi = at;
    else if (t->restart_nr == SYS_clock_nanosleep)
        r->rdx = at;
    else if (t->restart_nr == SYS_futex)
        r->r10 = at;
    else
        r->rdx = (t->restart_remaining_ns + 999999) / 1000000;
}

/* To the next stop of the wanted kind; signals on the way come back by the thread's pending list anyway: all are blocked. */
static int stop_await(pid_t tid, int request, int wanted, struct err *e)
{
    int status;
    if (ptrace(request, tid, NULL, NULL) < 0)
        return err_errno(e, "resume thread %d", tid);
    if (trace_wait(tid, 0, &status, e) < 0)
        return -1;
    bool there = WIFSTOPPED(status) && (wanted ? status >> 16 == wanted : status >> 8 == (SIGTRAP | 0x80));
    return there ? 0 : err_set(e, E_CONFLICT, "thread %d stopped for another reason (%x)", tid, (unsigned)status);
}

/* At the entry of the call the interruption is asked for, so that it cannot come too early or too late. */
static int call_interrupted(pid_t tid, bool filtered, struct err *e)
{
    long options = RESTORE_TRACED | (filtered ? PTRACE_O_SUSPEND_SECCOMP : 0);
    if (ptrace(PTRACE_SETOPTIONS, tid, NULL, (void *)(options | PTRACE_O_TRACESYSGOOD)) < 0)
        return err_errno(e, "trace the calls of thread %d", tid);
    if (stop_await(tid, PTRACE_SYSCALL, 0, e) < 0 || trace_interrupt(tid, e) < 0 || stop_await(tid, PTRACE_CONT, PTRACE_EVENT_STOP, e) < 0)
        return -1;
    return ptrace(PTRACE_SETOPTIONS, tid, NULL, (void *)options) < 0 ? err_errno(e, "thread %d", tid) : 0;
}

static void call_again(const struct thread *t, struct user_regs_struct *regs)
{
    regs->rax = t->restart_nr ? t->restart_nr : (uint64_t)-EINTR;
    if (t->restart_nr)
        regs->rip -= 2;
    regs->orig_rax = (uint64_t)-1;
}

static int thread_sleep(struct victim *v, size_t index, const struct thread *t, struct user_regs_struct *regs, struct err *e)
{
    struct begun begun = {.left = {(time_t)(t->restart_remaining_ns / 1000000000), (long)(t->restart_remaining_ns % 1000000000)},
                          .code = {0x0f, 0x05}};
    struct user_regs_struct r = *regs;
    uint64_t at;
    pid_t tid = v->threads[index].tid;
    if (remote_put(v, 0, &begun, sizeof begun, &at, e) < 0)
        return -1;
    call_set(t, at, &r);
    if (trace_regs_set(tid, &r, e) < 0 || call_interrupted(tid, t->filters_count > 0, e) < 0 || trace_regs_get(tid, &r, e) < 0)
        return -1;
    if ((int64_t)r.rax == RESTART_BLOCK) {
        regs->orig_rax = t->restart_nr; /* it may have been restart_syscall, which is the same to the program */
        return 0;
    }
    if ((int64_t)r.rax < RESTART_FIRST && (int64_t)r.rax > RESTART_BLOCK)
        return call_again(t, regs), 0;
    regs->rax = r.rax; /* over at once: what it waits for is there, or it was over its time */
    regs->orig_rax = (uint64_t)-1;
    return 0;
}

int sleep_load(struct victim *v, size_t index, const struct thread *t, struct user_regs_struct *regs, struct err *e)
{
    memcpy(regs, t->regs.data, sizeof *regs);
    if (has_known_end(t, regs))
        return thread_sleep(v, index, t, regs, e) < 0 ? err_wrap(e, "wait of thread %lu", t->tid) : 0;
    if ((int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != RESTART_BLOCK)
        return 0;
    return call_again(t, regs), 0; /* with its whole limit */
}
