/* Who is at the other end of Unix sockets: SO_PEERCRED of pairs, connections and listeners made by different processes, credentials of messages
 * that wait, from parent and child; a connection whose other side went away without reading all (an error that nobody has read).
 * COVERAGE: SO_PEERCRED and SCM_CREDENTIALS | captured | also of processes that have ended meanwhile
 * COVERAGE: Unix socket with an error that was not read | captured | */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "victim.h"

static const struct sockaddr_un place = {AF_UNIX, "/tmp/creds"}, box_place = {AF_UNIX, "\0creds-box"};
static int listener, accepted, box, stream[2], reset[2], pair[2];
static pid_t child;

static pid_t peer(int fd)
{
    struct ucred c = {0};
    socklen_t len = sizeof c;
    MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0 && c.uid == getuid() && c.gid == getgid());
    return c.pid;
}
static void take(int fd, const char *text, pid_t from)
{
    char got[64] = "", room[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {got, strlen(text)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct ucred c;
    MUST(recvmsg(fd, &header, MSG_DONTWAIT) == (ssize_t)strlen(text) && !strcmp(got, text) && CMSG_FIRSTHDR(&header));
    memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof c);
    MUST(c.pid == from && c.uid == getuid() && c.gid == getgid());
}
static void say(int fd, const char *text)
{
    MUST(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static _Noreturn void child_run(int ready)
{
    close(reset[0]), close(reset[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), to_box = socket(AF_UNIX, SOCK_DGRAM, 0);
    signal(SIGUSR1, SIG_IGN);
    MUST(connect(fd, (const void *)&place, sizeof place) == 0 && peer(fd) == getppid());
    MUST(connect(to_box, (const void *)&box_place, sizeof box_place) == 0);
    say(to_box, "from the child");
    say(stream[1], "of the child");
    MUST(write(ready, "x", 1) == 1);
    char c;
    while (read(fd, &c, 1) < 0 && errno == EINTR)
        ;
    _exit(peer(fd) == getppid() && peer(stream[1]) == getppid() ? 0 : 1);
}

static void set_up(void)
{
    int on = 1, ready[2];
    char c;
    listener = socket(AF_UNIX, SOCK_STREAM, 0), box = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(bind(listener, (const void *)&place, sizeof place) == 0 && listen(listener, 5) == 0 && bind(box, (const void *)&box_place, sizeof box_place) == 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, reset) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    MUST(setsockopt(box, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 && setsockopt(stream[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    MUST(pipe(ready) == 0);
    say(stream[1], "of the parent");
    child = fork();
    if (child == 0)
        child_run(ready[1]);
    MUST(read(ready[0], &c, 1) == 1 && (accepted = accept(listener, NULL, NULL)) >= 0 && peer(accepted) == child);
    say(reset[1], "kept");
    say(reset[0], "never read");
    MUST(close(reset[1]) == 0);
}

static void check(void)
{
    struct pollfd p = {.fd = reset[0]};
    char text[64];
    int status;
    take(box, "from the child", child);
    take(stream[0], "of the parent", getpid());
    take(stream[0], "of the child", child);
    MUST(peer(accepted) == child && peer(stream[0]) == getpid() && peer(pair[0]) == getpid() && peer(listener) == getpid());
    MUST(poll(&p, 1, 0) == 1 && p.revents & POLLERR);
    MUST(recv(reset[0], text, 64, MSG_DONTWAIT) == 4 && recv(reset[0], text, 64, MSG_DONTWAIT) < 0 && errno == ECONNRESET && recv(reset[0], text, 64, 0) == 0);
    say(accepted, "x");
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    return victim_main(set_up, check);
}
