/* Descriptors on their way in the queues of Unix sockets, most of them held by nobody else: a pipe's end between bytes of a stream, a file whose offset is
 * shared with one that stays, memory, a TCP listener and a connection with data, a socket that carries others in its own queue, one in its own.
 * COVERAGE: descriptors on their way (SCM_RIGHTS) | captured | also where nobody else holds them; an epoll set, inotify, pidfd or lock that nobody else holds is waited for */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "victim.h"

static int stream[2], box[2], own[2], kept_file, kept_reader, tcp_client, nested_peer, nested_reader;

static void give(int to, const char *text, const int *fds, size_t count)
{
    char room[CMSG_SPACE(8 * sizeof(int))] = "";
    struct iovec part = {(char *)text, strlen(text)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    MUST(sendmsg(to, &header, 0) == (ssize_t)part.iov_len);
}

/* At most `len` bytes, which must be this text and bring as many descriptors. */
static void take(int from, const char *text, size_t len, int *fds, size_t count)
{
    char got[64] = "", room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(8 * sizeof(int))];
    struct iovec part = {got, len};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    size_t found = 0;
    MUST(recvmsg(from, &header, MSG_DONTWAIT) == (ssize_t)strlen(text) && !memcmp(got, text, strlen(text)));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        struct ucred creds;
        if (c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&creds, CMSG_DATA(c), sizeof creds);
            MUST(creds.pid == getpid() && creds.uid == getuid());
            continue;
        }
        found = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        MUST(c->cmsg_type == SCM_RIGHTS && found == count);
        memcpy(fds, CMSG_DATA(c), found * sizeof(int));
    }
    MUST(found == count);
}

static void passes(int from, int to, const char *text)
{
    char got[64] = "";
    MUST(write(from, text, strlen(text)) == (ssize_t)strlen(text) && read(to, got, sizeof got) == (ssize_t)strlen(text) && !strcmp(got, text));
}

static void stream_fill(void)
{
    int p[2], on = 1;
    MUST(pipe(p) == 0 && setsockopt(stream[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    kept_reader = p[0];
    MUST(write(p[1], "before", 6) == 6 && write(stream[1], "plain", 5) == 5);
    give(stream[1], "x", &p[1], 1);
    MUST(write(stream[1], "tail", 4) == 4 && close(p[1]) == 0);
}

static void box_fill(void)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof place;
    int fds[5];
    MUST((kept_file = open("/tmp/rights", O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0 && write(kept_file, "0123456789", 10) == 10);
    fds[0] = kept_file;
    MUST((fds[1] = memfd_create("rights", 0)) >= 0 && write(fds[1], "memory", 6) == 6);
    fds[2] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(fds[2], (void *)&place, len) == 0 && listen(fds[2], 5) == 0 && getsockname(fds[2], (void *)&place, &len) == 0);
    tcp_client = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(tcp_client, (void *)&place, len) == 0 && (fds[3] = accept(fds[2], NULL, NULL)) >= 0);
    MUST(write(tcp_client, "to the one on its way", 21) == 21);
    MUST((fds[4] = open("/tmp", O_PATH)) >= 0);
    give(box[1], "one", fds, 3);
    give(box[1], "two", &fds[2], 3);
    for (int i = 1; i < 5; i++)
        MUST(close(fds[i]) == 0);
}

/* A socket that lies in a message and has, in its own queue, a pipe with data. */
static void nested_fill(void)
{
    int inner[2], p[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inner) == 0 && pipe(p) == 0 && write(p[1], "deep", 4) == 4);
    nested_reader = p[1];
    nested_peer = inner[1];
    give(inner[1], "n", &p[0], 1);
    give(box[1], "three", &inner[0], 1);
    MUST(close(inner[0]) == 0 && close(p[0]) == 0);
    give(own[1], "itself", &own[0], 1);
}

static void set_up(void)
{
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, box) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, own) == 0);
    stream_fill();
    box_fill();
    nested_fill();
}

static void stream_check(void)
{
    char got[16] = "";
    int fd;
    take(stream[0], "plain", 5, &fd, 0);
    take(stream[0], "x", 10, &fd, 1);
    MUST(read(stream[0], got, 10) == 4 && !strcmp(got, "tail"));
    MUST(read(kept_reader, got, 6) == 6 && !memcmp(got, "before", 6));
    passes(fd, kept_reader, "after");
    MUST(close(fd) == 0 && read(kept_reader, got, 1) == 0);
}

static void box_check(void)
{
    struct sockaddr_in place;
    socklen_t len = sizeof place;
    char got[64] = "";
    int fds[3], again[3], client = socket(AF_INET, SOCK_STREAM, 0), accepted;
    take(box[0], "one", 10, fds, 3);
    take(box[0], "two", 10, again, 3);
    MUST(lseek(kept_file, 3, SEEK_SET) == 3 && read(fds[0], got, 2) == 2 && !memcmp(got, "34", 2) && lseek(kept_file, 0, SEEK_CUR) == 5);
    MUST(pread(fds[1], got, 6, 0) == 6 && !memcmp(got, "memory", 6) && lseek(fds[1], 0, SEEK_CUR) == 6);
    MUST(getsockname(again[0], (void *)&place, &len) == 0 && connect(client, (void *)&place, len) == 0 && (accepted = accept(fds[2], NULL, NULL)) >= 0);
    passes(client, accepted, "new");
    MUST(read(again[1], got, sizeof got) == 21 && !memcmp(got, "to the one on its way", 21));
    passes(again[1], tcp_client, "back");
    MUST(fcntl(again[2], F_GETFL) & O_PATH);
}

static void nested_check(void)
{
    char got[16] = "";
    int fd, deep;
    take(box[0], "three", 10, &fd, 1);
    take(fd, "n", 10, &deep, 1);
    passes(nested_peer, fd, "peer");
    MUST(read(deep, got, 16) == 4 && !memcmp(got, "deep", 4));
    passes(nested_reader, deep, "more");
    take(own[0], "itself", 10, &fd, 1);
    passes(own[1], fd, "own");
}

int main(void)
{
    set_up();
    victim_ready();
    while (!asked)
        usleep(1000);
    stream_check();
    box_check();
    nested_check();
    return victim_ok();
}
