/* See undo.h. Order: sockets leave repair mode, the network is opened, and only then the job may run; injected code is taken out of it
 * while it runs (it is harmless there). */
#include "undo.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../kernel/procfs.h"
#include "../kernel/uffd.h"
#include "../pod/state.h"
#include "files_undo.h"
#include "nets_lock.h"
#include "sleep_save.h"
#include "stop.h"

struct place {
    uint64_t tail, tail_len, scratch;
};

static bool is_alive_since(pid_t pid, uint64_t start)
{
    return start && process_start(pid) == start;
}

static void place_find(char **lines, size_t count, pid_t pid, uint64_t start, struct place *out)
{
    for (size_t k = 0; k < count; k++) {
        int p;
        uint64_t since, address, len;
        if (sscanf(lines[k], "tail %d %lu %lx %lu", &p, &since, &address, &len) == 4 && p == pid && since == start)
            out->tail = address, out->tail_len = len;
        if (sscanf(lines[k], "scratch %d %lu %lx %lu", &p, &since, &address, &len) == 4 && p == pid && since == start)
            out->scratch = address;
    }
}

static bool has_line_of(char **lines, size_t count, const char *word, pid_t pid)
{
    AUTO_FREE char *begin = xasprintf("%s %d ", word, pid);
    for (size_t k = 0; k < count; k++)
        if (strncmp(lines[k], begin, strlen(begin)) == 0)
            return true;
    return false;
}

/* Helpers of cow.c are dead by now; nobody but their parent can reap them. The job's own children tell their parent by a signal. */
static int helpers_reap(struct victim *v, struct err *e)
{
    PID_LIST struct pid_list children = {0};
    if (proc_tree(v->pid, &children, e) < 0)
        return -1;
    for (size_t k = 0; k < children.count; k++) {
        PROC_STATUS struct proc_status s = {0};
        struct proc_stat stat;
        struct err gone;
        int64_t ret;
        if (proc_status_read(children.items[k], children.items[k], &s, &gone) < 0 || s.ppid != v->leader || s.state != 'Z' ||
            proc_stat_read(children.items[k], children.items[k], &stat, &gone) < 0 || stat.exit_signal != 0)
            continue;
        if (remote_one(v, 0, &ret, SYS_wait4, (uint64_t)s.inner_pid, 0, __WALL | WNOHANG, 0, 0, 0, e) < 0)
            return -1;
    }
    return 0;
}

static int victim_undo(char **lines, size_t count, struct victim *v, const struct place *place, struct err *e)
{
    if (remote_undo(v, place->tail, place->tail_len, place->scratch, e) < 0)
        return -1;
    if (has_line_of(lines, count, "uffd", v->pid) && uffd_undo(v, e) < 0)
        return -1;
    if (has_line_of(lines, count, "cow", v->pid) && helpers_reap(v, e) < 0)
        return -1;
    return remote_close(v, e);
}

/* A process of the job may end meanwhile: then there is nothing left to undo in it. */
static int injection_undo(char **lines, size_t count, pid_t pid, uint64_t start, struct err *e)
{
    struct place place = {0};
    struct victim v = {.pidfd = -1, .memfd = -1};
    place_find(lines, count, pid, start, &place);
    if (!is_alive_since(pid, start) || !place.tail)
        return 0;
    int gone = victim_stop(pid, &v, e);
    int result = gone ? gone : victim_undo(lines, count, &v, &place, e);
    struct err other;
    if (victim_release(&v, &other) < 0 && result == 0) {
        *e = other;
        result = -1;
    }
    if (result < 0 && !is_alive_since(pid, start))
        result = 0;
    return result < 0 ? err_wrap(e, "process %d", pid) : 0;
}

static int injections_undo(char **lines, size_t count, struct err *e)
{
    for (size_t k = 0; k < count; k++) {
        int pid;
        uint64_t start;
        if (sscanf(lines[k], "tail %d %lu", &pid, &start) == 2 && injection_undo(lines, count, pid, start, e) < 0)
            return -1;
    }
    return 0;
}

static bool has_line(char **lines, size_t count, const char *word)
{
    for (size_t k = 0; k < count; k++)
        if (strcmp(lines[k], word) == 0)
            return true;
    return false;
}

int undo_lines(const struct pod *pod, char **lines, size_t count, struct err *e)
{
    if (!pod_init_alive(pod))
        return 0;
    if (mqueues_undo(pod, e) < 0)
        return -1;
    files_undo(pod, lines, count);
    if (has_line(lines, count, "lock") && (netlock_clear(pod, e) < 0 || nets_open(pod, e) < 0))
        return -1;
    if ((has_line(lines, count, "freeze") || pod_is_frozen(pod)) && pod_thaw(pod, e) < 0) /* a freeze may be under way yet */
        return -1;
    netlock_rest();
    if (injections_undo(lines, count, e) < 0 || sleepers_settle(pod, e) < 0)
        return -1;
    return pod_wants_frozen(pod) ? pod_freeze(pod, e) : 0;
}

int undo_without_lines(const struct pod *pod, struct err *e)
{
    return pod_init_alive(pod) ? sleepers_settle(pod, e) : 0;
}
