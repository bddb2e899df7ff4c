/* Pseudo terminals (pty(7)), of the pod's devpts and of those that the job mounted (each counts from 0): one entry per terminal, saved with its master,
 * which also tells whose controlling terminal it is; slaves refer to it by index, and so does an open /dev/tty, which does not tell of which devpts. A terminal's queues cannot be looked at without taking from
 * them: when bytes are under way the job must run on for a moment (E_BUSY). */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "files_save.h"
#include "spaces.h"

/* Of a device number of a terminal's slave. */
static uint64_t index_of(dev_t device)
{
    return (major(device) - 136u) * 256u + minor(device);
}

static bool is_dev_tty(const struct source *src)
{
    return src->facts.st.st_rdev == makedev(5, 0);
}

/* What is behind an open /dev/tty says the description itself. */
static uint64_t slave_index(const struct source *src)
{
    unsigned device = 0;
    if (is_dev_tty(src) && ioctl(src->fd, TIOCGDEV, &device) < 0)
        return UINT64_MAX;
    return index_of(is_dev_tty(src) ? (dev_t)device : src->facts.st.st_rdev);
}

/* The file system of a terminal's end, 0: the pod's. */
static dev_t instance_of(const struct source *src)
{
    return src->facts.own ? src->facts.st.st_dev : 0;
}

static bool is_slave_of(const struct source *src, const struct source *master, uint64_t index)
{
    return src->kind == FILE_PTY_SLAVE && slave_index(src) == index && (is_dev_tty(src) || instance_of(src) == instance_of(master));
}

/* poll(2) of a terminal pushes on what the kernel has not handed over yet (n_tty_poll). */
static bool has_bytes(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int waiting = 0;
    (void)poll(&p, 1, 0);
    return ioctl(fd, FIONREAD, &waiting) < 0 || waiting > 0;
}

static int quiet_check(const struct saving *v, const struct source *src, uint64_t index, struct err *e)
{
    if (has_bytes(src->fd))
        return source_busy(v, src, e, "terminal /dev/pts/%lu has output that nobody has read yet", index);
    for (size_t i = 0; i < v->sources_count; i++)
        if (is_slave_of(&v->sources[i], src, index) && (v->sources[i].facts.flags & O_ACCMODE) != O_WRONLY && has_bytes(v->sources[i].fd))
            return source_busy(v, src, e, "terminal /dev/pts/%lu has input that nobody has read yet", index);
    return 0;
}

/* Where the job has mounted it so that it can be seen. */
static const char *place_of(const struct seen_mounts *seen, dev_t instance)
{
    for (size_t k = 0; k < seen->image.mounts_count; k++) {
        const struct mount_line *line = &seen->table.items[seen->order[k]];
        if (line->dev == instance && strcmp(line->root, "/") == 0 && !seen->image.mounts[k].hidden)
            return line->place;
    }
    return NULL;
}

static int place_save(const struct saving *v, const struct source *src, struct pty *pty, int *root, struct err *e)
{
    const struct seen_mounts *seen = src->facts.own ? spaces_mounts(v->s->spaces, src->facts.space) : NULL;
    const char *place = seen ? place_of(seen, instance_of(src)) : "/dev/pts";
    if (!place)
        return source_refuse(v, src, e, "terminal of a devpts that is hidden by another mount");
    *root = seen ? seen->visitor.root : v->view.root;
    pty->mount_space = seen ? seen->image.id : 0;
    pty->place = xstrdup(place);
    return 0;
}

static int node_save(const struct saving *v, const struct source *src, struct pty *pty, struct err *e)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    struct stat st;
    int root = -1;
    if (place_save(v, src, pty, &root, e) < 0)
        return -1;
    AUTO_FREE char *path = xasprintf("%s/%lu", pty->place, pty->index);
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "%s", path);
    pty->uid = st.st_uid, pty->gid = st.st_gid, pty->mode = st.st_mode & 0777;
    return 0;
}

static int settings_save(int fd, struct pty *pty, struct err *e)
{
    struct termios2 settings;
    struct winsize size;
    int locked = 0, packet = 0, discipline = 0;
    if (ioctl(fd, TIOCGETD, &discipline) < 0)
        return err_errno(e, "line discipline of terminal /dev/pts/%lu", pty->index);
    if (discipline != 0)
        return err_set(e, E_UNSUPPORTED, "terminal /dev/pts/%lu has a line discipline of its own (%d)", pty->index, discipline);
    if (ioctl(fd, TCGETS2, &settings) < 0 || ioctl(fd, TIOCGWINSZ, &size) < 0 || ioctl(fd, TIOCGPTLCK, &locked) < 0 ||
        ioctl(fd, TIOCGPKT, &packet) < 0)
        return err_errno(e, "settings of terminal /dev/pts/%lu", pty->index);
    bytes_set(&pty->termios, &settings, sizeof settings);
    bytes_set(&pty->winsize, &size, sizeof size);
    pty->locked = (uint64_t)locked, pty->packet = (uint64_t)packet;
    return 0;
}

/* A group has the number of its (perhaps dead) leader: ask a living member. */
static uint64_t group_inside(const struct saving *v, pid_t group)
{
    for (size_t i = 0; i < v->s->victim_count; i++)
        if (getpgid(v->s->victims[i].pid) == group)
            return v->s->image.tasks[i].pgid;
    return 0;
}

static int session_save(const struct saving *v, const struct source *src, struct pty *pty, struct err *e)
{
    pid_t session = 0, group = 0;
    if (ioctl(src->fd, TIOCGSID, &session) < 0)
        return 0;
    pty->sid = saving_inner_pid(v, session);
    if (!pty->sid)
        return source_refuse(v, src, e, "controlling terminal /dev/pts/%lu of a session outside of the pod", pty->index);
    if (ioctl(src->fd, TIOCGPGRP, &group) == 0)
        pty->pgrp = group_inside(v, group);
    return 0;
}

static int master_save(struct saving *v, struct source *src, struct err *e)
{
    unsigned index = 0;
    if (ioctl(src->fd, TIOCGPTN, &index) < 0)
        return err_errno(e, "number of a terminal");
    if (quiet_check(v, src, index, e) < 0)
        return -1;
    struct pty *pty = LIST_ADD(&v->s->image, ptys);
    pty->id = src->file->ref = pty->master_file = src->file->id;
    pty->index = index;
    if (session_save(v, src, pty, e) < 0 || node_save(v, src, pty, e) < 0)
        return -1;
    return settings_save(src->fd, pty, e);
}

/* NULL if there is none, or more than one that it could be. */
static const struct source *master_find(const struct saving *v, const struct source *slave, uint64_t index)
{
    const struct source *found = NULL;
    for (size_t i = 0; i < v->sources_count; i++) {
        const struct source *master = &v->sources[i];
        unsigned number;
        if (master->kind != FILE_PTY_MASTER || ioctl(master->fd, TIOCGPTN, &number) < 0 || number != index || !is_slave_of(slave, master, index))
            continue;
        if (found)
            return NULL;
        found = master;
    }
    return found;
}

int pty_save(struct saving *v, struct source *src, struct err *e)
{
    if (src->kind == FILE_PTY_MASTER)
        return master_save(v, src, e);
    uint64_t index = slave_index(src);
    const struct source *master = master_find(v, src, index);
    if (!master)
        return source_refuse(v, src, e, "terminal %s, whose other end is gone or outside of the pod", src->facts.link);
    src->file->ref = index;
    src->file->pty = master->facts.own ? master->file->id : 0;
    return 0;
}

/* ---- whose controlling terminal */
static const struct pty *pty_of(const struct image *image, const struct task *t, uint64_t index)
{
    for (size_t k = 0; k < image->ptys_count; k++)
        if (image->ptys[k].index == index && image->ptys[k].sid == t->sid)
            return &image->ptys[k];
    return NULL;
}

static int task_tty_save(struct saving *v, size_t i, struct err *e)
{
    struct task *t = &v->s->image.tasks[i];
    struct proc_stat stat;
    if (t->state == TASK_ZOMBIE)
        return 0;
    if (proc_stat_read(v->s->victims[i].pid, v->s->victims[i].pid, &stat, e) < 0)
        return -1;
    if (!stat.tty)
        return 0;
    const struct pty *pty = pty_of(&v->s->image, t, index_of((dev_t)stat.tty));
    if (!pty)
        return err_set(e, E_UNSUPPORTED, "process %lu: its controlling terminal is gone or outside of the pod", t->pid);
    t->tty = pty->id;
    return 0;
}

/* /dev/tty comes back under that name where the process that opens it finds the same terminal there. */
static void dev_tty_save(const struct saving *v, const struct source *src)
{
    const struct task *t = &v->s->image.tasks[src->victim];
    for (size_t k = 0; k < v->s->image.ptys_count; k++) {
        const struct pty *pty = &v->s->image.ptys[k];
        if (pty->index == src->file->ref && t->tty == pty->id && (!src->file->pty || src->file->pty == pty->id)) {
            free(src->file->path);
            src->file->path = xstrdup("/dev/tty");
        }
    }
}

int ptys_finish(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->s->victim_count; i++)
        if (task_tty_save(v, i, e) < 0)
            return -1;
    for (size_t i = 0; i < v->sources_count; i++)
        if (v->sources[i].kind == FILE_PTY_SLAVE && is_dev_tty(&v->sources[i]))
            dev_tty_save(v, &v->sources[i]);
    return 0;
}
