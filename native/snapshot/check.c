/* See check.h. Descriptors are looked at by files_check, mappings again in vma_save (their flags need the pause). */
#include "check.h"
#include "files_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../kernel/filters.h"
#include "../kernel/namespaces.h"
#include "../kernel/netlock_hub.h"
#include "../kernel/procfs.h"
#include "seccomp_save.h"
#include "spaces.h"
#include "sysv_save.h"
#include "vfork.h"

void refuse(struct refusals *r, uint64_t pid, int64_t fd, uint64_t address, const char *format, ...)
{
    r->items = xrealloc(r->items, r->count + 1, sizeof *r->items);
    struct refusal *item = &r->items[r->count++];
    *item = (struct refusal){.pid = pid, .fd = fd, .address = address};
    va_list args;
    va_start(args, format);
    vsnprintf(item->words, sizeof item->words, format, args);
    va_end(args);
}

void refusals_free(struct refusals *r)
{
    free(r->items);
    *r = (struct refusals){0};
}

/* All others: spaces.h. */
static const char *const namespace_names[] = {"pid", "pid_for_children", "time", "time_for_children"};

struct namespace_known {
    pid_t of;
    char words[64];
};

static void namespace_look(const struct pod *pod, size_t which, struct namespace_known *out)
{
    AUTO_FREE char *name = xasprintf("ns/%s", namespace_names[which]), *link = NULL;
    struct err gone;
    if (out->of == pod->init_pid || proc_link(pod->init_pid, name, &link, &gone) < 0)
        return;
    snprintf(out->words, sizeof out->words, "%s", link);
    out->of = pod->init_pid;
}

/* The pod's, which do not change: read once. */
static const char *namespace_of_pod(const struct pod *pod, size_t which)
{
    static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;
    static struct namespace_known known[ARRAY_LENGTH(namespace_names)];
    pthread_mutex_lock(&one_by_one);
    namespace_look(pod, which, &known[which]);
    bool there = known[which].of == pod->init_pid;
    pthread_mutex_unlock(&one_by_one);
    return there ? known[which].words : NULL;
}

static void namespaces_check(const struct pod *pod, pid_t pid, uint64_t inner, struct refusals *out)
{
    for (size_t k = 0; k < ARRAY_LENGTH(namespace_names); k++) {
        AUTO_FREE char *name = xasprintf("ns/%s", namespace_names[k]), *own = NULL;
        const char *pods = namespace_of_pod(pod, k);
        struct err gone;
        if (pods && proc_link(pid, name, &own, &gone) == 0 && strcmp(own, pods) != 0)
            refuse(out, inner, -1, 0, "it made a namespace of its own (%s)", namespace_names[k]);
    }
}

static void sharing_check(pid_t pid, pid_t other, uint64_t inner, struct refusals *out)
{
    static const struct {
        int what;
        const char *words;
    } table[] = {{KCMP_VM, "it shares its memory with its parent process (CLONE_VM)"},
                 {KCMP_FILES, "it shares its table of descriptors with another process"},
                 {KCMP_FS, "it shares its working directory with another process (CLONE_FS)"},
                 {KCMP_SIGHAND, "it shares its signal handlers with another process"}};
    if (syscall(SYS_kcmp, pid, other, KCMP_VM, 0, 0) == 0 && vfork_waits(other))
        return; /* passes by itself: stop.c waits it out */
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (syscall(SYS_kcmp, pid, other, table[k].what, 0, 0) == 0)
            refuse(out, inner, -1, 0, "%s", table[k].words);
}

static void thread_check(pid_t pid, pid_t tid, uint64_t inner, struct refusals *out)
{
    if (syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) > 0)
        refuse(out, inner, -1, 0, "one of its threads has descriptors of its own");
}

/* pid: a living thread. */
static void threads_check(pid_t leader, pid_t pid, uint64_t inner, struct refusals *out)
{
    PID_LIST struct pid_list tids = {0};
    struct err gone;
    if (proc_threads(pid, &tids, &gone) < 0)
        return;
    for (size_t k = 1; k < tids.count; k++)
        if (tids.items[k] != leader)
            thread_check(pid, tids.items[k], inner, out);
}

static void maps_check(pid_t pid, uint64_t inner, struct refusals *out)
{
    static const char *const words[][2] = {
        {"anon_inode:", "memory of an unusual kind"}, {"/[aio]", "asynchronous I/O (AIO)"},
        {"[uprobes]", "probes"}, {"/secretmem", "secret memory"},
    };
    PROC_MAPS struct proc_maps maps = {0};
    struct err gone;
    if (proc_maps_read(pid, false, &maps, &gone) < 0)
        return;
    for (size_t k = 0; k < maps.count; k++) {
        const struct proc_map *m = &maps.items[k];
        for (size_t w = 0; w < ARRAY_LENGTH(words); w++)
            if (strncmp(m->path, words[w][0], strlen(words[w][0])) == 0)
                refuse(out, inner, -1, m->start, "%s (%s)", words[w][1], m->path);
        if (strncmp(m->path, "/dev/", 5) == 0 && strcmp(m->path, "/dev/zero") != 0 && strncmp(m->path, "/dev/shm/", 9) != 0)
            refuse(out, inner, -1, m->start, "memory of the device %s", m->path);
    }
}

/* A process that said so (PR_SET_DUMPABLE) belongs to root as far as /proc goes. */
static bool is_readable(pid_t pid)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/mem", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 || (errno != EACCES && errno != EPERM);
}

/* In a user namespace of its own a process may hold every capability: they reach no further. */
static void rights_check(const struct pod *pod, const struct seen_member *member, struct proc_status *s, uint64_t inner, struct refusals *out)
{
    if (s->seccomp == 1)
        refuse(out, inner, -1, 0, "it is in the strict mode of seccomp");
    else if (s->seccomp_filters > filters_of_pod(pod) && !filters_are_readable())
        refuse(out, inner, -1, 0, "it has seccomp filters of its own, which only root can read");
    for (size_t k = 0; k < 4; k++)
        if (s->uid[k] != pod->facts.uid || s->gid[k] != pod->facts.gid) {
            refuse(out, inner, -1, 0, "it runs as another user or group than the pod");
            break;
        }
    if (!(member && member->user) && (s->cap_inheritable | s->cap_permitted | s->cap_effective | s->cap_bounding | s->cap_ambient))
        refuse(out, inner, -1, 0, "it holds capabilities");
    groups_drop_nameless(&s->groups);
    if (s->groups.len > sizeof(uint32_t))
        refuse(out, inner, -1, 0, "it is in more groups than the pod");
}

static void kinship_check(const struct pod *pod, const struct spaces *spaces, pid_t pid, struct proc_status *s, struct refusals *out)
{
    uint64_t inner = (uint64_t)s->inner_pid;
    namespaces_check(pod, pid, inner, out); /* first: in its own it has every right */
    rights_check(pod, spaces_member(spaces, pid), s, inner, out);
    sharing_check(pid, s->ppid, inner, out);
}

int stopped_check(const struct snapshot *s, struct victim *v, struct err *e)
{
    struct refusals r = {0};
    kinship_check(s->pod, s->spaces, v->pid, &v->threads[0].status, &r);
    for (size_t k = 1; k < v->thread_count; k++)
        thread_check(v->pid, v->threads[k].tid, (uint64_t)v->inner_pid, &r);
    if (r.count)
        err_set(e, E_UNSUPPORTED, "process %lu: %s", r.items[0].pid, r.items[0].words);
    int result = r.count ? -1 : 0;
    refusals_free(&r);
    return result;
}

/* A guess, by its number; whose it really is shows in the pause (pty_save.c). */
static bool is_pods_terminal(const struct pod *pod, uint64_t device)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("/proc/%d/root/dev/pts/%u", pod->init_pid, (major(device) - 136u) * 256u + minor(device));
    return stat(path, &st) == 0 && st.st_rdev == device;
}

/* The engine itself, at work on the pod at this moment: no obstacle, or a check beside a snapshot would forbid the next one. */
static bool is_engine(pid_t pid)
{
    struct stat own, its;
    AUTO_FREE char *path = xasprintf("/proc/%d/exe", pid);
    return stat("/proc/self/exe", &own) == 0 && stat(path, &its) == 0 && own.st_dev == its.st_dev && own.st_ino == its.st_ino;
}

static void process_check(const struct pod *pod, const struct spaces *spaces, pid_t pid, struct refusals *out)
{
    PROC_STATUS struct proc_status s = {0};
    struct proc_stat stat;
    struct err gone;
    if (proc_status_read(pid, pid, &s, &gone) < 0 || proc_stat_read(pid, pid, &stat, &gone) < 0 || s.state == 'Z' || s.state == 'X')
        return;
    uint64_t inner = s.tgid == pid ? (uint64_t)s.inner_pid : pid_inside(s.tgid);
    if (s.tracer && !is_engine(s.tracer))
        refuse(out, inner, -1, 0, "it is traced by a debugger");
    if (!is_readable(pid))
        refuse(out, inner, -1, 0, "it has made itself unreadable (PR_SET_DUMPABLE), and only root may read it then");
    const struct seen_member *member = spaces_member(spaces, pid);
    if (stat.tty && !(member && member->mounts) && !is_pods_terminal(pod, stat.tty))
        refuse(out, inner, -1, 0, "its controlling terminal is gone or outside of the pod");
    kinship_check(pod, spaces, pid, &s, out);
    threads_check(s.tgid, pid, inner, out);
    maps_check(pid, inner, out);
}

static int pod_check(const struct pod *pod, struct spaces *spaces, pid_t *pids, size_t count, struct refusals *out, struct err *e)
{
    for (size_t k = 0; k < count; k++)
        pids[k] = proc_living(pids[k]);
    spaces_look(pod, pids, count, spaces, out);
    for (size_t k = 0; k < count; k++)
        process_check(pod, spaces, pids[k], out);
    return ipc_check(pod, spaces, pids, count, out, e) < 0 ? -1 : files_check(pod, spaces, pids, count, out, e);
}

int snapshot_check(const struct pod *pod, struct refusals *out, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    size_t count;
    if (has_own_user_namespace(pod->init_pid) && netlock_leave_child(pod, e) < 0)
        return -1;
    if (namespaces_join_user(pod->init_pid, e) < 0 || pod_pids(pod, &pids, &count, e) < 0)
        return -1;
    struct spaces spaces = {0};
    int result = pod_check(pod, &spaces, pids, count, out, e);
    spaces_free(&spaces);
    return result;
}
