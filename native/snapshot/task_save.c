/* One stopped process (or zombie) without its threads, memory and descriptors. Mirrored by restore/task_load.c. */
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
#include "check.h"
#include "save.h"
#include "seccomp_save.h"
#include "sleep_save.h"
#include "stop.h"

#define SIGNALS 64
#define TIMERS_MAX 4096
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

static uint64_t inner_of(const struct snapshot *s, pid_t outer)
{
    for (size_t k = 0; k < s->victim_count; k++)
        if (s->victims[k].leader == outer)
            return (uint64_t)s->victims[k].inner_pid;
    return 1;
}

static int link_save(pid_t pid, const char *name, char **out, struct err *e)
{
    if (proc_link(pid, name, out, e) < 0)
        return -1;
    size_t len = strlen(*out);
    static const char gone[] = " (deleted)";
    if (strcmp(name, "cwd") != 0 && len >= sizeof gone && /* a removed working directory: file_save.c */
        strcmp(*out + len - (sizeof gone - 1), gone) == 0)
        return err_set(e, E_UNSUPPORTED, "its %s was removed: %s", name, *out);
    return 0;
}

static int number_file(pid_t pid, const char *name, int base, int64_t *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 4096, e, "/proc/%d/%s", pid, name) < 0)
        return -1;
    *out = strtol((char *)text.data, NULL, base);
    return 0;
}

static int identity_save(struct snapshot *s, const struct victim *v, struct task *out, struct proc_stat *stat, struct err *e)
{
    PROC_STATUS struct proc_status read = {0};
    const struct proc_status *status = v->thread_count ? &v->threads[0].status : &read;
    if ((!v->thread_count && proc_status_read(v->pid, v->pid, &read, e) < 0) || proc_stat_read(v->pid, v->pid, stat, e) < 0)
        return -1;
    out->pid = (uint64_t)v->inner_pid;
    out->ppid = inner_of(s, status->ppid);
    out->pgid = (uint64_t)status->inner_pgid;
    out->sid = (uint64_t)status->inner_sid;
    out->umask = status->umask;
    struct proc_stat leader;
    if (proc_stat_read(v->leader, v->leader, &leader, e) < 0)
        return -1;
    out->exit_signal = (uint64_t)leader.exit_signal;
    out->exit_status = leader.state == 'Z' ? leader.exit_code : 0;
    out->comm = xstrdup(leader.comm);
    return 0;
}

static int links_save(const struct victim *v, struct task *out, struct err *e)
{
    int64_t personality, oom, core;
    if (link_save(v->pid, "cwd", &out->cwd, e) < 0 || link_save(v->pid, "root", &out->root, e) < 0 ||
        link_save(v->pid, "exe", &out->mm.exe, e) < 0 || number_file(v->pid, "personality", 16, &personality, e) < 0 ||
        number_file(v->pid, "oom_score_adj", 10, &oom, e) < 0 || number_file(v->pid, "coredump_filter", 16, &core, e) < 0)
        return -1;
    out->coredump_filter = (uint64_t)core + 1;
    out->personality = (uint64_t)personality;
    out->oom_score_adj = oom;
    AUTO_BUF struct buf auxv = {0};
    if (io_slurpf(&auxv, 65536, e, "/proc/%d/auxv", v->pid) < 0)
        return -1;
    bytes_set(&out->mm.auxv, auxv.data, auxv.len);
    return 0;
}

static void mm_numbers(const struct proc_stat *stat, struct mm *mm)
{
    mm->start_code = stat->start_code, mm->end_code = stat->end_code;
    mm->start_data = stat->start_data, mm->end_data = stat->end_data;
    mm->start_brk = stat->start_brk, mm->start_stack = stat->start_stack;
    mm->arg_start = stat->arg_start, mm->arg_end = stat->arg_end;
    mm->env_start = stat->env_start, mm->env_end = stat->env_end;
}

/* ---- what only the process can tell */
struct answers {
    struct kernel_sigaction actions[SIGNALS];
    struct itimerval itimers[3];
    struct rlimit64 limits[RLIM_NLIMITS];
    uint64_t subreaper;
};

static size_t questions(struct remote_call *calls, uint64_t at)
{
    size_t n = 0;
    for (uint64_t g = 0; g < SIGNALS; g++)
        calls[n++] = (struct remote_call){.nr = SYS_rt_sigaction, .args = {g + 1, 0, at + g * sizeof(struct kernel_sigaction), 8}};
    for (uint64_t k = 0; k < 3; k++)
        calls[n++] = (struct remote_call){
            .nr = SYS_getitimer, .args = {k, at + offsetof(struct answers, itimers) + k * sizeof(struct itimerval)}};
    for (uint64_t k = 0; k < RLIM_NLIMITS; k++)
        calls[n++] = (struct remote_call){
            .nr = SYS_prlimit64, .args = {0, k, 0, at + offsetof(struct answers, limits) + k * sizeof(struct rlimit64)}};
    calls[n++] = (struct remote_call){.nr = SYS_prctl, .args = {PR_GET_CHILD_SUBREAPER, at + offsetof(struct answers, subreaper)}};
    calls[n++] = (struct remote_call){.nr = SYS_membarrier, .args = {MEMBARRIER_CMD_GET_REGISTRATIONS}}; /* ENOSYS, EINVAL: there are none */
    calls[n++] = (struct remote_call){.nr = SYS_prctl, .args = {PR_GET_MEMORY_MERGE}};
    calls[n++] = (struct remote_call){.nr = SYS_prctl, .args = {PR_GET_DUMPABLE}};
    calls[n++] = (struct remote_call){.nr = SYS_prctl, .args = {PR_GET_THP_DISABLE}};
    calls[n++] = (struct remote_call){.nr = SYS_brk};
    return n;
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

static int inside_save(struct victim *v, struct task *out, struct err *e)
{
    AUTO_FREE struct answers *a = xcalloc(1, sizeof *a);
    struct remote_call calls[128];
    uint64_t at;
    if (remote_put(v, 0, a, sizeof *a, &at, e) < 0)
        return -1;
    size_t n = questions(calls, at);
    if (remote_batch(v, 0, calls, n, false, NULL, e) < 0 || victim_read(v, at, a, sizeof *a, e) < 0)
        return -1;
    for (size_t k = 0; k < n; k++)
        if (calls[k].ret < 0 && calls[k].ret > -4096 && k != n - 5 && k != n - 4) {
            errno = (int)-calls[k].ret;
            return err_errno(e, "ask the process (call %lu, number %zu)", calls[k].nr, k);
        }
    answers_take(a, out);
    out->membarrier = calls[n - 5].ret > 0 ? (uint64_t)calls[n - 5].ret : 0;
    out->memory_merge = calls[n - 4].ret > 0;
    out->mm.dumpable = (uint64_t)calls[n - 3].ret;
    out->mm.thp_disable = (uint64_t)calls[n - 2].ret;
    out->mm.brk = (uint64_t)calls[n - 1].ret;
    return 0;
}

/* ---- posix timers: which there are stands in /proc, the rest only the process can tell */
static int timers_list(const struct victim *v, struct task *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 1 << 20, e, "/proc/%d/timers", v->pid) < 0)
        return -1;
    struct posix_timer *t = NULL;
    char *save = NULL;
    for (char *line = strtok_r((char *)text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned long id, value, clock;
        unsigned signal;
        if (sscanf(line, "ID: %lu", &id) == 1) {
            if (out->posix_timers_count >= TIMERS_MAX)
                return err_set(e, E_UNSUPPORTED, "more than %d timers", TIMERS_MAX);
            t = LIST_ADD(out, posix_timers);
            t->id = id;
        } else if (t && sscanf(line, "signal: %u/%lx", &signal, &value) == 2) {
            t->signal = signal, t->value = value;
        } else if (t && strncmp(line, "notify: ", 8) == 0) {
            const char *tid = strstr(line, "/tid.");
            t->notify = strncmp(line + 8, "none", 4) == 0 ? SIGEV_NONE : strncmp(line + 8, "thread", 6) == 0 ? SIGEV_THREAD : SIGEV_SIGNAL;
            t->notify_tid = tid ? (uint64_t)atol(tid + 5) : 0;
            if (tid)
                t->notify |= SIGEV_THREAD_ID;
        } else if (t && sscanf(line, "ClockID: %ld", (long *)&clock) == 1) {
            t->clock = clock;
        }
    }
    return 0;
}

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
    if (timers_list(v, out, e) < 0)
        return -1;
    for (size_t k = 0; k < out->posix_timers_count; k++) {
        out->posix_timers[k].notify_tid = inner_tid_of(v, out->posix_timers[k].notify_tid);
        if (timer_save(v, &out->posix_timers[k], e) < 0)
            return -1;
    }
    return 0;
}

static int task_save(struct snapshot *s, struct victim *v, struct task *out, struct err *e)
{
    struct proc_stat stat;
    if (identity_save(s, v, out, &stat, e) < 0)
        return -1;
    if (!v->thread_count) {
        out->state = TASK_ZOMBIE;
        return 0;
    }
    if (stopped_check(s->pod, v, e) < 0)
        return -1;
    out->state = v->threads[0].group_stopped ? TASK_STOPPED : TASK_RUNNING;
    mm_numbers(&stat, &out->mm);
    AUTO_BUF struct buf pending = {0};
    if (links_save(v, out, e) < 0 || trace_pending(v->pid, true, &pending, e) < 0 || inside_save(v, out, e) < 0 ||
        timers_save(v, out, e) < 0)
        return -1;
    bytes_set(&out->pending, pending.data, pending.len);
    for (size_t k = 0; k < v->thread_count; k++)
        LIST_ADD(out, threads);
    return vmas_save(s, v, out, e);
}

static int process_save(void *ctx, size_t k, struct err *e)
{
    struct snapshot *s = ctx;
    return task_save(s, &s->victims[k], &s->image.tasks[k], e) < 0 ? err_wrap(e, "process %d", s->victims[k].inner_pid) : 0;
}

/* ---- threads: some of each process side by side */
struct lane {
    struct snapshot *s;
    size_t process, number;
};

static int lane_save(void *ctx, size_t i, struct err *e)
{
    const struct lane *l = (struct lane *)ctx + i;
    struct victim v = remote_lane(&l->s->victims[l->process], l->number);
    for (size_t k = l->number; k < v.thread_count; k += REMOTE_LANES) {
        struct thread *out = &l->s->image.tasks[l->process].threads[k];
        sleep_save(l->s, &v, &v.threads[k], out);
        if (seccomp_save(l->s->pod, &v.threads[k], out, e) < 0 || thread_save(&v, k, out, e) < 0)
            return err_wrap(e, "process %d", v.inner_pid);
    }
    return 0;
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
    return fibers_run(s->victim_count, process_save, s, e) < 0 ? -1 : threads_save(s, e);
}
