/* See cow.h. Two steps: a helper that shares the memory (no page table is copied) closes its descriptors and forks the copy; the helper ends and is
 * reaped by the process itself, so that the copy is podinit's and the process has no child more than before. */
#include "cow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/trace.h"
#include "../pod/pod.h"

static void gone_await(pid_t pid)
{
    int status;
    struct err ignored;
    kill(pid, SIGKILL);
    while (trace_wait(pid, 0, &status, &ignored) == 0 && !WIFEXITED(status) && !WIFSIGNALED(status))
        continue;
}

/* A traced child in its first stop as a victim of its own; its work area is its parent's (shared or copied). */
static int child_take(const struct victim *parent, pid_t pid, pid_t inner, struct victim *out, struct err *e)
{
    *out = (struct victim){.pid = pid, .pidfd = -1, .memfd = -1, .expendable = true, .tail = parent->tail, .tail_len = parent->tail_len,
                           .scratch = parent->scratch, .data = parent->data, .data_len = parent->data_len,
                           .notify_signal = parent->notify_signal};
    out->threads = xcalloc(1, sizeof *out->threads);
    out->thread_count = 1;
    out->threads[0] = (struct victim_thread){.tid = pid, .stopped = true, .sigmask = ~0ul};
    AUTO_FREE char *path = xasprintf("/proc/%d/mem", pid);
    out->memfd = open(path, O_RDWR | O_CLOEXEC);
    if (out->memfd < 0)
        return err_errno(e, "open %s", path);
    out->inner_pid = out->threads[0].inner_tid = inner;
    struct user_regs_struct *regs = &out->threads[0].regs;
    if (trace_regs_get(pid, regs, e) < 0)
        return -1;
    regs->rip = remote_exit_address(parent); /* the code of the clone is overwritten by what follows */
    regs->orig_rax = (uint64_t)-1;
    return trace_regs_set(pid, regs, e);
}

static void copy_drop(struct victim *v)
{
    free(v->threads);
    if (v->memfd >= 0)
        close(v->memfd);
    *v = (struct victim){.pidfd = -1, .memfd = -1};
}

/* 0, or 1 when the process may have no further child. */
static int clone_inside(struct victim *v, uint64_t flags, bool closes, pid_t *child, pid_t *inner, struct err *e)
{
    struct clone_args args = {.flags = flags};
    uint64_t at;
    int64_t ret = 0;
    *child = 0;
    if (remote_put(v, 0, &args, sizeof args, &at, e) < 0 || remote_clone(v, 0, at, sizeof args, closes, child, &ret, e) < 0)
        return -1;
    *inner = (pid_t)ret;
    return ret < 0 ? 1 : 0;
}

static int reap_inside(struct victim *v, pid_t inner, struct err *e)
{
    int64_t ret;
    if (remote_one(v, 0, &ret, SYS_wait4, (uint64_t)inner, 0, __WALL, 0, 0, 0, e) < 0)
        return -1;
    return ret == inner ? 0 : err_set(e, E_BUG, "the helper of process %d was not reaped (%ld)", v->inner_pid, ret);
}

static int copy_make(struct victim *v, struct victim *copy, struct err *e)
{
    struct victim helper = {.pidfd = -1, .memfd = -1};
    pid_t pid, inner, copy_pid = 0, copy_inner = 0;
    int result = clone_inside(v, CLONE_VM, false, &pid, &inner, e);
    if (result)
        return result;
    result = child_take(v, pid, inner, &helper, e);
    if (result == 0)
        result = clone_inside(&helper, 0, true, &copy_pid, &copy_inner, e);
    gone_await(pid);
    copy_drop(&helper);
    if (reap_inside(v, inner, e) < 0)
        result = -1;
    if (result == 0)
        result = child_take(v, copy_pid, copy_inner, copy, e);
    if (result && copy_pid)
        gone_await(copy_pid);
    return result;
}

int cow_make(struct victim *v, struct victim *copy, struct err *e)
{
    if (journal_note("cow %d %lu", v->pid, v->start_time) < 0)
        return err_set(e, E_IO, "write the journal");
    if (ptrace(PTRACE_SETOPTIONS, v->pid, NULL, (void *)PTRACE_O_TRACECLONE) < 0)
        return err_errno(e, "process %d", v->inner_pid);
    int result = copy_make(v, copy, e);
    if (ptrace(PTRACE_SETOPTIONS, v->pid, NULL, NULL) < 0 && result == 0)
        result = err_errno(e, "process %d", v->inner_pid);
    if (result == 0)
        copy->inner_pid = v->inner_pid; /* for messages: it stands for the process */
    return result < 0 ? err_wrap(e, "copy of process %d", v->inner_pid) : result;
}

void cow_end(struct victim *copy)
{
    if (copy->pid > 0)
        gone_await(copy->pid);
    copy_drop(copy);
}
