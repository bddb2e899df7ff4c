/* See cgroup.h. Version 2 is preferred for freezing: a task that it froze can still be killed, and stopped by ptrace. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FREEZE_TIMEOUT_MS 5000
#define REMOVE_TIMEOUT_MS 2000
#define PIDS_MAX 32768

const char *const cgroup_kind_names[CGROUP_KINDS] = {"unified", "freezer", "memory", "cpu", "cpuacct", "pids"};

/* ---- where they are */

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ',') && (at[len] == 0 || at[len] == ',' || at[len] == '\n'))
            return true;
    return false;
}

/* Our own group in a hierarchy, from a line "ID:CONTROLLERS:PATH" of /proc/self/cgroup; "" when it has none. */
static void own_group(const char *lines, const char *controller, char *out, size_t size)
{
    out[0] = 0;
    AUTO_FREE char *copy = xstrdup(lines);
    char *save = NULL;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        list++;
        if (controller ? has_word(list, controller) : *list == 0)
            snprintf(out, size, "%s", strcmp(path, "/") == 0 ? "" : path);
    }
}

/* The named group if one is named, else our own as seen through this mount (whose root may lie deeper). */
static char *group_path(const char *mountpoint, const char *root, const char *own, const char *name)
{
    const char *named = getenv("CLUSTEROS_CGROUP"), *base = own;
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (named && *named)
        return xasprintf("%s/%s/%s", mountpoint, named + (*named == '/'), name);
    if (strncmp(own, root, len) == 0 && (own[len] == '/' || own[len] == 0))
        base = own + len;
    else if (len)
        base = "";
    return xasprintf("%s%s/%s", mountpoint, base, name);
}

static void mount_take(char *line, const char *own_lines, const char *name, struct pod_cgroups *out)
{
    char root[PATH_BYTES], mountpoint[PATH_BYTES], own[PATH_BYTES];
    char *dash = strstr(line, " - ");
    if (!dash || sscanf(line, "%*s %*s %*s %4095s %4095s", root, mountpoint) != 2)
        return;
    char type[32], super[1024];
    if (sscanf(dash, " - %31s %*s %1023s", type, super) != 2 || strchr(mountpoint, '\\'))
        return;
    for (int k = 0; k < CGROUP_KINDS; k++) {
        const char *controller = k == CGROUP_UNIFIED ? NULL : cgroup_kind_names[k];
        if (out->dir[k] || (controller ? strcmp(type, "cgroup") || !has_word(super, controller) : strcmp(type, "cgroup2")))
            continue;
        own_group(own_lines, controller, own, sizeof own);
        out->dir[k] = group_path(mountpoint, root, own, name);
    }
}

void cgroups_plan(const char *name, struct pod_cgroups *out)
{
    struct err ignored;
    AUTO_BUF struct buf mounts = {0}, own = {0};
    *out = (struct pod_cgroups){0};
    if (io_slurp(AT_FDCWD, "/proc/self/mountinfo", &mounts, 8u << 20, &ignored) < 0 || io_slurp(AT_FDCWD, "/proc/self/cgroup", &own, 1u << 20, &ignored) < 0)
        return;
    char *save = NULL;
    for (char *line = strtok_r((char *)mounts.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        mount_take(line, (const char *)own.data, name, out);
}

void cgroups_free(struct pod_cgroups *groups)
{
    for (int k = 0; k < CGROUP_KINDS; k++) {
        free(groups->dir[k]);
        groups->dir[k] = NULL;
    }
}

/* ---- making and removing */

static int group_write(const char *dir, const char *file, const char *text, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, file);
    return io_put(AT_FDCWD, path, text, strlen(text), e);
}

static bool group_has(const char *dir, const char *file)
{
    if (!dir)
        return false;
    AUTO_FREE char *path = xasprintf("%s/%s", dir, file);
    return access(path, F_OK) == 0;
}

static uint64_t group_number(const char *dir, const char *file, const char *key)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    if (!dir || io_slurpf(&text, 1u << 16, &ignored, "%s/%s", dir, file) < 0 || !text.data)
        return 0;
    const char *at = key ? strstr((const char *)text.data, key) : (const char *)text.data;
    return at ? strtoull(at + (key ? strlen(key) : 0), NULL, 10) : 0;
}

/* Version 2 gives a group its controllers only through its parent, which must then hold no process itself. */
static void controllers_enable(const char *dir)
{
    struct err ignored;
    static const char *const wanted[] = {"+memory", "+pids", "+cpu"};
    AUTO_FREE char *parent = xstrdup(dir);
    *strrchr(parent, '/') = 0;
    for (size_t k = 0; k < ARRAY_LENGTH(wanted); k++)
        if (group_write(parent, "cgroup.subtree_control", wanted[k], &ignored) < 0)
            continue; /* told by the limit that then cannot be set */
}

static bool limit_set(const struct pod_cgroups *groups, enum cgroup_kind v1, const char *v1_file, const char *v2_file, uint64_t value)
{
    struct err ignored;
    char text[32];
    snprintf(text, sizeof text, "%lu", value);
    if (groups->dir[v1] && group_write(groups->dir[v1], v1_file, text, &ignored) == 0)
        return true;
    return groups->dir[CGROUP_UNIFIED] && group_write(groups->dir[CGROUP_UNIFIED], v2_file, text, &ignored) == 0;
}

void cgroups_make(struct pod_cgroups *groups, uint64_t mem_bytes, struct buf *missing)
{
    struct err why;
    for (int k = 0; k < CGROUP_KINDS; k++) {
        if (groups->dir[k] && io_mkdirs(groups->dir[k], 0755, &why) < 0) {
            free(groups->dir[k]);
            groups->dir[k] = NULL;
        }
    }
    if (groups->dir[CGROUP_UNIFIED])
        controllers_enable(groups->dir[CGROUP_UNIFIED]);
    if (!group_has(groups->dir[CGROUP_UNIFIED], "cgroup.freeze") && !groups->dir[CGROUP_FREEZER])
        buf_addf(missing, "the pod cannot be frozen (no control group with a freezer can be made here); ");
    if (mem_bytes && !limit_set(groups, CGROUP_MEMORY, "memory.limit_in_bytes", "memory.max", mem_bytes))
        buf_addf(missing, "the memory limit does not hold (no control group for memory can be made here); ");
    if (!limit_set(groups, CGROUP_PIDS, "pids.max", "pids.max", PIDS_MAX))
        buf_addf(missing, "the number of processes is not limited; ");
}

int cgroups_attach_rest(const struct pod_cgroups *groups, unsigned done, pid_t pid, struct err *e)
{
    char text[32];
    snprintf(text, sizeof text, "%d", pid);
    for (int k = 0; k < CGROUP_KINDS; k++)
        if (groups->dir[k] && !(done & 1u << k) && group_write(groups->dir[k], "cgroup.procs", text, e) < 0)
            return err_wrap(e, "put process %d into its control group", pid);
    return 0;
}

int cgroups_attach(const struct pod_cgroups *groups, pid_t pid, struct err *e)
{
    return cgroups_attach_rest(groups, 0, pid, e);
}

/* A thread that moves itself holds nobody up (cgroup_procs_write_start); version 2 lets no thread out of its process's group. */
unsigned cgroups_enter(const struct pod_cgroups *groups)
{
    unsigned entered = 0;
    struct err ignored;
    for (int k = 0; k < CGROUP_KINDS; k++)
        if (!groups->dir[k] || (k != CGROUP_UNIFIED && group_write(groups->dir[k], "tasks", "0", &ignored) == 0))
            entered |= 1u << k;
    return entered;
}

pid_t cgroups_fork(const struct pod_cgroups *groups, unsigned *entered)
{
    const char *dir = groups->dir[CGROUP_UNIFIED];
    uint64_t own_tid = 0; /* where libc keeps the number of this thread: the child's is to be right */
    AUTO_CLOSE int group = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (group < 0 || prctl(PR_GET_TID_ADDRESS, &own_tid) < 0 || !own_tid)
        return fork();
    struct clone_args args = {.flags = CLONE_INTO_CGROUP | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, .exit_signal = SIGCHLD,
                              .child_tid = own_tid, .cgroup = (unsigned)group};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0)
        return fork();
    *entered |= 1u << CGROUP_UNIFIED;
    return pid;
}

void cgroups_freezer_leave(const struct pod_cgroups *groups, pid_t pid)
{
    const enum cgroup_kind kinds[] = {CGROUP_UNIFIED, CGROUP_FREEZER};
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++) {
        struct err ignored;
        if (!groups->dir[kinds[k]])
            continue;
        AUTO_FREE char *above = xasprintf("%s/../cgroup.procs", groups->dir[kinds[k]]);
        if (io_putf(&ignored, above, "%d", pid) < 0)
            continue; /* a frozen pod then waits for its memory until it runs again */
    }
}

bool cgroups_members(const struct pod_cgroups *groups, pid_t **out, size_t *count)
{
    struct err ignored;
    AUTO_BUF struct buf pids = {0};
    const char *dir = groups->dir[CGROUP_UNIFIED] ? groups->dir[CGROUP_UNIFIED] : groups->dir[CGROUP_FREEZER];
    if (!dir || io_slurpf(&pids, 8u << 20, &ignored, "%s/cgroup.procs", dir) < 0 || !pids.data)
        return false;
    char *save = NULL;
    for (char *pid = strtok_r((char *)pids.data, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save)) {
        *out = xrealloc(*out, *count + 1, sizeof **out);
        (*out)[(*count)++] = atoi(pid);
    }
    return true;
}

static void group_kill(const char *dir)
{
    struct err ignored;
    AUTO_BUF struct buf pids = {0};
    if (io_slurpf(&pids, 8u << 20, &ignored, "%s/cgroup.procs", dir) < 0 || !pids.data)
        return;
    char *save = NULL;
    for (char *pid = strtok_r((char *)pids.data, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save))
        if (atoi(pid) > 1 && atoi(pid) != getpid())
            kill(atoi(pid), SIGKILL);
}

static int group_remove(const char *dir, struct err *e)
{
    for (int waited_ms = 0;; waited_ms += 5) {
        if (rmdir(dir) == 0 || errno == ENOENT)
            return 0;
        if (errno != EBUSY || waited_ms >= REMOVE_TIMEOUT_MS)
            return err_errno(e, "remove the control group %s", dir);
        group_kill(dir);
        poll(NULL, 0, 5);
    }
}

int cgroups_remove(const struct pod_cgroups *groups, struct err *e)
{
    int result = 0;
    struct err ignored;
    if (cgroups_thaw(groups, &ignored) < 0)
        result = 0; /* the version 1 freezer holds back even SIGKILL; if there is none, there is nothing to thaw */
    for (int k = 0; k < CGROUP_KINDS; k++)
        if (groups->dir[k] && group_remove(groups->dir[k], e) < 0)
            result = -1;
    return result;
}

void cgroups_usage(const struct pod_cgroups *groups, struct cgroup_usage *out)
{
    *out = (struct cgroup_usage){0};
    const char *unified = groups->dir[CGROUP_UNIFIED];
    out->mem_bytes = group_number(groups->dir[CGROUP_MEMORY], "memory.usage_in_bytes", NULL);
    if (!groups->dir[CGROUP_MEMORY])
        out->mem_bytes = group_number(unified, "memory.current", NULL);
    out->cpu_ns = group_number(groups->dir[CGROUP_CPUACCT], "cpuacct.usage", NULL);
    if (!groups->dir[CGROUP_CPUACCT])
        out->cpu_ns = group_number(unified, "cpu.stat", "usage_usec ") * 1000;
}

/* ---- the freezer */

static bool v2_frozen(const char *dir)
{
    return group_number(dir, "cgroup.events", "frozen ") == 1;
}

static int v2_set(const char *dir, bool frozen, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/cgroup.events", dir);
    AUTO_CLOSE int events = open(path, O_RDONLY | O_CLOEXEC);
    if (events < 0 || group_write(dir, "cgroup.freeze", frozen ? "1" : "0", e) < 0)
        return events < 0 ? err_errno(e, "open %s", path) : -1;
    for (int waited_ms = 0; v2_frozen(dir) != frozen; waited_ms += 10) {
        if (waited_ms >= FREEZE_TIMEOUT_MS)
            return err_set(e, E_BUSY, "the pod did not %s within %d ms", frozen ? "freeze" : "thaw", FREEZE_TIMEOUT_MS);
        char drop[256];
        if (pread(events, drop, sizeof drop, 0) < 0)
            return err_errno(e, "read %s", path);
        struct pollfd changed = {.fd = events, .events = POLLPRI};
        if (v2_frozen(dir) != frozen)
            poll(&changed, 1, 10);
    }
    return 0;
}

static bool v1_is(const char *dir, const char *state)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    return dir && io_slurpf(&text, 4096, &ignored, "%s/freezer.state", dir) == 0 && text.data && strncmp((char *)text.data, state, strlen(state)) == 0;
}

static int v1_set(const char *dir, bool frozen, struct err *e)
{
    const char *wanted = frozen ? "FROZEN" : "THAWED";
    for (int waited_ms = 0;; waited_ms++) {
        if (group_write(dir, "freezer.state", wanted, e) < 0)
            return -1;
        if (v1_is(dir, wanted))
            return 0;
        if (waited_ms >= FREEZE_TIMEOUT_MS)
            return err_set(e, E_BUSY, "the pod did not %s within %d ms", frozen ? "freeze" : "thaw", FREEZE_TIMEOUT_MS);
        poll(NULL, 0, 1);
    }
}

static int freezer_set(const struct pod_cgroups *groups, bool frozen, struct err *e)
{
    if (group_has(groups->dir[CGROUP_UNIFIED], "cgroup.freeze"))
        return v2_set(groups->dir[CGROUP_UNIFIED], frozen, e);
    if (groups->dir[CGROUP_FREEZER])
        return v1_set(groups->dir[CGROUP_FREEZER], frozen, e);
    return err_set(e, E_UNSUPPORTED, "the pod has no control group with a freezer (native doctor tells more)");
}

int cgroups_freeze(const struct pod_cgroups *groups, struct err *e)
{
    struct err ignored;
    if (freezer_set(groups, true, e) == 0)
        return 0;
    if (freezer_set(groups, false, &ignored) < 0) /* half frozen is worse than not frozen */
        return -1;
    return -1;
}

int cgroups_thaw(const struct pod_cgroups *groups, struct err *e)
{
    return freezer_set(groups, false, e);
}

bool cgroups_frozen(const struct pod_cgroups *groups)
{
    if (group_has(groups->dir[CGROUP_UNIFIED], "cgroup.freeze"))
        return v2_frozen(groups->dir[CGROUP_UNIFIED]);
    return v1_is(groups->dir[CGROUP_FREEZER], "FROZEN");
}
