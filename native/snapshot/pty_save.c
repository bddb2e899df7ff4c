/* Pseudo terminals (pty(7)) that are nobody's controlling terminal, as launchers give them to programs for their output: one entry per
 * terminal, saved with its master; slaves refer to it by index. A terminal's queues cannot be looked at without taking from
 * them: when bytes are under way the job must run on for a moment (E_BUSY). */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "files_save.h"

static uint64_t slave_index(const struct facts *f)
{
    return (major(f->st.st_rdev) - 136u) * 256u + minor(f->st.st_rdev);
}

static bool is_slave_of(const struct source *src, uint64_t index)
{
    return src->kind == FILE_PTY_SLAVE && slave_index(&src->facts) == index;
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
        if (is_slave_of(&v->sources[i], index) && (v->sources[i].facts.flags & O_ACCMODE) != O_WRONLY && has_bytes(v->sources[i].fd))
            return source_busy(v, src, e, "terminal /dev/pts/%lu has input that nobody has read yet", index);
    return 0;
}

static int node_save(const struct saving *v, struct pty *pty, struct err *e)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "dev/pts/%lu", pty->index);
    if (fstatat(v->view.root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "/%s", path);
    pty->uid = st.st_uid, pty->gid = st.st_gid, pty->mode = st.st_mode & 0777;
    return 0;
}

static int settings_save(int fd, struct pty *pty, struct err *e)
{
    struct termios2 settings;
    struct winsize size;
    int locked = 0, packet = 0;
    if (ioctl(fd, TCGETS2, &settings) < 0 || ioctl(fd, TIOCGWINSZ, &size) < 0 || ioctl(fd, TIOCGPTLCK, &locked) < 0 ||
        ioctl(fd, TIOCGPKT, &packet) < 0)
        return err_errno(e, "settings of terminal /dev/pts/%lu", pty->index);
    bytes_set(&pty->termios, &settings, sizeof settings);
    bytes_set(&pty->winsize, &size, sizeof size);
    pty->locked = (uint64_t)locked, pty->packet = (uint64_t)packet;
    return 0;
}

static int master_save(struct saving *v, struct source *src, struct err *e)
{
    unsigned index = 0;
    pid_t session = 0;
    if (ioctl(src->fd, TIOCGPTN, &index) < 0)
        return err_errno(e, "number of a terminal");
    if (ioctl(src->fd, TIOCGSID, &session) == 0)
        return source_refuse(v, src, e, "controlling terminal /dev/pts/%u of a session", index);
    if (quiet_check(v, src, index, e) < 0)
        return -1;
    struct pty *pty = LIST_ADD(&v->s->image, ptys);
    pty->id = src->file->ref = pty->master_file = src->file->id;
    pty->index = index;
    return node_save(v, pty, e) < 0 ? -1 : settings_save(src->fd, pty, e);
}

static bool has_master(const struct saving *v, uint64_t index)
{
    for (size_t i = 0; i < v->sources_count; i++) {
        unsigned number;
        if (v->sources[i].kind == FILE_PTY_MASTER && ioctl(v->sources[i].fd, TIOCGPTN, &number) == 0 && number == index)
            return true;
    }
    return false;
}

int pty_save(struct saving *v, struct source *src, struct err *e)
{
    if (src->kind == FILE_PTY_MASTER)
        return master_save(v, src, e);
    uint64_t index = slave_index(&src->facts);
    if (!has_master(v, index))
        return source_refuse(v, src, e, "terminal %s, whose other end is gone or outside of the pod", src->facts.link);
    src->file->ref = index;
    return 0;
}
