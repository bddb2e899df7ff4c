/* See spaces.h. The child enters the namespace, opens there what it is asked for and hands the descriptors over; it dies with the engine. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spaces.h"

#define MOUNTINFO_MAX (16ul << 20)

/* ---- descriptors over a channel; number: errno, or 0 with descriptors */
static int fds_send(int channel, int number, const int *fds, size_t count)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec data = {&number, sizeof number};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};
    if (count) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    return sendmsg(channel, &m, MSG_NOSIGNAL) == (ssize_t)sizeof number ? 0 : -1;
}

static int fds_receive(int channel, int *fds, size_t count, struct err *e)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    int number = 0;
    struct iovec data = {&number, sizeof number};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(channel, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof number)
        return err_set(e, E_OS, "the helper in a namespace of the job died");
    errno = number;
    if (number)
        return err_errno(e, "look into a namespace of the job");
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_len != CMSG_LEN(count * sizeof(int)))
        return err_set(e, E_OS, "the helper in a namespace of the job sent nothing");
    memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    return 0;
}

/* ---- the child */
static int enter(int space, int channel)
{
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0 || setns(space, CLONE_NEWNS) < 0)
        return -1;
    int fds[2] = {openat(proc, "self/mountinfo", O_RDONLY | O_CLOEXEC), open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (fds[0] < 0 || fds[1] < 0)
        return -1;
    return fds_send(channel, 0, fds, 2);
}

static int one_clone(int channel, const char *path)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
    int result = fd < 0 ? fds_send(channel, errno, NULL, 0) : fds_send(channel, 0, &fd, 1);
    close(fd);
    return result;
}

static _Noreturn void visitor_main(int space, int channel)
{
    char path[PATH_BYTES + 1];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (enter(space, channel) < 0)
        _exit(fds_send(channel, errno ? errno : EIO, NULL, 0) < 0);
    for (ssize_t n; (n = recv(channel, path, PATH_BYTES, 0)) > 0;) {
        path[n] = 0;
        if (one_clone(channel, path) < 0)
            break;
    }
    _exit(0);
}

int visitor_start(int space, struct visitor *out, struct buf *mounts, struct err *e)
{
    int ends[2], fds[2];
    char path[64];
    *out = (struct visitor){.channel = -1, .root = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(e, "socketpair");
    out->pid = fork();
    if (out->pid == 0) {
        close(ends[0]);
        visitor_main(space, ends[1]);
    }
    close(ends[1]);
    out->channel = ends[0];
    if (out->pid < 0)
        return err_errno(e, "fork");
    if (fds_receive(out->channel, fds, 2, e) < 0)
        return -1;
    AUTO_CLOSE int info = fds[0];
    out->root = fds[1];
    snprintf(path, sizeof path, "/proc/self/fd/%d", info);
    buf_free(mounts);
    for (;;) { /* not opened anew: that would be our own */
        char piece[65536];
        ssize_t n = read(info, piece, sizeof piece);
        if (n < 0)
            return err_errno(e, "read the mounts of a namespace");
        if (n == 0 || mounts->len > MOUNTINFO_MAX)
            break;
        buf_add(mounts, piece, (size_t)n);
    }
    buf_add(mounts, "", 1);
    return 0;
}

int visitor_clone(const struct visitor *v, const char *path, struct err *e)
{
    int fd;
    if (send(v->channel, path, strlen(path), MSG_NOSIGNAL) < 0)
        return err_errno(e, "ask the helper in a namespace of the job");
    return fds_receive(v->channel, &fd, 1, e) < 0 ? -1 : fd;
}

void visitor_end(struct visitor *v)
{
    cleanup_close(&v->root);
    cleanup_close(&v->channel);
    if (v->pid <= 0)
        return;
    kill(v->pid, SIGKILL);
    while (waitpid(v->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    v->pid = 0;
}

/* ---- a user namespace: entered for a moment, to read its maps as its parent names them */
static _Noreturn void maps_main(int space, int out)
{
    static const char *const names[] = {"self/uid_map", "self/gid_map", "self/setgroups"};
    struct err ignored;
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (proc < 0 || setns(space, CLONE_NEWUSER) < 0)
        _exit(1);
    for (size_t k = 0; k < ARRAY_LENGTH(names); k++) {
        AUTO_BUF struct buf text = {0};
        uint64_t len;
        if (io_slurp(proc, names[k], &text, 1u << 16, &ignored) < 0)
            _exit(1);
        len = text.len;
        if (io_write_all(out, &len, sizeof len, &ignored) < 0 || io_write_all(out, text.data, len, &ignored) < 0)
            _exit(1);
    }
    _exit(0);
}

static int text_receive(int from, struct buf *out, struct err *e)
{
    uint64_t len;
    char text[65536];
    if (io_read_all(from, &len, sizeof len, e) < 0)
        return -1;
    if (len >= sizeof text)
        return err_set(e, E_UNSUPPORTED, "maps of a user namespace that are too long");
    if (io_read_all(from, text, len, e) < 0)
        return -1;
    text[len] = 0;
    buf_add(out, text, len + 1);
    return 0;
}

int visitor_maps(int space, struct buf *uids, struct buf *gids, struct buf *setgroups, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t child = fork();
    if (child == 0)
        maps_main(space, ends[1]);
    close(ends[1]);
    AUTO_CLOSE int from = ends[0];
    if (child < 0)
        return err_errno(e, "fork");
    int result = text_receive(from, uids, e) < 0 || text_receive(from, gids, e) < 0 || text_receive(from, setgroups, e) < 0 ? -1 : 0;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return result < 0 ? err_wrap(e, "maps of a user namespace") : 0;
}
