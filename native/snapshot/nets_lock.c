/* See nets_lock.h. */
#include "nets_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel/netlock_hub.h"
#include "../kernel/procfs.h"
#include "spaces.h"

static int space_open(pid_t pid, struct stat *st)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/net", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, st) == 0)
        return fd;
    cleanup_close(&fd);
    return -1;
}

int nets_cut(const struct spaces *spaces, struct err *e)
{
    for (size_t k = 0; spaces && k < spaces->others_count; k++) {
        struct stat st;
        pid_t pid = spaces_net_member(spaces, k + 1);
        if (!pid)
            continue;
        AUTO_CLOSE int fd = space_open(pid, &st);
        if (fd < 0)
            return err_errno(e, "open a network namespace of the job");
        if (netlock_inside(fd, true, e) < 0)
            return err_wrap(e, "cut a network namespace of the job");
    }
    return 0;
}

static bool is_known(const uint64_t *known, size_t count, uint64_t ino)
{
    for (size_t k = 0; k < count; k++)
        if (known[k] == ino)
            return true;
    return false;
}

/* The first that fails is told; the others are tried in any case. */
int nets_open(const struct pod *pod, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    AUTO_FREE uint64_t *known = NULL;
    size_t count = 0, known_count = 0;
    struct stat st;
    int result = 0;
    AUTO_CLOSE int pods = space_open(pod->init_pid, &st);
    if (pods < 0)
        return 0; /* it has ended */
    *(uint64_t *)list_add((void **)&known, &known_count, sizeof *known) = st.st_ino;
    if (pod_pids(pod, &pids, &count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++) {
        struct err why = {0};
        AUTO_CLOSE int fd = space_open(proc_living(pids[k]), &st);
        if (fd < 0 || is_known(known, known_count, st.st_ino))
            continue;
        *(uint64_t *)list_add((void **)&known, &known_count, sizeof *known) = st.st_ino;
        if (netlock_inside(fd, false, &why) < 0 && result == 0) {
            *e = why;
            result = err_wrap(e, "give a network namespace of the job its network back");
        }
    }
    return result;
}
