/* See namespaces.h. */
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static enum { UNKNOWN, NO, YES } overflow_named; /* in the user namespace that this process is in now */

struct spawn_report {
    pid_t pid;
    unsigned groups;
    struct err error;
};

static int64_t floor_seconds(int64_t ns)
{
    return ns >= 0 ? ns / 1000000000 : -((-ns + 999999999) / 1000000000);
}

static int offsets_write(const struct namespaces_new *spec, struct err *e)
{
    int64_t mono = floor_seconds(spec->monotonic_offset_ns), boot = floor_seconds(spec->boottime_offset_ns);
    return io_putf(e, "/proc/self/timens_offsets", "monotonic %ld %ld\nboottime %ld %ld\n", mono,
                   spec->monotonic_offset_ns - mono * 1000000000, boot, spec->boottime_offset_ns - boot * 1000000000);
}

static bool map_has(const char *path, uint64_t id)
{
    struct err ignored;
    AUTO_BUF struct buf map = {0};
    if (io_slurp(AT_FDCWD, path, &map, 1u << 16, &ignored) < 0 || !map.data)
        return true;
    char *save = NULL;
    unsigned long inside, outside, count;
    for (char *line = strtok_r((char *)map.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3 && id >= inside && id - inside < count)
            return true;
    return false;
}

bool ids_are_mapped(uint64_t uid, uint64_t gid)
{
    return map_has("/proc/self/uid_map", uid) && map_has("/proc/self/gid_map", gid);
}

/* One user may name one user and one group, if groups cannot be changed any more. */
static int maps_write(const struct namespaces_new *spec, uid_t uid, gid_t gid, struct err *e)
{
    if (io_putf(e, "/proc/self/setgroups", "deny") < 0 || io_putf(e, "/proc/self/uid_map", "%lu %u 1", spec->uid, uid) < 0)
        return -1;
    return io_putf(e, "/proc/self/gid_map", "%lu %u 1", spec->gid, gid);
}

static int helper_run(const struct namespaces_new *spec, int (*child)(void *ctx), void *ctx, int report_fd, struct spawn_report *report)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    report->groups = cgroups_enter(spec->groups);
    if (unshare(spec->flags) < 0)
        return err_errno(&report->error, "make new namespaces");
    if ((spec->flags & CLONE_NEWUSER) && maps_write(spec, uid, gid, &report->error) < 0)
        return err_wrap(&report->error, "name the pod's user");
    if ((spec->flags & CLONE_NEWTIME) && offsets_write(spec, &report->error) < 0)
        return err_wrap(&report->error, "set the pod's clocks");
    report->pid = cgroups_fork(spec->groups, &report->groups);
    if (report->pid == 0) {
        close(report_fd);
        _exit(child(ctx));
    }
    return report->pid < 0 ? err_errno(&report->error, "start the first process of the pod") : 0;
}

int namespaces_spawn(const struct namespaces_new *spec, int (*child)(void *ctx), void *ctx, pid_t *pid, unsigned *groups, struct err *e)
{
    int ends[2];
    struct spawn_report report = {0};
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t helper = fork();
    if (helper == 0) {
        close(ends[0]);
        int failed = helper_run(spec, child, ctx, ends[1], &report);
        struct err ignored;
        _exit(io_write_all(ends[1], &report, sizeof report, &ignored) < 0 || failed);
    }
    close(ends[1]);
    AUTO_CLOSE int from = ends[0];
    if (helper < 0)
        return err_errno(e, "fork");
    int told = io_read_all(from, &report, sizeof report, e);
    while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (told < 0)
        return err_wrap(e, "the helper that makes namespaces died");
    if (report.error.code != E_OK) {
        *e = report.error;
        return -1;
    }
    *pid = report.pid;
    *groups = report.groups;
    return 0;
}

bool has_own_user_namespace(pid_t pid)
{
    char path[64];
    struct stat own, other;
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    return stat("/proc/self/ns/user", &own) == 0 && stat(path, &other) == 0 && own.st_ino != other.st_ino;
}

int namespaces_join_user(pid_t pid, struct err *e)
{
    if (!has_own_user_namespace(pid))
        return 0;
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || setns(pidfd, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) < 0)
        return err_errno(e, "enter the user namespace of %d", pid);
    overflow_named = UNKNOWN;
    return 0;
}

bool groups_are_settable(pid_t pid)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    return io_slurpf(&text, 64, &ignored, "/proc/%d/setgroups", pid) < 0 || !text.data || strncmp((char *)text.data, "deny", 4) != 0;
}

void groups_drop_nameless(struct buf *groups)
{
    const uint32_t overflow = 65534;
    size_t kept = 0;
    if (overflow_named == UNKNOWN)
        overflow_named = map_has("/proc/self/gid_map", overflow) ? YES : NO;
    if (overflow_named == YES)
        return;
    for (size_t at = 0; at + sizeof overflow <= groups->len; at += sizeof overflow) {
        if (memcmp(groups->data + at, &overflow, sizeof overflow) == 0)
            continue;
        memmove(groups->data + kept, groups->data + at, sizeof overflow);
        kept += sizeof overflow;
    }
    groups->len = kept;
}

int namespaces_join(pid_t pid, struct err *e)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return err_errno(e, "pidfd of %d", pid);
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWTIME;
    if (has_own_user_namespace(pid)) /* joining one's own is an error */
        flags |= CLONE_NEWUSER;
    if (setns(pidfd, flags) < 0)
        return err_errno(e, "enter the namespaces of %d", pid);
    overflow_named = UNKNOWN;
    return 0;
}

pid_t inside_pid(pid_t pid)
{
    struct err ignored;
    AUTO_BUF struct buf status = {0};
    if (io_slurpf(&status, 1u << 16, &ignored, "/proc/%d/status", pid) < 0 || !status.data)
        return 0;
    char *line = strstr((char *)status.data, "\nNSpid:");
    if (!line)
        return 0;
    line[1 + strcspn(line + 1, "\n")] = 0;
    const char *last = strrchr(line, '\t');
    return last ? atoi(last + 1) : 0;
}
