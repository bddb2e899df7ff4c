/* Threads with a working directory, root and umask of their own (unshare(CLONE_FS)). Mirrored by thread_directories_load of restore/task_load.c. */
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "save.h"

#define OWN_MAX 1024

static bool is_same(pid_t a, pid_t b)
{
    return syscall(SYS_kcmp, a, b, KCMP_FS, 0, 0) == 0;
}

/* A restore makes each by itself: what one of two changes the other would not see. */
static int alone_check(const struct victim *v, const size_t *own, size_t count, size_t k, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (is_same(v->threads[own[i]].tid, v->threads[k].tid))
            return err_set(e, E_UNSUPPORTED, "two of its threads share a working directory that is not the process's");
    return count < OWN_MAX ? 0 : err_set(e, E_UNSUPPORTED, "more than %d threads with working directories of their own", OWN_MAX);
}

static int thread_save_dirs(const struct victim *v, size_t k, struct thread *out, struct err *e)
{
    AUTO_FREE char *cwd = xasprintf("task/%d/cwd", v->threads[k].tid), *root = xasprintf("task/%d/root", v->threads[k].tid);
    AUTO_FREE char *path = xasprintf("/proc/%d/%s", v->pid, cwd);
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(e, "its working directory");
    if (st.st_nlink == 0)
        return err_set(e, E_UNSUPPORTED, "its own working directory was removed");
    out->umask = v->threads[k].status.umask;
    return proc_link(v->pid, cwd, &out->cwd, e) < 0 ? -1 : proc_link(v->pid, root, &out->root, e);
}

static int process_save(const struct victim *v, struct task *out, struct err *e)
{
    size_t own[OWN_MAX], count = 0;
    for (size_t k = 1; k < v->thread_count; k++) {
        if (is_same(v->threads[0].tid, v->threads[k].tid))
            continue;
        if (alone_check(v, own, count, k, e) < 0 || thread_save_dirs(v, k, &out->threads[k], e) < 0)
            return err_wrap(e, "process %d: thread %d", v->inner_pid, v->threads[k].inner_tid);
        own[count++] = k;
    }
    return 0;
}

int threads_directories_save(struct snapshot *s, struct err *e)
{
    for (size_t k = 0; k < s->victim_count; k++)
        if (process_save(&s->victims[k], &s->image.tasks[k], e) < 0)
            return -1;
    return 0;
}
