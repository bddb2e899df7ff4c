/* See files_undo.h. The descriptor may meanwhile have been closed or be another's: the inode decides, and if the named process
 * has it no more, every process of the pod is searched for it. */
#include "files_undo.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/procfs.h"

#define QUEUE_LOOK_BYTES (64u * 1024)
#define QUEUE_LOOKS_MAX 65536u
#define CONTROL_BYTES 4096u

static int descriptor_take(pid_t pid, int number, uint64_t ino)
{
    AUTO_CLOSE int pidfd = proc_pidfd(pid);
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

static int socket_held(const struct pod *pod, pid_t pid, int number, uint64_t ino)
{
    struct err ignored;
    AUTO_FREE pid_t *pids = NULL;
    size_t count = 0;
    int fd = descriptor_take(pid, number, ino);
    if (fd >= 0 || pod_pids(pod, &pids, &count, &ignored) < 0)
        return fd;
    for (size_t i = 0; i < count && fd < 0; i++)
        fd = process_search(proc_living(pids[i]), ino);
    return fd;
}

/* ---- in messages: what no process holds any more */
static bool is_wanted(int fd, uint64_t ino)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == ino;
}

/* Of the descriptors that a message brings the wanted one stays open, or -1. */
static int control_search(const struct msghdr *header, uint64_t ino)
{
    int found = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)header, c))
        for (size_t at = CMSG_LEN(0); c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && at < c->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (const uint8_t *)c + at, sizeof fd);
            if (found < 0 && is_wanted(fd, ino))
                found = fd;
            else
                close(fd);
        }
    return found;
}

/* The snapshot has looked into this queue before it could touch what lies there: a line of its own puts SO_PEEK_OFF back. */
static int queue_search(int carrier, uint64_t ino)
{
    static uint8_t data[QUEUE_LOOK_BYTES];
    int begin = 0, found = -1;
    if (setsockopt(carrier, SOL_SOCKET, SO_PEEK_OFF, &begin, sizeof begin) < 0)
        return -1;
    ssize_t n = 0;
    for (size_t looks = 0; found < 0 && n >= 0 && looks < QUEUE_LOOKS_MAX; looks++) { /* the end of file can be looked at for ever */
        _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
        struct iovec place = {data, sizeof data};
        struct msghdr header = {.msg_iov = &place, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        n = recvmsg(carrier, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        found = n < 0 ? -1 : control_search(&header, ino);
    }
    return found;
}

/* The sockets of the lines: each is a process's, or on its way in a message of one of the lines before. */
static int *sockets_find(const struct pod *pod, char **lines, size_t count)
{
    int *fds = xcalloc(count + 1, sizeof *fds);
    for (size_t k = 0; k < count; k++) {
        int pid, number;
        unsigned long ino;
        bool known = sscanf(lines[k], "repair %d %d %lu", &pid, &number, &ino) == 3 || sscanf(lines[k], "peekoff %d %d %lu", &pid, &number, &ino) == 3;
        fds[k] = known ? socket_held(pod, pid, number, ino) : -1;
        for (size_t i = 0; known && i < k && fds[k] < 0; i++)
            if (fds[i] >= 0 && !strncmp(lines[i], "peekoff ", 8))
                fds[k] = queue_search(fds[i], ino);
    }
    return fds;
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

static void line_undo(const char *line, int fd)
{
    int value;
    if (sscanf(line, "repair %*d %*d %*u %d", &value) == 1)
        repair_leave(fd, value);
    else if (sscanf(line, "peekoff %*d %*d %*u %d", &value) == 1)
        (void)setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value);
}

void files_undo(const struct pod *pod, char **lines, size_t count)
{
    struct rlimit before, limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    limit = before;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    AUTO_FREE int *fds = sockets_find(pod, lines, count);
    for (size_t k = count; k-- > 0;)
        if (fds[k] >= 0) {
            line_undo(lines[k], fds[k]);
            close(fds[k]);
        }
    (void)setrlimit(RLIMIT_NOFILE, &before);
}
