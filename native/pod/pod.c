/* A pod as it is found from outside: opening it, its trees, its processes, its freezer, its end. See pod.h. */
#include "pod.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../kernel/netdev.h"
#include "state.h"

#define INIT_DEATH_TIMEOUT_MS 5000

const char *const pod_tree_names[] = {"root", "tmp", "shm", "run", NULL};

int pod_open(const char *dir, struct pod *out, struct err *e)
{
    if (pod_state_load(dir, out, e) < 0)
        return -1;
    if (pod_init_alive(out))
        return 0;
    err_set(e, E_CONFLICT, "pod %s has ended%s%s", out->dir, out->reason[0] ? ": " : "", out->reason);
    pod_close(out);
    return -1;
}

static void close_and_forget(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void pod_close(struct pod *pod)
{
    close_and_forget(&pod->dirfd);
    close_and_forget(&pod->stdout_fd);
    close_and_forget(&pod->stderr_fd);
    for (size_t k = 0; k < ARRAY_LENGTH(pod->tree_fds); k++)
        close_and_forget(&pod->tree_fds[k]);
    if (pod->cgroups)
        cgroups_free(pod->cgroups);
    free(pod->cgroups);
    pod->cgroups = NULL;
    pod_facts_free(&pod->facts);
    pod->facts = (struct pod_facts){0};
}

/* ---- trees */

static int tree_place_open(const struct pod *pod, size_t which)
{
    static const char *const places[] = {"tmp", "dev/shm", "run"};
    char path[64];
    if (pod->tree_fds[which] >= 0)
        return openat(pod->tree_fds[which], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/root/%s", pod->init_pid, places[which]);
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int pod_tree_open(const struct pod *pod, const char *tree, struct err *e)
{
    int fd = -1;
    if (strcmp(tree, "root") == 0)
        fd = openat(pod->dirfd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else if (strcmp(tree, "tmp") == 0)
        fd = tree_place_open(pod, 0);
    else if (strcmp(tree, "shm") == 0)
        fd = tree_place_open(pod, 1);
    else if (strcmp(tree, "run") == 0)
        fd = tree_place_open(pod, 2);
    else
        return err_set(e, E_NO_INPUT, "pods have no tree '%s'", tree);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, E_NO_INPUT, "the pod has no tree '%s'", tree);
    return fd < 0 ? err_errno(e, "open the tree '%s' of the pod", tree) : fd;
}

/* ---- processes */

static ino_t pid_namespace(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static int pid_compare(const void *a, const void *b)
{
    pid_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The namespace link of a zombie cannot be read; its status still tells at which depth it lives, and its parent where. */
static bool is_inside(pid_t pid, ino_t space)
{
    ino_t own = pid_namespace(pid);
    if (own)
        return own == space;
    struct err ignored;
    AUTO_BUF struct buf status = {0};
    if (io_slurpf(&status, 1u << 16, &ignored, "/proc/%d/status", pid) < 0 || !status.data)
        return false;
    const char *parent = strstr((char *)status.data, "\nPPid:"), *zombie = strstr((char *)status.data, "\nState:\tZ");
    return parent && zombie && pid_namespace(atoi(parent + 6)) == space;
}

/* Processes that the pod's own /proc shows, zombies and podinit too; 0 if it is not what stands there. */
static size_t inside_count(const struct pod *pod)
{
    size_t count = 0;
    struct stat first;
    AUTO_FREE char *path = xasprintf("/proc/%d/root/proc", pod->init_pid), *self = xasprintf("%s/1/ns/pid", path);
    AUTO_DIR DIR *proc = opendir(path);
    if (!proc || stat(self, &first) < 0 || first.st_ino != pid_namespace(pod->init_pid))
        return 0;
    for (struct dirent *entry; (entry = readdir(proc));)
        count += atoi(entry->d_name) > 0;
    return count;
}

/* From the pod's control group, if that is all there is: to look at every process of the machine takes milliseconds of a pause. */
static bool members_take(const struct pod *pod, ino_t space, pid_t **out, size_t *count)
{
    AUTO_FREE pid_t *members = NULL;
    size_t n = 0;
    if (!pod->cgroups || !cgroups_members(pod->cgroups, &members, &n))
        return false;
    for (size_t k = 0; k < n; k++)
        if (members[k] > 0 && members[k] != pod->init_pid && pid_namespace(members[k]) == space)
            *(pid_t *)list_add((void **)out, count, sizeof **out) = members[k];
    if (*count + 1 == inside_count(pod))
        return true;
    free(*out);
    *out = NULL;
    *count = 0;
    return false;
}

static int machine_search(const struct pod *pod, ino_t space, pid_t **out, size_t *count, struct err *e)
{
    AUTO_DIR DIR *proc = opendir("/proc");
    if (!proc)
        return err_errno(e, "open /proc");
    for (struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = atoi(entry->d_name);
        if (pid > 0 && pid != pod->init_pid && is_inside(pid, space))
            *(pid_t *)list_add((void **)out, count, sizeof **out) = pid;
    }
    return 0;
}

int pod_pids(const struct pod *pod, pid_t **out, size_t *count, struct err *e)
{
    *out = NULL;
    *count = 0;
    ino_t space = pid_namespace(pod->init_pid);
    if (!space)
        return err_set(e, E_CONFLICT, "pod %s has ended", pod->dir);
    if (!members_take(pod, space, out, count) && machine_search(pod, space, out, count, e) < 0)
        return -1;
    if (*count)
        qsort(*out, *count, sizeof **out, pid_compare);
    return 0;
}

/* ---- the freezer */

enum freezer_kind pod_freezer_kind(const struct pod *pod)
{
    if (pod->cgroups->dir[CGROUP_UNIFIED])
        return FREEZER_V2;
    return pod->cgroups->dir[CGROUP_FREEZER] ? FREEZER_V1 : FREEZER_NONE;
}

bool pod_is_frozen(const struct pod *pod)
{
    return cgroups_frozen(pod->cgroups);
}

int pod_freeze(const struct pod *pod, struct err *e)
{
    return cgroups_freeze(pod->cgroups, e);
}

int pod_thaw(const struct pod *pod, struct err *e)
{
    return cgroups_thaw(pod->cgroups, e);
}

bool pod_wants_frozen(const struct pod *pod)
{
    struct pod fresh = {.dirfd = pod->dirfd};
    pod_lease_load(&fresh);
    return fresh.suspended || fresh.lease_frozen;
}

/* ---- the end */

static int init_kill(struct pod *pod, struct err *e)
{
    if (!pod_init_alive(pod))
        return 0;
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pod->init_pid, 0);
    if (pidfd < 0 || !pod_init_alive(pod))
        return 0; /* it went while we looked */
    struct err ignored;
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        return err_errno(e, "kill podinit %d", pod->init_pid);
    if (pod_freezer_kind(pod) == FREEZER_V1 && pod_thaw(pod, &ignored) < 0)
        return err_wrap(&ignored, "thaw the dying pod"), *e = ignored, -1;
    struct pollfd dead = {.fd = pidfd, .events = POLLIN};
    if (poll(&dead, 1, INIT_DEATH_TIMEOUT_MS) <= 0)
        return err_set(e, E_BUSY, "podinit %d does not die", pod->init_pid);
    waitpid(pod->init_pid, NULL, WNOHANG); /* ours, if we are its keeper */
    return 0;
}

int pod_destroy(struct pod *pod, const char *reason, struct err *e)
{
    if (init_kill(pod, e) < 0)
        return -1;
    if (cgroups_remove(pod->cgroups, e) < 0 || netdev_remove(&pod->net, pod->host_ifname, e) < 0 || netlock_forget(pod, e) < 0)
        return err_wrap(e, "clear away pod %s", pod->dir);
    pod_exit_load(pod);
    snprintf(pod->phase, sizeof pod->phase, "ended");
    if (!pod->reason[0])
        snprintf(pod->reason, sizeof pod->reason, "%s", reason);
    return pod_state_save(pod, e);
}
