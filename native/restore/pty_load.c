/* Pseudo terminals: of each devpts, the pod's and those that the job mounted, the masters in the order of their numbers (a new devpts counts from 0;
 * numbers that nobody has are held meanwhile), then the slaves. Mirrors snapshot/pty_save.c. */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files_load.h"
#include "spaces.h"

#define PTY_INDEX_MAX 4096u

/* Those of one devpts. */
static bool is_together(const struct pty *a, const struct pty *b)
{
    return a->mount_space == b->mount_space && (!a->mount_space || strcmp(a->place, b->place) == 0);
}

static const struct pty *pty_find(const struct image *image, const struct pty *with, uint64_t index)
{
    for (size_t i = 0; i < image->ptys_count; i++)
        if (is_together(&image->ptys[i], with) && image->ptys[i].index == index)
            return &image->ptys[i];
    return NULL;
}

static const struct pty *pty_of(const struct image *image, const struct file *slave)
{
    static char nowhere[] = "";
    static const struct pty pods = {.place = nowhere};
    if (!slave->pty)
        return pty_find(image, &pods, slave->ref);
    for (size_t i = 0; i < image->ptys_count; i++)
        if (image->ptys[i].id == slave->pty && image->ptys[i].index == slave->ref)
            return &image->ptys[i];
    return NULL;
}

/* In its mount namespace. A path of the image may lead anywhere there: nothing but a devpts is touched. */
static int pts_open(const struct pty *pty, struct err *e)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    struct statfs fs;
    const char *path = pty->mount_space ? pty->place : "/dev/pts";
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return err_errno(e, "terminals at %s", path);
    return fs.f_type == DEVPTS_SUPER_MAGIC ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : err_set(e, E_BAD_IMAGE, "there are no terminals at %s", path);
}

static int settings_load(int fd, const struct pty *pty, struct err *e)
{
    struct termios2 settings;
    struct winsize size;
    int locked = pty->locked != 0, packet = pty->packet != 0;
    if (pty->termios.len != sizeof settings || pty->winsize.len != sizeof size)
        return err_set(e, E_BAD_IMAGE, "settings of terminal /dev/pts/%lu have a wrong length", pty->index);
    memcpy(&settings, pty->termios.data, sizeof settings);
    memcpy(&size, pty->winsize.data, sizeof size);
    if (ioctl(fd, TCSETS2, &settings) < 0 || ioctl(fd, TIOCSWINSZ, &size) < 0 || ioctl(fd, TIOCSPTLCK, &locked) < 0 ||
        ioctl(fd, TIOCPKT, &packet) < 0)
        return err_errno(e, "settings of terminal /dev/pts/%lu", pty->index);
    return 0;
}

static int node_load(int pts, const struct pty *pty, struct err *e)
{
    char name[24];
    snprintf(name, sizeof name, "%lu", pty->index);
    if (io_chown(pts, name, pty->uid, pty->gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(pts, name, (mode_t)pty->mode & 0777, 0) < 0)
        return err_errno(e, "owner of terminal %s", name);
    return 0;
}

static int next_master(int pts, uint64_t wanted, struct err *e)
{
    unsigned index = 0;
    int fd = openat(pts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "a new terminal");
    if (ioctl(fd, TIOCGPTN, &index) < 0 || index != wanted) {
        close(fd);
        return err_set(e, E_OS, "the new terminal has number %u, not %lu", index, wanted);
    }
    return fd;
}

static int master_load(struct restore *r, int pts, const struct pty *pty, int fd, struct err *e)
{
    size_t index;
    int unlocked = 0;
    if (file_index(r, pty->master_file, &index, e) < 0 || r->image->files[index].kind != FILE_PTY_MASTER) {
        close(fd);
        return err_set(e, E_BAD_IMAGE, "terminal /dev/pts/%lu has no master", pty->index);
    }
    if (file_place(r, index, fd, e) < 0 || node_load(pts, pty, e) < 0)
        return -1;
    if (ioctl(r->file_fds[index], TIOCSPTLCK, &unlocked) < 0)
        return err_errno(e, "unlock terminal /dev/pts/%lu", pty->index);
    return file_flags_set(r, index, e);
}

static uint64_t highest_index(const struct image *image, const struct pty *with)
{
    uint64_t highest = 0;
    for (size_t i = 0; i < image->ptys_count; i++)
        if (is_together(&image->ptys[i], with) && image->ptys[i].index > highest)
            highest = image->ptys[i].index;
    return highest;
}

/* The numbers between: a terminal of nobody's is opened, held and given back. */
static int numbers_load(struct restore *r, int pts, const struct pty *first, int *held, size_t *held_count, struct err *e)
{
    uint64_t highest = highest_index(r->image, first);
    if (highest > PTY_INDEX_MAX)
        return err_set(e, E_BAD_IMAGE, "terminal /dev/pts/%lu: the number is too large", highest);
    for (uint64_t index = 0; index <= highest; index++) {
        const struct pty *pty = pty_find(r->image, first, index);
        int fd = next_master(pts, index, e);
        if (fd < 0)
            return -1;
        if (!pty)
            held[(*held_count)++] = fd;
        else if (master_load(r, pts, pty, fd, e) < 0)
            return -1;
    }
    return 0;
}

/* Those of one devpts, new nodes being the pod's user's where the job mounted it. */
static int masters_load(struct restore *r, const struct pty *first, struct err *e)
{
    int held[PTY_INDEX_MAX + 1];
    size_t held_count = 0;
    if (first->mount_space > r->image->mount_spaces_count)
        return err_set(e, E_BAD_IMAGE, "terminals of a mount namespace that is not there");
    if (space_enter_maker(r, first->mount_space, e) < 0)
        return -1;
    AUTO_CLOSE int pts = pts_open(first, e);
    int result = pts < 0 ? -1 : numbers_load(r, pts, first, held, &held_count, e);
    space_leave_maker(r, first->mount_space);
    while (held_count > 0)
        close(held[--held_count]);
    return result;
}

static int all_masters_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->ptys_count; i++) {
        size_t first = 0;
        while (!is_together(&r->image->ptys[first], &r->image->ptys[i]))
            first++;
        if (first == i && masters_load(r, &r->image->ptys[i], e) < 0)
            return -1;
    }
    return 0;
}

/* Where nobody has the slave open and the terminal is locked again, it cannot be opened: unlocked for that moment. */
static int slave_open(const struct restore *r, const struct pty *pty, struct err *e)
{
    size_t index;
    int unlocked = 0, locked = pty->locked != 0;
    if (file_index(r, pty->master_file, &index, e) < 0)
        return -1;
    if (ioctl(r->file_fds[index], TIOCSPTLCK, &unlocked) < 0)
        return err_errno(e, "unlock /dev/pts/%lu", pty->index);
    int fd = ioctl(r->file_fds[index], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open /dev/pts/%lu", pty->index);
    if (ioctl(r->file_fds[index], TIOCSPTLCK, &locked) < 0) {
        close(fd);
        return err_errno(e, "lock /dev/pts/%lu", pty->index);
    }
    return fd;
}

static int slave_load(struct restore *r, const struct file *f, const struct pty *pty, struct err *e)
{
    char name[24];
    snprintf(name, sizeof name, "%lu", f->ref);
    if (space_enter(r, pty->mount_space, e) < 0)
        return -1;
    AUTO_CLOSE int pts = pts_open(pty, e);
    int fd = pts < 0 ? -1 : openat(pts, name, (int)(f->flags & (O_ACCMODE | O_NONBLOCK)) | O_NOCTTY | O_CLOEXEC);
    space_leave(r, pty->mount_space);
    return fd < 0 && pts >= 0 ? err_errno(e, "open terminal /dev/pts/%s", name) : fd;
}

static int slaves_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++) {
        const struct file *f = &r->image->files[i];
        if (f->kind != FILE_PTY_SLAVE || file_is_late(f))
            continue;
        const struct pty *pty = pty_of(r->image, f);
        if (!pty)
            return err_set(e, E_BAD_IMAGE, "terminal /dev/pts/%lu has no master", f->ref);
        int fd = slave_load(r, f, pty, e);
        if (fd < 0 || file_place(r, i, fd, e) < 0 || file_flags_set(r, i, e) < 0)
            return -1;
    }
    return 0;
}

static int all_settings_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->ptys_count; i++) {
        size_t index;
        if (file_index(r, r->image->ptys[i].master_file, &index, e) < 0 || settings_load(r->file_fds[index], &r->image->ptys[i], e) < 0)
            return -1;
    }
    return 0;
}

int ptys_load(struct restore *r, struct err *e)
{
    return all_masters_load(r, e) < 0 || slaves_load(r, e) < 0 ? -1 : all_settings_load(r, e);
}

/* ---- controlling terminals. Only a session's leader can take one, and its children have it from their birth. */
static const struct pty *session_tty(const struct restore *r, const struct task *t)
{
    for (size_t i = 0; i < r->image->ptys_count; i++)
        if (r->image->ptys[i].sid && r->image->ptys[i].sid == t->sid)
            return &r->image->ptys[i];
    return NULL;
}

int tty_take(const struct restore *r, const struct task *t, struct err *e)
{
    const struct pty *pty = session_tty(r, t);
    if (!pty || t->sid != t->pid || t->state == TASK_ZOMBIE)
        return 0;
    AUTO_CLOSE int fd = slave_open(r, pty, e);
    if (fd < 0)
        return -1;
    return ioctl(fd, TIOCSCTTY, 0) < 0 ? err_errno(e, "make /dev/pts/%lu its controlling terminal", pty->index) : 0;
}

/* When all groups are there. A group that nobody is in any more cannot be named: the terminal stays the leader's. */
int tty_foreground(const struct restore *r, const struct task *t, struct err *e)
{
    const struct pty *pty = session_tty(r, t);
    pid_t group = pty ? (pid_t)pty->pgrp : 0;
    if (!group || t->sid != t->pid || t->state == TASK_ZOMBIE)
        return 0;
    AUTO_CLOSE int fd = slave_open(r, pty, e);
    if (fd < 0)
        return -1;
    return ioctl(fd, TIOCSPGRP, &group) < 0 && errno != ESRCH ? err_errno(e, "foreground group %d of /dev/pts/%lu", group, pty->index) : 0;
}

int tty_drop(const struct task *t, struct err *e)
{
    AUTO_CLOSE int fd = t->tty || t->sid == t->pid ? -1 : open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    return ioctl(fd, TIOCNOTTY) < 0 ? err_errno(e, "give its controlling terminal up") : 0;
}
