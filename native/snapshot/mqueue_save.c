/* POSIX message queues: every queue of the pod's ipc namespace, opened by somebody or not, and those whose name is gone. Their messages are
 * taken and put back when the pod is frozen (mqueue_take.h); in a pod without a freezer a queue that holds some is waited for. Mirrored by
 * restore/mqueue_load.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files_save.h"
#include "mqueue_take.h"
#include "sysv_save.h"
#include "undo.h"

#define NO_QUEUES -2 /* a kernel without them */

/* The ipc namespace's own file system of queues, mounted nowhere. */
static int queues_mount(void)
{
    AUTO_CLOSE int fs = fsopen("mqueue", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fs < 0 && errno == ENODEV ? NO_QUEUES : -1;
    return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

/* An ordinary user may mount in the pod's mount namespace only: a child that has our descriptors goes there, for us there would be no way back. */
static int queues_mount_there(pid_t init_pid)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/mnt", init_pid);
    AUTO_CLOSE int space = open(path, O_RDONLY | O_CLOEXEC);
    int ends[2], fd = -1;
    if (space < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    pid_t child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, NULL, NULL, 0);
    if (child == 0) {
        fd = setns(space, CLONE_NEWNS) < 0 ? -1 : queues_mount();
        _exit(write(ends[1], &fd, sizeof fd) != sizeof fd);
    }
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (read(ends[0], &fd, sizeof fd) != sizeof fd)
        fd = -1;
    close(ends[0]);
    close(ends[1]);
    errno = EPERM;
    return fd;
}

static int queues_open(pid_t init_pid, struct err *e)
{
    int fd = queues_mount();
    if (fd == -1 && errno == EPERM)
        fd = queues_mount_there(init_pid);
    return fd == -1 ? err_errno(e, "look at POSIX message queues") : fd;
}

static int queue_save(struct snapshot *s, int fd, const char *name, struct err *e)
{
    struct mqueue_look q;
    struct stat st;
    if (mqueue_look(fd, &q, e) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "POSIX message queue %s", name);
    if (q.notified_pid)
        return err_set(e, E_UNSUPPORTED, "a POSIX message queue that notifies a process: %s", name);
    if (q.messages && pod_freezer_kind(s->pod) == FREEZER_NONE)
        return err_set(e, E_BUSY, "a POSIX message queue with %lu messages that were not received, in a pod without a freezer: %s", q.messages, name);
    struct mqueue *out = LIST_ADD(&s->image, mqueues);
    *out = (struct mqueue){.id = s->image.mqueues_count, .name = xstrdup(name), .unlinked = st.st_nlink == 0, .mode = st.st_mode & 0777,
                           .uid = st.st_uid, .gid = st.st_gid, .max_messages = q.max_messages, .message_bytes = q.message_bytes};
    s->queues_hold |= q.messages > 0;
    return 0;
}

static int each_queue(const struct pod *pod, int (*fn)(void *ctx, int fd, const char *name, struct err *e), void *ctx, struct err *e)
{
    int mount = queues_open(pod->init_pid, e);
    AUTO_DIR DIR *dir = mount < 0 ? NULL : fdopendir(openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int result = mount == NO_QUEUES ? 0 : mount < 0 ? -1 : dir ? 0 : err_errno(e, "list POSIX message queues");
    for (const struct dirent *d; result == 0 && dir && (d = readdir(dir));) {
        if (d->d_name[0] == '.' && (!d->d_name[1] || !strcmp(d->d_name, "..")))
            continue;
        AUTO_FREE char *name = xasprintf("/%s", d->d_name);
        AUTO_CLOSE int fd = openat(mount, d->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        result = fd < 0 ? errno == ENOENT ? 0 : err_errno(e, "POSIX message queue %s", name) : fn(ctx, fd, name, e);
    }
    if (mount >= 0)
        close(mount);
    return result;
}

static int save_one(void *ctx, int fd, const char *name, struct err *e)
{
    return queue_save(ctx, fd, name, e);
}

int mqueues_save(struct snapshot *s, struct err *e)
{
    s->queues_hold = false;
    return each_queue(s->pod, save_one, s, e);
}

static int check_one(void *ctx, int fd, const char *name, struct err *e)
{
    struct mqueue_look q;
    if (mqueue_look(fd, &q, e) < 0)
        return -1;
    if (q.notified_pid)
        refuse(ctx, 0, -1, 0, "a POSIX message queue that notifies a process: %s", name);
    return 0;
}

int mqueues_check(const struct pod *pod, struct refusals *out, struct err *e)
{
    return each_queue(pod, check_one, out, e);
}

/* ---- messages */
static struct mqueue *queue_find(struct image *image, const char *name)
{
    for (size_t i = 0; i < image->mqueues_count; i++)
        if (!image->mqueues[i].unlinked && !strcmp(image->mqueues[i].name, name))
            return &image->mqueues[i];
    return NULL;
}

static int for_both(int fd, struct err *e)
{
    return source_reopen(fd, O_RDWR | O_NONBLOCK, e);
}

static int messages_save(const struct snapshot *s, int fd, struct mqueue *out, struct err *e)
{
    AUTO_CLOSE int both = for_both(fd, e);
    return both < 0 || mqueue_messages_save(s->pod, both, out, e) < 0 ? err_wrap(e, "POSIX message queue %s", out->name) : 0;
}

static int messages_save_one(void *ctx, int fd, const char *name, struct err *e)
{
    struct snapshot *s = ctx;
    struct mqueue *out = queue_find(&s->image, name);
    struct mqueue_look q;
    if (!out || mqueue_look(fd, &q, e) < 0)
        return out ? -1 : 0;
    return q.messages ? messages_save(s, fd, out, e) : 0;
}

static int named_messages_save(void *ctx, struct err *e)
{
    const struct saving *v = ctx;
    return each_queue(v->s->pod, messages_save_one, v->s, e);
}

int mqueues_messages_save(struct saving *v, struct err *e)
{
    return v->s->queues_hold ? in_ipc_of(v->s->pod, named_messages_save, v, e) : 0;
}

/* ---- a descriptor of one */
static const char *name_of(const struct source *src, char room[PATH_BYTES])
{
    static const char deleted[] = " (deleted)";
    snprintf(room, PATH_BYTES, "%s", src->facts.link);
    size_t len = strlen(room), tail = strlen(deleted);
    if (src->facts.st.st_nlink == 0 && len > tail)
        room[len - tail] = 0;
    return room;
}

static const struct source *nameless_before(const struct saving *v, const struct source *src)
{
    for (const struct source *other = v->sources; other < src; other++)
        if (other->kind == FILE_MQUEUE && other->facts.st.st_ino == src->facts.st.st_ino && other->facts.st.st_dev == src->facts.st.st_dev)
            return other;
    return NULL;
}

static int nameless_save(struct saving *v, const struct source *src, const char *name, struct err *e)
{
    struct mqueue_look q;
    if (queue_save(v->s, src->fd, name, e) < 0 || mqueue_look(src->fd, &q, e) < 0)
        return -1;
    if (q.messages && src->passed)
        return source_busy(v, src, e, "a POSIX message queue with messages that were not received: %s", name);
    return q.messages ? messages_save(v->s, src->fd, &v->s->image.mqueues[v->s->image.mqueues_count - 1], e) : 0;
}

int mqueue_save(struct saving *v, struct source *src, struct err *e)
{
    struct image *image = &v->s->image;
    char room[PATH_BYTES];
    const char *name = name_of(src, room);
    if (src->facts.st.st_nlink) {
        const struct mqueue *q = queue_find(image, name);
        src->file->ref = q ? q->id : 0;
        return q ? 0 : source_refuse(v, src, e, "a POSIX message queue of another ipc namespace: %s", name);
    }
    const struct source *before = nameless_before(v, src);
    if (!before && nameless_save(v, src, name, e) < 0)
        return -1;
    src->file->ref = before ? before->file->ref : image->mqueues_count;
    return 0;
}

/* ---- after a death */
struct sought {
    const struct pod *pod;
    dev_t dev;
    ino_t ino;
    int fd;
};

static int seek_one(void *ctx, int fd, const char *name, struct err *e)
{
    struct sought *q = ctx;
    struct stat st;
    (void)name;
    if (q->fd >= 0 || fstat(fd, &st) < 0 || st.st_dev != q->dev || st.st_ino != q->ino)
        return 0;
    q->fd = for_both(fd, e);
    return q->fd < 0 ? -1 : 0;
}

static int seek_by_name(void *ctx, struct err *e)
{
    struct sought *q = ctx;
    return each_queue(q->pod, seek_one, q, e);
}

static int seek_in_process(struct sought *q, pid_t pid, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/fd", pid);
    AUTO_DIR DIR *dir = opendir(path);
    AUTO_CLOSE int pidfd = dir ? proc_pidfd(pid) : -1;
    struct stat st;
    for (const struct dirent *d; q->fd < 0 && pidfd >= 0 && (d = readdir(dir));) {
        if (fstatat(dirfd(dir), d->d_name, &st, 0) < 0 || st.st_dev != q->dev || st.st_ino != q->ino)
            continue;
        AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(d->d_name), 0);
        if (fd >= 0 && (q->fd = for_both(fd, e)) < 0)
            return -1;
    }
    return 0;
}

/* By its name, or among what the pod's processes have open. */
static int queue_seek(const struct pod *pod, dev_t dev, ino_t ino, struct err *e)
{
    struct sought q = {pod, dev, ino, -1};
    AUTO_FREE pid_t *pids = NULL;
    size_t count = 0;
    if (in_ipc_of(pod, seek_by_name, &q, e) < 0 || (q.fd < 0 && pod_pids(pod, &pids, &count, e) < 0))
        return -1;
    for (size_t k = 0; q.fd < 0 && k < count; k++)
        if (seek_in_process(&q, proc_living(pids[k]), e) < 0)
            return -1;
    return q.fd;
}

int mqueues_undo(const struct pod *pod, struct err *e)
{
    return mqueue_messages_undo(pod, queue_seek, e);
}
