/* System V memory, semaphores and message queues, of the pod and of ipc namespaces that the job made: podinit goes there for a moment. The numbers that
 * they shall get are asked for by files of /proc/sys, which show what the namespace of the reader has; held since before /proc/sys was sealed. Mirrors
 * snapshot/sysv_save.c. */
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "sysv_load.h"

int ipc_next_id(const struct restore *r, const char *kind, uint64_t id, struct err *e)
{
    char name[32], text[32];
    int n = snprintf(text, sizeof text, "%lu", id);
    snprintf(name, sizeof name, "%s_next_id", kind);
    AUTO_CLOSE int fd = openat(r->sysctl_fd, name, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, (size_t)n) != n ? err_errno(e, "ask for its number (%s)", name) : 0;
}

static int namespace_load(struct restore *r, uint64_t space, struct err *e)
{
    return sysv_load(r, space, e) < 0 || sysvsem_load(r, space, e) < 0 || sysvmsg_load(r, space, e) < 0 ? -1 : 0;
}

int ipc_load(struct restore *r, struct err *e)
{
    r->sysctl_fd = open("/proc/sys/kernel", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return r->sysctl_fd < 0 ? err_errno(e, "open /proc/sys/kernel") : namespace_load(r, 0, e);
}

static int in_each_space(struct restore *r, int (*fn)(struct restore *r, uint64_t space, struct err *e), struct err *e)
{
    AUTO_CLOSE int home = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return err_errno(e, "the pod's ipc namespace");
    for (size_t k = 0; k < r->image->other_spaces_count; k++) {
        if (r->image->other_spaces[k].kind != CLONE_NEWIPC)
            continue;
        if (setns(r->other_fds[k], CLONE_NEWIPC) < 0)
            return err_errno(e, "enter an ipc namespace of the job");
        int result = fn(r, k + 1, e);
        CHECK(setns(home, CLONE_NEWIPC) == 0);
        if (result < 0)
            return err_wrap(e, "ipc namespace %zu of the job", k + 1);
    }
    return 0;
}

int ipc_spaces_load(struct restore *r, struct err *e)
{
    int result = in_each_space(r, namespace_load, e);
    close(r->sysctl_fd);
    return result;
}

int ipc_load_finish(struct restore *r, struct err *e)
{
    return sysv_load_finish(r, 0, e) < 0 ? -1 : in_each_space(r, sysv_load_finish, e);
}
