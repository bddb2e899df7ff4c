/* The readers of what the kernel says: /proc texts and sock_diag messages. Names of files, of processes and of sockets in them are the job's choice.
 * The engine is linked with --wrap for its ways to read (LDFLAGS of the Makefile and of run.sh): while a target runs, every text that it
 * asks for, and every answer of a netlink socket, is the input. Nothing is mounted or made meanwhile. */
#pragma once
#include <errno.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/mounts.h"
#include "kernel/netattr.h"
#include "kernel/procfs.h"
#include "kernel/sockdiag.h"
#include "pod/command.h"
#include "pod/state.h"
#include "snapshot/files_save.h"
#include "snapshot/lease_save.h"
#include "snapshot/save.h"
#include "snapshot/sleep_save.h"
#include "snapshot/spaces.h"
#include "snapshot/vfork.h"

static const uint8_t *fuzz_text;
static size_t fuzz_text_len, fuzz_answers;
static bool fuzz_ends; /* there is no second answer */

int __real_io_slurp(int dirfd, const char *path, struct buf *out, size_t max, struct err *e);
int __wrap_io_slurp(int dirfd, const char *path, struct buf *out, size_t max, struct err *e);
int __wrap_io_slurpf(struct buf *out, size_t max, struct err *e, const char *format, ...) PRINTF(4, 5);
int __real_io_mkdirs(const char *path, mode_t mode, struct err *e);
int __wrap_io_mkdirs(const char *path, mode_t mode, struct err *e);
int __real_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int __wrap_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
ssize_t __real_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);

int __wrap_io_slurp(int dirfd, const char *path, struct buf *out, size_t max, struct err *e)
{
    if (!fuzz_text)
        return __real_io_slurp(dirfd, path, out, max, e);
    if (fuzz_text_len > max)
        return err_set(e, E_IO, "%s is too long", path);
    buf_add(out, fuzz_text, fuzz_text_len);
    buf_add(out, "", 1);
    out->len--;
    return 0;
}

int __wrap_io_slurpf(struct buf *out, size_t max, struct err *e, const char *format, ...)
{
    char path[PATH_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    return __wrap_io_slurp(AT_FDCWD, path, out, max, e);
}

int __wrap_io_mkdirs(const char *path, mode_t mode, struct err *e)
{
    return fuzz_text ? err_set(e, E_DENIED, "nothing is made: %s", path) : __real_io_mkdirs(path, mode, e);
}

int __wrap_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
    CHECK(!fuzz_text); /* a target that gets here would change this machine */
    return __real_mount(source, target, type, flags, data);
}

/* The input once for each list that is asked for, then the end of that list. */
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
    static const struct nlmsghdr end = {.nlmsg_len = sizeof end, .nlmsg_type = NLMSG_DONE};
    if (!fuzz_text)
        return __real_recv(fd, data, len, flags);
    bool first = fuzz_answers++ % 2 == 0;
    if (!first && fuzz_ends) {
        errno = EAGAIN;
        return -1;
    }
    size_t n = first ? fuzz_text_len : sizeof end;
    if (n > len)
        n = len;
    memcpy(data, first ? (const void *)fuzz_text : &end, n);
    return (ssize_t)n;
}

static inline void fuzz_begin(const uint8_t *data, size_t len)
{
    fuzz_text = data;
    fuzz_text_len = len;
    fuzz_answers = 0;
}

static inline void fuzz_done(int result, const struct err *e)
{
    fuzz_text = NULL;
    CHECK(result >= 0 || e->message[0]);
}

/* ---- processes */
static inline void fuzz_status(const uint8_t *data, size_t len)
{
    PROC_STATUS struct proc_status s = {0};
    struct err e = {0};
    fuzz_begin(data, len);
    fuzz_done(proc_status_read(1, 1, &s, &e), &e);
    CHECK(s.groups.len % sizeof(uint32_t) == 0);
}

static inline void fuzz_stat(const uint8_t *data, size_t len)
{
    struct proc_stat s = {0};
    struct err e = {0};
    fuzz_begin(data, len);
    fuzz_done(proc_stat_read(1, 1, &s, &e), &e);
    CHECK(strnlen(s.comm, sizeof s.comm) < sizeof s.comm);
}

static inline void fuzz_maps(const uint8_t *data, size_t len)
{
    for (int flags = 0; flags < 2; flags++) {
        PROC_MAPS struct proc_maps maps = {0};
        struct err e = {0};
        fuzz_begin(data, len);
        fuzz_done(proc_maps_read(1, flags, &maps, &e), &e);
        for (size_t k = 0; k < maps.count; k++)
            CHECK(maps.items[k].path && strlen(maps.items[k].path) <= len);
    }
}

static inline void fuzz_children(const uint8_t *data, size_t len)
{
    PID_LIST struct pid_list pids = {0};
    struct err e = {0};
    fuzz_begin(data, len);
    int result = proc_tree(getpid(), &pids, &e);
    (void)vfork_waits(getpid());
    (void)pid_inside(getpid());
    fuzz_done(result, &e);
    CHECK(pids.count <= len + 1);
}

static inline void fuzz_timers(const uint8_t *data, size_t len)
{
    struct victim victim = {.pid = getpid(), .inner_pid = 1};
    struct task task = {0};
    struct err e = {0};
    fuzz_begin(data, len);
    fuzz_done(timers_look(&victim, &task, &e), &e);
    CHECK(task.posix_timers_count <= len / strlen("ID:0") + 1);
    for (size_t k = 0; k < task.posix_timers_count; k++)
        CHECK(task.posix_timers[k].notify < 8);
    free(task.posix_timers);
}

/* What an earlier snapshot has noted of waits, and where a thread waits now. */
static inline void fuzz_sleepers(const uint8_t *data, size_t len)
{
    struct pod pod = {.dirfd = -1};
    AUTO_BUF struct buf kept = {0};
    double number;
    fuzz_begin(data, len);
    sleepers_kept(&pod, &kept);
    (void)sleepers_known((const char *)kept.data, 1, 1);
    (void)sleeper_number(1, 1, "sched", "se.exec_start", &number);
    fuzz_text = NULL;
}

/* ---- what is remembered of a pod, and what COMMAND is given */
static inline void fuzz_state(const uint8_t *data, size_t len)
{
    struct pod pod;
    struct err e = {0};
    fuzz_begin(data, len);
    int result = pod_state_load("/", &pod, &e);
    fuzz_done(result, &e);
    if (result == 0)
        pod_close(&pod);
}

static inline void fuzz_environment(const uint8_t *data, size_t len)
{
    char **list = NULL;
    struct err e = {0};
    fuzz_begin(data, len);
    int result = environment_read("/nowhere", &list, &e);
    fuzz_done(result, &e);
    for (size_t k = 0; result == 0 && list[k]; k++)
        CHECK(strchr(list[k], '='));
    if (result == 0)
        free(list[0]);
    free(list);
}

/* ---- mounts and control groups */
static inline void fuzz_mounts(const uint8_t *data, size_t len)
{
    struct pod_cgroups groups;
    struct err e = {0};
    fuzz_begin(data, len);
    (void)!mount_host_parts("/nonexistent", &e);
    cgroups_plan("pod", &groups);
    fuzz_done(0, &e);
    cgroups_free(&groups);
}

/* What the pod's mounts are called is the job's choice where it may mount. */
static inline void fuzz_view(const uint8_t *data, size_t len)
{
    struct pod pod = {.dirfd = -1, .init_pid = getpid(), .tree_fds = {-1, -1, -1}};
    struct view view;
    struct err e = {0};
    fuzz_begin(data, len);
    int result = view_open(&pod, NULL, &view, &e);
    fuzz_done(result, &e);
    if (result < 0)
        return;
    CHECK(view.mounts_count <= len);
    view_close(&view);
}

/* A message of rtnetlink, of the type that the first byte tells: what is kept of it stays as it is when it is looked at again. */
static inline void fuzz_netattr(const uint8_t *data, size_t len)
{
    static const uint16_t types[] = {16 /* RTM_NEWLINK */, 20, 24, 28, 32, 0xa00 /* NFT_MSG_NEWTABLE */, 0xa03, 0xa12, 0xa09, 0xa0c, 0xa06};
    AUTO_BUF struct buf kept = {0}, again = {0}, compared = {0};
    struct err e = {0};
    struct net_message m = {.type = types[len ? data[0] % ARRAY_LENGTH(types) : 0]};
    AUTO_FREE uint8_t *body = xcalloc(1, len + 1);
    memcpy(body, data + (len > 0), len - (len > 0));
    m.body = (struct bytes){body, len - (len > 0)};
    (void)!netattr_validate(&m, &e);
    if (netattr_filter((uint16_t)m.type, m.body.data, m.body.len, &kept, &compared, &e) < 0)
        return;
    CHECK(netattr_filter((uint16_t)m.type, kept.data, kept.len, &again, &compared, &e) == 0);
    CHECK(kept.len == again.len && memcmp(kept.data, again.data, kept.len) == 0);
}

/* A mount namespace of the job, told by the first half; the pod's by all. */
static inline void fuzz_spaces(const uint8_t *data, size_t len)
{
    AUTO_FREE char *whole = strndup((const char *)data, len), *half = strndup((const char *)data, len / 2);
    struct spaces s = {.pod_root = -1};
    struct seen_mounts m = {.visitor = {.channel = -1, .root = -1}};
    struct err e = {0};
    if (mount_table_parse(whole, &s.pod_mounts, &e) == 0 && mount_table_parse(half, &m.table, &e) == 0) {
        mounts_plan(&s, &m);
        CHECK(m.trouble[0] || m.image.mounts_count == m.table.count);
        for (size_t k = 0; k < m.image.mounts_count; k++)
            CHECK(m.image.mounts[k].parent <= k);
    } else {
        CHECK(e.code && e.message[0]);
    }
    mount_table_free(&s.pod_mounts);
    mount_table_free(&m.table);
    mount_space_free(&m.image);
    free(m.order);
    free(m.device);
}

/* ---- sockets */
static inline void fuzz_diag(const uint8_t *data, size_t len)
{
    struct diag d;
    struct err e = {0};
    uint64_t aligned[(len + 7) / 8 + 1]; /* as the kernel's answers are */
    memcpy(aligned, data, len);
    fuzz_begin((const uint8_t *)aligned, len);
    int result = diag_read(getpid(), &d, &e);
    fuzz_done(result, &e);
    if (result < 0)
        return;
    for (size_t k = 0; k < d.unixes_count; k++)
        CHECK(d.unixes[k].name_len <= sizeof d.unixes[k].name && diag_find_unix(&d, d.unixes[k].ino));
    for (size_t k = 0; k < d.inets_count; k++)
        CHECK(diag_find_inet(&d, d.inets[k].ino));
    diag_free(&d);
}

/* ---- descriptors: the text of fdinfo, read by whoever saves that kind */
static inline void fuzz_saver(struct saving *v, struct source *src, int (*save)(struct saving *v, struct source *src, struct err *e))
{
    struct err e = {0};
    struct file file = {.id = 1};
    src->file = &file;
    if (save(v, src, &e) < 0)
        CHECK(e.code && e.message[0]);
}

static inline void fuzz_fdinfo(const uint8_t *data, size_t len)
{
    static int (*const savers[])(struct saving *, struct source *, struct err *) = {epoll_save, eventfd_save, inotify_save, signalfd_save, timerfd_save};
    struct victim victim = {.pid = getpid(), .inner_pid = 1};
    struct snapshot s = {.victims = &victim, .victim_count = 1};
    struct err e = {0};
    int fd = fuzz_file(data, 0);
    struct file file = {.id = 1};
    struct source src = {.number = fd, .fd = fd, .kind = FILE_REGULAR, .file = &file};
    struct slot slot = {.number = fd};
    struct pod nowhere = {.dirfd = -1, .tree_fds = {-1, -1, -1}};
    struct saving v = {.s = &s, .view = {.pod = &nowhere, .root = -1, .upper = -1}, .slots = &slot, .slots_count = 1, .sources = &src, .sources_count = 1};
    fuzz_begin(data, len);
    int result = facts_read(getpid(), fd, &src.facts, &e);
    if (result == 0) {
        slot.facts = src.facts;
        if (locks_save(&v, &e) < 0 || leases_look(&v, &e) < 0)
            CHECK(e.message[0]);
        leases_free(&s);
        for (size_t k = 0; k < ARRAY_LENGTH(savers); k++)
            fuzz_saver(&v, &src, savers[k]);
    }
    fuzz_done(result, &e);
    facts_free(&src.facts);
    image_free(&s.image);
    close(fd);
}

static inline void fuzz_igmp(const uint8_t *data, size_t len)
{
    struct pod pod = {.init_pid = getpid()};
    struct snapshot s = {.pod = &pod};
    struct saving v = {.s = &s};
    struct err e = {0};
    fuzz_begin(data, len);
    fuzz_done(groups_read(&v, &e), &e);
    CHECK(v.groups_count <= 2 * len);
    free(v.groups);
}
