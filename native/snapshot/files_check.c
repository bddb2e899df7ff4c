/* `check`: what among the descriptors of a running job cannot be captured, by /proc, sock_diag and, of sockets,
 * a duplicate that is only asked. What passes by itself
 * (connections just being made) is not named; kinds whose trouble only shows in the pause are named then. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "files_facts.h"
#include "lease_save.h"
#include "socket_check.h"
#include "spaces.h"

/* A duplicate of what the process still has there; -1 if it has closed it. */
static int duplicate(const struct facts *f)
{
    struct stat st;
    AUTO_CLOSE int pidfd = proc_pidfd(f->pid);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, f->number, 0);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == f->st.st_ino)
        return fd;
    cleanup_close(&fd);
    return -1;
}

static void directory_check(const struct facts *f, uint64_t inner, struct refusals *out)
{
    struct f_owner_ex owner = {0};
    AUTO_CLOSE int fd = f->flags & O_PATH ? -1 : duplicate(f);
    if (fd >= 0 && fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.pid)
        refuse(out, inner, f->number, 0, "a directory with notifications by signal (F_NOTIFY)");
}

/* Of a running process: what it closed meanwhile is no trouble. */
static void socket_check(const struct view *v, const struct facts *f, uint64_t inner, struct refusals *out)
{
    struct socket_facts s;
    struct err gone;
    char words[256];
    AUTO_CLOSE int fd = duplicate(f);
    if (fd < 0)
        return;
    const struct diag_inet *d = diag_find_inet(&v->diag, f->st.st_ino);
    if (socket_look(fd, &s, words, &gone) > 0)
        refuse(out, inner, f->number, 0, "%s", words);
    else if (s.kind != FILE_RAW && !spaces_net_of(v->spaces, fd) && socket_is_elsewhere(v->pod->init_pid, fd))
        refuse(out, inner, f->number, 0, "a socket of another network namespace");
    else if (socket_trouble_there(fd, &s, spaces_net_of(v->spaces, fd) != 0))
        refuse(out, inner, f->number, 0, "%s", socket_trouble_there(fd, &s, spaces_net_of(v->spaces, fd) != 0));
    else if (d && d->has_keys)
        refuse(out, inner, f->number, 0, "a TCP socket that signs its segments (TCP_MD5SIG)");
}

static void leases_check(const struct view *v, const struct facts *f, uint64_t inner, struct refusals *out)
{
    const char *trouble = lease_trouble(v, f);
    if (trouble)
        refuse(out, inner, f->number, 0, "%s", trouble);
}

static void one_check(const struct view *v, const struct facts *f, uint64_t inner, struct refusals *out)
{
    char words[256];
    uint64_t kind = facts_kind(v, f, words);
    if (!kind)
        refuse(out, inner, f->number, 0, "%s", words);
    else if (kind == FACTS_SOCKET)
        socket_check(v, f, inner, out);
    else if (kind == FILE_DIRECTORY)
        directory_check(f, inner, out);
    else
        leases_check(v, f, inner, out);
}

static int process_check(const struct view *v, pid_t pid, struct refusals *out, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    AUTO_DIR DIR *dir = opendir(path);
    PROC_STATUS struct proc_status s = {0};
    uint64_t inner = proc_status_read(pid, pid, &s, e) < 0 ? 0 : pid_inside(s.tgid);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        struct facts f;
        if (d->d_name[0] == '.')
            continue;
        int gone = facts_read(pid, atoi(d->d_name), &f, e);
        if (gone < 0)
            return -1;
        if (gone)
            continue;
        facts_locate(v, &f);
        one_check(v, &f, inner, out);
        facts_free(&f);
    }
    return 0;
}

int files_check(const struct pod *pod, const struct spaces *spaces, const pid_t *pids, size_t count, struct refusals *out, struct err *e)
{
    struct view v;
    if (view_open(pod, spaces, &v, e) < 0)
        return -1;
    int result = diag_add_tcp(pod->init_pid, &v.diag, e);
    for (size_t i = 0; i < count && result == 0; i++)
        result = process_check(&v, proc_living(pids[i]), out, e);
    view_close(&v);
    return result;
}
