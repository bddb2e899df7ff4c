/* What /proc says of one stopped process, and how it is related to others: nothing is asked in it, so that any thread of the engine may look while
 * others look at its neighbours. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../kernel/procfs.h"
#include "check.h"
#include "save.h"

#define TIMERS_MAX 4096

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
    struct proc_stat leader = *stat;
    if (v->leader != v->pid && proc_stat_read(v->leader, v->leader, &leader, e) < 0)
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

/* Which posix timers there are; the rest only the process can tell. */
int timers_look(const struct victim *v, struct task *out, struct err *e)
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

int task_look(struct snapshot *s, struct victim *v, struct task *out, struct err *e)
{
    struct proc_stat stat;
    if (identity_save(s, v, out, &stat, e) < 0)
        return -1;
    if (!v->thread_count) {
        out->state = TASK_ZOMBIE;
        return 0;
    }
    if (stopped_check(s, v, e) < 0)
        return -1;
    out->state = v->threads[0].group_stopped ? TASK_STOPPED : TASK_RUNNING;
    mm_numbers(&stat, &out->mm);
    return links_save(v, out, e) < 0 || timers_look(v, out, e) < 0 || vmas_save(s, v, out, e) < 0 ? -1 : 0;
}
