/* What belongs to a process as a whole, but its timers' start: numbers of its memory, signal handlers, directories, limits. Mirrors
 * snapshot/task_save.c. */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "load.h"

#ifndef PR_SET_MM
#define PR_SET_MM 35
#define PR_SET_MM_MAP 14
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

struct mm_map { /* struct prctl_mm_map */
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end, auxv;
    uint32_t auxv_size, exe_fd;
};

static int open_as(struct call_list *l, const char *path, int flags, uint64_t number, struct err *e)
{
    if (call_open(l, path, flags, e) < 0)
        return -1;
    l->wanted[l->count - 1] = (int64_t)number;
    return 0;
}

static int mm_load(struct call_list *l, const struct restore *r, const struct mm *mm, uint64_t free_fd, struct err *e)
{
    uint64_t auxv, map_at;
    struct mm_map map = {mm->start_code, mm->end_code, mm->start_data, mm->end_data, mm->start_brk, mm->brk,
                         mm->start_stack, mm->arg_start, mm->arg_end, mm->env_start, mm->env_end, 0,
                         (uint32_t)mm->auxv.len, (uint32_t)free_fd};
    if (CALL(l, e, SYS_setfsuid, r->image->pod.uid, 0, 0, 0, 0, 0) < 0 || open_as(l, mm->exe, O_RDONLY, free_fd, e) < 0 ||
        CALL(l, e, SYS_setfsuid, 0, 0, 0, 0, 0, 0) < 0 || call_room(l, 4, mm->auxv.len + sizeof map + 64, e) < 0 ||
        call_data(l, mm->auxv.data, mm->auxv.len, &auxv, e) < 0)
        return -1;
    map.auxv = mm->auxv.len ? auxv : 0;
    if (call_data(l, &map, sizeof map, &map_at, e) < 0 || CALL(l, e, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, map_at, sizeof map, 0, 0) < 0)
        return -1;
    return CALL(l, e, SYS_close, free_fd, 0, 0, 0, 0, 0);
}

static int sigactions_load(struct call_list *l, const struct task *t, struct err *e)
{
    struct {
        uint64_t handler, flags, restorer, mask;
    } actions[65] = {{0}};
    uint64_t at;
    for (size_t k = 0; k < t->sigactions_count; k++) {
        const struct sigaction_of *a = &t->sigactions[k];
        actions[a->signal].handler = a->handler, actions[a->signal].flags = a->flags;
        actions[a->signal].restorer = a->restorer, actions[a->signal].mask = a->mask;
    }
    if (call_room(l, 64, sizeof actions + 16, e) < 0 || call_data(l, actions, sizeof actions, &at, e) < 0)
        return -1;
    for (uint64_t g = 1; g <= 64; g++)
        if (g != 9 && g != 19 && CALL(l, e, SYS_rt_sigaction, g, at + g * sizeof actions[0], 0, 8, 0, 0) < 0)
            return -1;
    return 0;
}

static uint64_t lowest_free(const struct task *t, const struct restore *r, uint64_t from)
{
    for (uint64_t number = from;; number++) {
        bool taken = false;
        for (size_t k = 0; k < t->fds_count; k++)
            taken |= t->fds[k].number == number;
        for (size_t k = 0; k < r->image->memobjs_count; k++)
            taken |= (uint64_t)r->memobj_fds[k] == number;
        if (!taken)
            return number;
    }
}

/* By descriptor, and back to the working directory. */
static int root_enter(struct call_list *l, uint64_t root, uint64_t cwd, struct err *e)
{
    uint64_t here;
    if (call_data(l, ".", 2, &here, e) < 0 || CALL(l, e, SYS_fchdir, root, 0, 0, 0, 0, 0) < 0 || CALL(l, e, SYS_chroot, here, 0, 0, 0, 0, 0) < 0)
        return -1;
    return CALL(l, e, SYS_close, root, 0, 0, 0, 0, 0) < 0 ? -1 : CALL(l, e, SYS_fchdir, cwd, 0, 0, 0, 0, 0);
}

static int directories_enter(struct call_list *l, const struct restore *r, const struct task *t, const char *cwd_path, const char *root_path, struct err *e)
{
    uint64_t cwd = lowest_free(t, r, 0), root = lowest_free(t, r, cwd + 1);
    if (CALL(l, e, SYS_setfsuid, r->image->pod.uid, 0, 0, 0, 0, 0) < 0 || open_as(l, cwd_path, O_PATH | O_DIRECTORY, cwd, e) < 0 ||
        CALL(l, e, SYS_fchdir, cwd, 0, 0, 0, 0, 0) < 0 || CALL(l, e, SYS_setfsuid, 0, 0, 0, 0, 0, 0) < 0)
        return -1;
    if (strcmp(root_path, "/") != 0 && (open_as(l, root_path, O_PATH | O_DIRECTORY, root, e) < 0 || root_enter(l, root, cwd, e) < 0))
        return -1;
    return CALL(l, e, SYS_close, cwd, 0, 0, 0, 0, 0);
}

static int directories_load(struct call_list *l, const struct restore *r, const struct task *t, struct err *e)
{
    if (!t->cwd_file && directories_enter(l, r, t, t->cwd, t->root, e) < 0) /* one that was removed is there already */
        return -1;
    return CALL(l, e, SYS_umask, t->umask & 0777, 0, 0, 0, 0, 0);
}

int thread_directories_load(struct victim *v, const struct restore *r, const struct task *task, size_t index, struct err *e)
{
    const struct thread *t = &task->threads[index];
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .thread = index, .what = "its own working directory"};
    if (!t->cwd[0])
        return 0;
    if (CALL(l, e, SYS_unshare, CLONE_FS, 0, 0, 0, 0, 0) < 0 || directories_enter(l, r, task, t->cwd, t->root, e) < 0 ||
        CALL(l, e, SYS_umask, t->umask & 0777, 0, 0, 0, 0, 0) < 0 || call_flush(l, e) < 0)
        return err_wrap(e, "thread %lu", t->tid);
    return 0;
}

/* A limit above what this node allows is cut to it. Who has joined another user namespace is not to be asked from here any more: it has podinit's. */
static int limits_load(struct call_list *l, const struct restore *r, const struct task *t, struct err *e)
{
    pid_t like = t->user_space ? r->pod->init_pid : l->v->pid;
    for (size_t k = 0; k < t->rlimits_count; k++) {
        const struct rlimit_of *from = &t->rlimits[k];
        struct rlimit64 limit = {from->soft, from->hard}, now;
        uint64_t at;
        if (prlimit64(like, (int)from->resource, NULL, &now) < 0)
            return err_errno(e, "read limit %lu", from->resource);
        if (limit.rlim_max > now.rlim_max)
            limit.rlim_max = now.rlim_max;
        if (limit.rlim_cur > limit.rlim_max)
            limit.rlim_cur = limit.rlim_max;
        if (call_data(l, &limit, sizeof limit, &at, e) < 0 || CALL(l, e, SYS_prlimit64, 0, from->resource, at, 0, 0, 0) < 0)
            return -1;
    }
    return 0;
}

static int oddities_load(struct call_list *l, const struct task *t, struct err *e)
{
    if (t->child_subreaper && CALL(l, e, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0) < 0)
        return -1;
    if (CALL(l, e, SYS_prctl, PR_SET_THP_DISABLE, t->mm.thp_disable & 1, t->mm.thp_disable & 2, 0, 0, 0) < 0)
        return -1;
    for (unsigned k = 0; k < 10; k++)
        if (t->membarrier >> k & 1 && CALL(l, e, SYS_membarrier, 1ul << k, 0, 0, 0, 0, 0) < 0)
            return -1;
    if (t->memory_merge) {
        if (CALL(l, e, SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true; /* it only saves memory */
    }
    return CALL(l, e, SYS_personality, t->personality & 0xffffffff, 0, 0, 0, 0, 0);
}

static int memobjs_close(struct call_list *l, const struct restore *r, struct err *e)
{
    for (size_t k = 0; k < r->image->memobjs_count; k++)
        if (r->memobj_fds[k] >= 0 && CALL(l, e, SYS_close, (uint64_t)r->memobj_fds[k], 0, 0, 0, 0, 0) < 0)
            return -1;
    return 0;
}

/* From outside; it may be raised by anybody, and is never lowered below what the pod has. */
static void oom_load(const struct victim *v, const struct task *t)
{
    struct err ignored;
    AUTO_FREE char *path = xasprintf("/proc/%d/oom_score_adj", v->pid);
    AUTO_BUF struct buf now = {0};
    if (io_slurpf(&now, 64, &ignored, "%s", path) == 0 && t->oom_score_adj > atol((char *)now.data) &&
        io_putf(&ignored, path, "%ld", t->oom_score_adj) < 0)
        return; /* it only tells whom the kernel ends first */
}

static int core_load(const struct victim *v, const struct task *t, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/coredump_filter", v->pid);
    return t->coredump_filter ? io_putf(e, path, "0x%lx", t->coredump_filter - 1) : 0;
}

int task_load(struct call_list *l, struct restore *r, const struct task *task, struct err *e)
{
    oom_load(l->v, task);
    if (core_load(l->v, task, e) < 0 || mm_load(l, r, &task->mm, lowest_free(task, r, 0), e) < 0 || directories_load(l, r, task, e) < 0 || memobjs_close(l, r, e) < 0 ||
        sigactions_load(l, task, e) < 0 || oddities_load(l, task, e) < 0)
        return -1;
    return limits_load(l, r, task, e);
}
