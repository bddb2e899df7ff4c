/* The pod that a process of this machine belongs to: podinit is its first ancestor that is process 1 somewhere, and the keeper that holds the
 * directory whose state names that podinit tells where the pod lives. Keepers of others cannot be looked into: their pods are not found. */
#include "find.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kernel/namespaces.h"
#include "../kernel/procfs.h"

static pid_t init_above(pid_t pid, struct err *e)
{
    while (pid > 1) {
        PROC_STATUS struct proc_status s = {0};
        if (proc_status_read(pid, pid, &s, e) < 0)
            return -1;
        if (s.depth > 1 && s.inner_pid == 1)
            return pid;
        pid = s.ppid;
    }
    return 0;
}

static bool is_keeper(pid_t pid)
{
    AUTO_BUF struct buf name = {0};
    struct err gone;
    return io_slurpf(&name, 64, &gone, "/proc/%d/comm", pid) == 0 && strcmp((char *)name.data, "keeper\n") == 0;
}

/* One descriptor of a keeper: the directory of the pod of `init`? */
static bool leads_to(const char *path, pid_t init, char out[PATH_BYTES])
{
    struct pod pod;
    struct err other;
    if (pod_open(path, &pod, &other) < 0)
        return false;
    bool is_it = pod.init_pid == init;
    pod_close(&pod);
    ssize_t n = is_it ? readlink(path, out, PATH_BYTES - 1) : -1;
    if (n > 0)
        out[n] = 0;
    return n > 0;
}

static bool keeper_keeps(pid_t keeper, pid_t init, char out[PATH_BYTES])
{
    AUTO_FREE char *fds = xasprintf("/proc/%d/fd", keeper);
    AUTO_DIR DIR *dir = opendir(fds);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        AUTO_FREE char *path = xasprintf("%s/%s", fds, d->d_name), *state = xasprintf("%s/state", path);
        if (d->d_name[0] != '.' && access(state, R_OK) == 0 && leads_to(path, init, out))
            return true;
    }
    return false;
}

int pod_find(pid_t pid, char out[PATH_BYTES], struct err *e)
{
    pid_t init = init_above(pid, e);
    if (init < 0)
        return -1;
    AUTO_DIR DIR *proc = init ? opendir("/proc") : NULL;
    for (struct dirent *d; proc && (d = readdir(proc));) {
        pid_t keeper = atoi(d->d_name);
        if (keeper > 0 && is_keeper(keeper) && keeper_keeps(keeper, init, out))
            return 0;
    }
    return err_set(e, E_NO_INPUT, "process %d is in no pod that can be seen from here", pid);
}
