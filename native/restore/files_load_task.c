/* The descriptors of one task, in that task: the inherited descriptions to their numbers, everything else closed; and, when every
 * task has done so, what can only be made in its owner. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_load.h"

#define PULL_TRIES 5000 /* of 1 ms */

/* ---- numbers */
static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

static void range_close(int first, int last)
{
    if (first <= last)
        CHECK(syscall(SYS_close_range, first, last, 0) == 0);
}

/* Close all but those in `keep` (sorted here). */
static void others_close(int *keep, size_t count)
{
    int next = 0;
    if (count)
        qsort(keep, count, sizeof *keep, compare_int);
    for (size_t i = 0; i < count; i++) {
        range_close(next, keep[i] - 1);
        next = keep[i] + 1;
    }
    CHECK(syscall(SYS_close_range, next, ~0u, 0) == 0);
}

static bool is_kept(const int *keep_fds, size_t keep_count, uint64_t number)
{
    for (size_t i = 0; i < keep_count; i++)
        if (keep_fds[i] >= 0 && (uint64_t)keep_fds[i] == number)
            return true;
    return false;
}

static int number_set(int fd, const struct fd *wanted, struct err *e)
{
    if (dup3(fd, (int)wanted->number, wanted->cloexec ? O_CLOEXEC : 0) < 0)
        return err_errno(e, "descriptor %lu", wanted->number);
    return 0;
}

/* A number that is filled late is held by /dev/null until then. */
static int placeholder_set(const struct fd *wanted, struct err *e)
{
    int fd = open("/dev/null", O_PATH | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "/dev/null");
    if (fd == (int)wanted->number)
        return 0;
    int result = number_set(fd, wanted, e);
    close(fd);
    return result;
}

static int one_set(struct restore *r, const struct fd *wanted, struct err *e)
{
    size_t index;
    if (file_index(r, wanted->file, &index, e) < 0)
        return -1;
    return file_is_late(&r->image->files[index]) ? placeholder_set(wanted, e) : number_set(r->file_fds[index], wanted, e);
}

/* The tracer goes to all other working directories by their paths. */
static int removed_enter(const struct restore *r, const struct task *task, struct err *e)
{
    size_t index;
    if (!task->cwd_file)
        return 0;
    if (file_index(r, task->cwd_file, &index, e) < 0)
        return -1;
    return fchdir(r->file_fds[index]) < 0 ? err_errno(e, "working directory of process %lu, which was removed", task->pid) : 0;
}

int files_load_task(struct restore *r, const struct task *task, const int *keep_fds, size_t keep_count, struct err *e)
{
    AUTO_FREE int *keep = xcalloc(task->fds_count + keep_count + 1, sizeof *keep);
    size_t count = 0;
    if (removed_enter(r, task, e) < 0)
        return -1;
    for (size_t i = 0; i < task->fds_count; i++) {
        if (is_kept(keep_fds, keep_count, task->fds[i].number))
            return err_set(e, E_CONFLICT, "descriptor %lu is needed by the restore itself", task->fds[i].number);
        if (one_set(r, &task->fds[i], e) < 0)
            return err_wrap(e, "process %lu", task->pid);
        keep[count++] = (int)task->fds[i].number;
    }
    for (size_t i = 0; i < keep_count; i++)
        if (keep_fds[i] >= 0)
            keep[count++] = keep_fds[i];
    others_close(keep, count);
    return 0;
}

/* ---- late: made in the first task that has it, pulled by the others */
static const struct task *first_holder(const struct restore *r, uint64_t file, const struct fd **held)
{
    for (size_t i = 0; i < r->image->tasks_count; i++)
        for (size_t k = 0; k < r->image->tasks[i].fds_count; k++)
            if (r->image->tasks[i].fds[k].file == file) {
                *held = &r->image->tasks[i].fds[k];
                return &r->image->tasks[i];
            }
    return NULL;
}

/* O_PATH of /dev/null is the placeholder; no image has that as a late file. */
static bool is_placeholder(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    return flags >= 0 && flags & O_PATH && !strcmp(link, "/dev/null");
}

static int late_pull(const struct task *owner, const struct fd *held, struct err *e)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, owner->pid, 0);
    if (pidfd < 0)
        return err_errno(e, "process %lu", owner->pid);
    for (int tries = 0; tries < PULL_TRIES; tries++) {
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, held->number, 0);
        if (fd < 0)
            return err_errno(e, "descriptor %lu of process %lu", held->number, owner->pid);
        if (!is_placeholder(fd))
            return fd;
        close(fd);
        usleep(1000);
    }
    return err_set(e, E_OS, "descriptor %lu of process %lu did not come", held->number, owner->pid);
}

static int late_set(struct restore *r, const struct task *task, const struct fd *wanted, const struct file *f, struct err *e)
{
    const struct fd *held = NULL;
    const struct task *owner = first_holder(r, wanted->file, &held);
    CHECK(owner);
    int fd = -1;
    if (held == wanted)
        fd = f->kind == FILE_PIDFD ? pidfd_load(r, f, e) : file_open(r, f, e);
    else if (owner == task)
        fd = dup((int)held->number);
    else
        fd = late_pull(owner, held, e);
    if (fd < 0)
        return err_wrap(e, "process %lu: descriptor %lu", task->pid, wanted->number);
    int result = number_set(fd, wanted, e);
    close(fd);
    return result;
}

static int lates_set(struct restore *r, const struct task *task, struct err *e)
{
    for (size_t i = 0; i < task->fds_count; i++) {
        size_t index;
        if (file_index(r, task->fds[i].file, &index, e) < 0)
            return -1;
        if (file_is_late(&r->image->files[index]) && late_set(r, task, &task->fds[i], &r->image->files[index], e) < 0)
            return -1;
    }
    return 0;
}

/* ---- epoll watches that remember who added them */
static const struct fd *task_fd_of(const struct task *task, uint64_t file)
{
    for (size_t i = 0; i < task->fds_count; i++)
        if (task->fds[i].file == file)
            return &task->fds[i];
    return NULL;
}

/* The watch's number must be the one that it had, or the program could not change it: borrow it if it is in other use now. */
static int watch_set(const struct task *task, const struct epoll *epoll, const struct epoll_watch *w, struct err *e)
{
    const struct fd *set = task_fd_of(task, epoll->id), *target = task_fd_of(task, w->target_file);
    if (!set || !target)
        return 0; /* another task has both */
    if (target->number == w->target_fd)
        return epoll_watch_add((int)set->number, (int)w->target_fd, w, e);
    int saved = fcntl((int)w->target_fd, F_DUPFD_CLOEXEC, 0), flags = fcntl((int)w->target_fd, F_GETFD);
    if (dup2((int)target->number, (int)w->target_fd) < 0)
        return err_errno(e, "descriptor %lu", w->target_fd);
    int result = epoll_watch_add((int)set->number, (int)w->target_fd, w, e);
    if (saved >= 0)
        CHECK(dup3(saved, (int)w->target_fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0);
    close(saved >= 0 ? saved : (int)w->target_fd);
    return result;
}

static bool is_first_with_both(const struct restore *r, const struct task *task, uint64_t epoll, uint64_t target)
{
    for (size_t i = 0; i < r->image->tasks_count; i++)
        if (task_fd_of(&r->image->tasks[i], epoll) && task_fd_of(&r->image->tasks[i], target))
            return &r->image->tasks[i] == task;
    return false;
}

static int watches_set(struct restore *r, const struct task *task, struct err *e)
{
    for (size_t i = 0; i < r->image->epolls_count; i++) {
        const struct epoll *epoll = &r->image->epolls[i];
        for (size_t k = 0; k < epoll->watches_count; k++) {
            const struct epoll_watch *w = &epoll->watches[k];
            if (epoll_watch_is_late(r, w) && is_first_with_both(r, task, epoll->id, w->target_file) && watch_set(task, epoll, w, e) < 0)
                return err_wrap(e, "process %lu: watch of an epoll set", task->pid);
        }
    }
    return 0;
}

/* ---- F_SETOWN: the owner must exist */
static int owner_set(int fd, const struct file *f, struct err *e)
{
    struct f_owner_ex owner = {.type = (int)f->owner_type, .pid = (pid_t)f->owner_pid};
    if (f->owner_signal && fcntl(fd, F_SETSIG, (int)f->owner_signal) < 0)
        return err_errno(e, "signal of a descriptor");
    if (owner.pid && fcntl(fd, F_SETOWN_EX, &owner) < 0)
        return err_errno(e, "owner %d of a descriptor", owner.pid);
    return 0;
}

/* The number by which it is set is what its signals tell (si_fd). */
static int async_set(int fd, const struct file *f, struct err *e)
{
    int now = f->flags & O_ASYNC ? fcntl(fd, F_GETFL) : 0;
    if (now & O_ASYNC && (fcntl(fd, F_SETFL, now & ~O_ASYNC) < 0 || fcntl(fd, F_SETFL, now) < 0))
        return err_errno(e, "signals of a descriptor");
    return 0;
}

/* Threads are made after the descriptors. */
static bool is_of_thread(const struct restore *r, const struct file *f)
{
    bool process = f->owner_type != F_OWNER_TID;
    for (size_t i = 0; i < r->image->tasks_count && !process; i++)
        process = r->image->tasks[i].pid == (uint64_t)f->owner_pid;
    return f->owner_pid && !process;
}

static bool has_thread(const struct image *image, uint64_t tid)
{
    for (size_t i = 0; i < image->tasks_count; i++)
        for (size_t k = 0; k < image->tasks[i].threads_count; k++)
            if (image->tasks[i].threads[k].tid == tid)
                return true;
    return false;
}

int owners_load_threads(const struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++) {
        const struct file *f = &r->image->files[i];
        if (!is_of_thread(r, f))
            continue;
        if (r->file_fds[i] < 0 || !has_thread(r->image, (uint64_t)f->owner_pid))
            return err_set(e, E_BAD_IMAGE, "file %lu belongs to thread %ld, which is not there", f->id, f->owner_pid);
        if (owner_set(r->file_fds[i], f, e) < 0)
            return err_wrap(e, "file %lu", f->id);
    }
    return 0;
}

static int owners_set(struct restore *r, const struct task *task, struct err *e)
{
    for (size_t i = 0; i < task->fds_count; i++) {
        const struct fd *held = NULL;
        size_t index;
        if (file_index(r, task->fds[i].file, &index, e) < 0)
            return -1;
        const struct file *f = &r->image->files[index];
        if (!(f->owner_pid || f->owner_signal || f->flags & O_ASYNC) || first_holder(r, f->id, &held) != task || held != &task->fds[i])
            continue;
        if (async_set((int)held->number, f, e) < 0 || (!is_of_thread(r, f) && owner_set((int)held->number, f, e) < 0))
            return err_wrap(e, "process %lu", task->pid);
    }
    return 0;
}

int files_load_epolls(struct restore *r, const struct task *task, struct err *e)
{
    return lates_set(r, task, e) < 0 || watches_set(r, task, e) < 0 || owners_set(r, task, e) < 0 || locks_load_task(r, task, e) < 0
               ? -1
               : 0;
}
