/* See vfork.h. */
#include "vfork.h"

#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "stop.h"

/* None of these waits for anything else; a running thread has no number there. */
static bool is_in_clone(pid_t pid, pid_t tid)
{
    struct err gone;
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 4096, &gone, "/proc/%d/task/%d/syscall", pid, tid) < 0 || !text.len || text.data[0] < '0' || text.data[0] > '9')
        return false;
    long number = strtol((const char *)text.data, NULL, 10);
    return number == SYS_vfork || number == SYS_clone || number == SYS_clone3;
}

bool vfork_waits(pid_t pid)
{
    PID_LIST struct pid_list tids = {0};
    struct err gone;
    if (proc_threads(pid, &tids, &gone) < 0)
        return false;
    for (size_t k = 0; k < tids.count; k++)
        if (is_in_clone(pid, tids.items[k]))
            return true;
    return false;
}

static bool is_waiting_parent(const struct victim *v)
{
    for (size_t k = 0; k < v->thread_count; k++)
        if (!v->threads[k].stopped && is_in_clone(v->pid, v->threads[k].tid))
            return true;
    return false;
}

static bool is_child_of(const struct victim *child, const struct victim *parent)
{
    return child != parent && child->thread_count == 1 && syscall(SYS_kcmp, child->pid, parent->pid, KCMP_VM, 0, 0) == 0;
}

/* A child that was stopped by job control stays so, and its parent waits on. */
static int child_run(struct victim *parent, struct victim *child, uint64_t deadline_ns, struct err *e)
{
    int late = threads_wait(child, deadline_ns, e);
    if (late || !child->thread_count || child->threads[0].group_stopped)
        return late;
    struct victim_thread *t = &child->threads[0];
    if (trace_resume(t->tid, t->stop_signal, e) < 0)
        return -1;
    t->stopped = false;
    t->stop_signal = 0;
    int got = threads_wait(parent, deadline_ns, e);
    if (got < 0 || trace_interrupt(t->tid, e) < 0)
        return -1;
    int stopped = threads_wait(child, deadline_ns, e);
    return stopped ? stopped : got;
}

int vfork_run_children(struct victim *victims, size_t count, uint64_t deadline_ns, bool *ran, struct err *e)
{
    int result = 0;
    for (size_t p = 0; p < count; p++) {
        if (!is_waiting_parent(&victims[p]))
            continue;
        for (size_t c = 0; c < count; c++) {
            if (!is_child_of(&victims[c], &victims[p]))
                continue;
            *ran = true;
            int got = child_run(&victims[p], &victims[c], deadline_ns, e);
            if (got < 0)
                return -1;
            result = got ? got : result;
        }
    }
    return result;
}
