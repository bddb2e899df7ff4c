/* POSIX message queues: every queue of the pod's ipc namespace, opened by somebody or not, and those whose name is gone. Messages cannot be
 * looked at without taking them: a queue that holds some is waited for. Mirrored by restore/mqueue_load.c. */
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
#include "sysv_save.h"

struct look {
    struct mq_attr attr;
    unsigned long notified_pid;
};

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

static int queue_look(int fd, struct look *out, struct err *e)
{
    char text[256] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    AUTO_CLOSE int own = open(path, O_RDONLY | O_CLOEXEC); /* the position in the text is the description's */
    if (own < 0 || pread(own, text, sizeof text - 1, 0) < 0 || syscall(SYS_mq_getsetattr, own, NULL, &out->attr) < 0)
        return err_errno(e, "state of a POSIX message queue");
    const char *pid = strstr(text, "NOTIFY_PID:");
    out->notified_pid = pid ? strtoul(pid + strlen("NOTIFY_PID:"), NULL, 10) : 0;
    return 0;
}

static int queue_save(struct image *image, int fd, const char *name, struct err *e)
{
    struct look q;
    struct stat st;
    if (queue_look(fd, &q, e) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "POSIX message queue %s", name);
    if (q.notified_pid)
        return err_set(e, E_UNSUPPORTED, "a POSIX message queue that notifies a process: %s", name);
    if (q.attr.mq_curmsgs)
        return err_set(e, E_BUSY, "a POSIX message queue with %ld messages that were not received: %s", q.attr.mq_curmsgs, name);
    struct mqueue *out = LIST_ADD(image, mqueues);
    *out = (struct mqueue){.id = image->mqueues_count, .name = xstrdup(name), .unlinked = st.st_nlink == 0, .mode = st.st_mode & 0777,
                           .uid = st.st_uid, .gid = st.st_gid, .max_messages = (uint64_t)q.attr.mq_maxmsg, .message_bytes = (uint64_t)q.attr.mq_msgsize};
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
    return each_queue(s->pod, save_one, &s->image, e);
}

static int check_one(void *ctx, int fd, const char *name, struct err *e)
{
    struct look q;
    if (queue_look(fd, &q, e) < 0)
        return -1;
    if (q.notified_pid)
        refuse(ctx, 0, -1, 0, "a POSIX message queue that notifies a process: %s", name);
    return 0;
}

int mqueues_check(const struct pod *pod, struct refusals *out, struct err *e)
{
    return each_queue(pod, check_one, out, e);
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

static struct mqueue *queue_find(const struct image *image, const char *name)
{
    for (size_t i = 0; i < image->mqueues_count; i++)
        if (!image->mqueues[i].unlinked && !strcmp(image->mqueues[i].name, name))
            return &image->mqueues[i];
    return NULL;
}

static const struct source *nameless_before(const struct saving *v, const struct source *src)
{
    for (const struct source *other = v->sources; other < src; other++)
        if (other->kind == FILE_MQUEUE && other->facts.st.st_ino == src->facts.st.st_ino && other->facts.st.st_dev == src->facts.st.st_dev)
            return other;
    return NULL;
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
    if (!before && queue_save(image, src->fd, name, e) < 0)
        return -1;
    src->file->ref = before ? before->file->ref : image->mqueues_count;
    return 0;
}
