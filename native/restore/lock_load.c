/* File locks: those of descriptions in podinit, POSIX locks and leases in their process. Mirrors snapshot/lock_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../snapshot/files_lock.h"
#include "files_load.h"

static struct flock record_of(const struct file_lock *lock)
{
    return (struct flock){.l_type = (short)(lock->type == F_WRLCK ? F_WRLCK : F_RDLCK), .l_whence = SEEK_SET,
                          .l_start = (off_t)lock->start, .l_len = (off_t)lock->len};
}

static int record_set(int fd, const struct file_lock *lock, struct err *e)
{
    struct flock l = record_of(lock);
    int command = lock->kind == LOCK_KIND_OFD ? F_OFD_SETLK : F_SETLK;
    return fcntl(fd, command, &l) < 0 ? err_errno(e, "lock of bytes %lu+%lu", lock->start, lock->len) : 0;
}

int locks_load_shared(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->locks_count; i++) {
        const struct file_lock *lock = &r->image->locks[i];
        size_t index;
        if (lock->kind == LOCK_KIND_POSIX || lock->kind == LOCK_KIND_LEASE)
            continue;
        if (file_index(r, lock->file, &index, e) < 0)
            return -1;
        int fd = r->file_fds[index];
        if (lock->kind == LOCK_KIND_FLOCK ? flock(fd, (lock->type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0 : record_set(fd, lock, e) < 0)
            return lock->kind == LOCK_KIND_FLOCK ? err_errno(e, "flock of %s", r->image->files[index].path)
                                                 : err_wrap(e, "%s", r->image->files[index].path);
    }
    return 0;
}

static const struct fd *task_fd_of(const struct task *task, uint64_t file)
{
    for (size_t i = 0; i < task->fds_count; i++)
        if (task->fds[i].file == file)
            return &task->fds[i];
    return NULL;
}

/* Only the owner of a file may lease it. */
static int lease_set(const struct restore *r, int fd, const struct file_lock *lock, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != r->pod->facts.uid)
        return err_set(e, E_BAD_IMAGE, "a lease on what is no file of the pod's owner");
    return fcntl(fd, F_SETLEASE, lock->type == F_WRLCK ? F_WRLCK : F_RDLCK) < 0 ? err_errno(e, "lease") : 0;
}

int locks_load_task(struct restore *r, const struct task *task, struct err *e)
{
    for (size_t i = 0; i < r->image->locks_count; i++) {
        const struct file_lock *lock = &r->image->locks[i];
        if ((lock->kind != LOCK_KIND_POSIX && lock->kind != LOCK_KIND_LEASE) || lock->pid != task->pid)
            continue;
        const struct fd *held = task_fd_of(task, lock->file);
        if (!held)
            return err_set(e, E_BAD_IMAGE, "process %lu has a lock on a file that it has not open", task->pid);
        if (lock->kind == LOCK_KIND_LEASE ? lease_set(r, (int)held->number, lock, e) < 0 : record_set((int)held->number, lock, e) < 0)
            return err_wrap(e, "process %lu: descriptor %lu", task->pid, held->number);
    }
    return 0;
}

/* Mapping a file and closing it again drops the process's POSIX locks on it: they are set once more by the process itself, from outside,
 * when its mappings are there. */
int locks_load_remote(struct restore *r, struct victim *v, const struct task *task, struct err *e)
{
    for (size_t i = 0; i < r->image->locks_count; i++) {
        const struct file_lock *lock = &r->image->locks[i];
        const struct fd *held = lock->kind == LOCK_KIND_POSIX && lock->pid == task->pid ? task_fd_of(task, lock->file) : NULL;
        struct flock l = record_of(lock);
        uint64_t address;
        int64_t ret = 0;
        if (!held)
            continue;
        if (remote_put(v, 0, &l, sizeof l, &address, e) < 0 || remote_one(v, 0, &ret, SYS_fcntl, held->number, F_SETLK, address, 0, 0, 0, e) < 0)
            return -1;
        errno = ret < 0 ? (int)-ret : 0;
        if (ret < 0)
            return err_errno(e, "process %lu: lock of descriptor %lu", task->pid, held->number);
    }
    return 0;
}
