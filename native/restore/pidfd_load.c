/* pidfd(2), opened when all processes are there. One of a process that is no more means a child that ended for it. Mirrors
 * snapshot/pidfd_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files_load.h"
#include "load.h"

static bool is_there(const struct restore *r, uint64_t pid)
{
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->image->tasks[k].pid == pid)
            return !r->births[k].skip;
    return pid == 1;
}

static int dead_open(const struct restore *r, unsigned flags)
{
    pid_t child = helper_spawn(r, 0);
    if (child == 0)
        _exit(0);
    int fd = child < 0 ? -1 : (int)syscall(SYS_pidfd_open, child, flags);
    while (child > 0 && waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
        continue;
    return fd;
}

int pidfd_load(const struct restore *r, const struct file *f, struct err *e)
{
    unsigned flags = (unsigned)(f->flags & O_NONBLOCK);
    int fd = is_there(r, f->ref) ? (int)syscall(SYS_pidfd_open, f->ref, flags) : dead_open(r, flags);
    return fd < 0 ? err_errno(e, "pidfd of process %lu", f->ref) : fd;
}
