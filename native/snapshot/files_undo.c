/* See files_undo.h. The descriptor may meanwhile have been closed or be another's: the inode decides, and if the named process
 * has it no more, every process of the pod is searched for it. */
#include "files_undo.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int descriptor_take(pid_t pid, int number, uint64_t ino)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == ino)
        return fd;
    cleanup_close(&fd);
    return -1;
}

static int process_search(pid_t pid, uint64_t ino)
{
    char path[64], wanted[64], link[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    snprintf(wanted, sizeof wanted, "socket:[%lu]", ino);
    AUTO_DIR DIR *dir = opendir(path);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), d->d_name, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        if (!strcmp(link, wanted))
            return descriptor_take(pid, atoi(d->d_name), ino);
    }
    return -1;
}

static int socket_find(const struct pod *pod, pid_t pid, int number, uint64_t ino)
{
    struct err ignored;
    AUTO_FREE pid_t *pids = NULL;
    size_t count = 0;
    int fd = descriptor_take(pid, number, ino);
    if (fd >= 0 || pod_pids(pod, &pids, &count, &ignored) < 0)
        return fd;
    for (size_t i = 0; i < count && fd < 0; i++)
        fd = process_search(pids[i], ino);
    return fd;
}

static void repair_leave(int fd, int reuse)
{
    int mode = 0, off = TCP_REPAIR_OFF_NO_WP;
    socklen_t len = sizeof mode;
    if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &mode, &len) < 0 || mode == 0)
        return;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off) == 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
}

bool files_undo_line(const struct pod *pod, const char *line)
{
    int pid, number, value;
    unsigned long ino;
    bool repair = sscanf(line, "repair %d %d %lu %d", &pid, &number, &ino, &value) == 4;
    if (!repair && sscanf(line, "peekoff %d %d %lu %d", &pid, &number, &ino, &value) != 4)
        return false;
    AUTO_CLOSE int fd = socket_find(pod, pid, number, ino);
    if (fd >= 0 && repair)
        repair_leave(fd, value);
    else if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value);
    return true;
}
