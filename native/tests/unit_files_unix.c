/* Unix sockets of all types: pairs, named, listening, abstract, queues, halves, peers that are gone, waiting connections.
 * COVERAGE: Unix socket: abstract name, half closed, peer gone | captured | */
#include <poll.h>
#include <sys/un.h>

#include "files_harness.h"

static socklen_t address(struct sockaddr_un *a, const char *name)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t len = name[0] == '@' ? strlen(name) : strlen(name) + 1;
    memcpy(a->sun_path, name, strlen(name));
    if (name[0] == '@')
        a->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static int named(int type, const char *name)
{
    struct sockaddr_un a;
    socklen_t len = address(&a, name);
    int fd = socket(AF_UNIX, type, 0);
    if (name[0] != '@')
        unlink(name);
    MUST(fd >= 0 && bind(fd, (void *)&a, len) == 0);
    return fd;
}

static void connect_to(int fd, const char *name)
{
    struct sockaddr_un a;
    socklen_t len = address(&a, name);
    MUST(connect(fd, (void *)&a, len) == 0);
}

static bool has_name(int fd, const char *name, bool peer)
{
    struct sockaddr_un got = {0}, a;
    socklen_t len = sizeof got, wanted = address(&a, name);
    int result = peer ? getpeername(fd, (void *)&got, &len) : getsockname(fd, (void *)&got, &len);
    return NEED(result == 0 && len == wanted && !memcmp(&got, &a, len));
}

static bool takes(int fd, const char *text)
{
    char got[256] = "";
    ssize_t n = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    return NEED(n == (ssize_t)strlen(text) && !memcmp(got, text, strlen(text)));
}

static bool passes(int from, int to, const char *text)
{
    return NEED(send(from, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)strlen(text)) && takes(to, text);
}

static struct ucred maker(int fd)
{
    struct ucred creds = {0};
    socklen_t len = sizeof creds;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creds, &len);
    return creds;
}

/* ---- pairs */
static void pairs_setup(void)
{
    int p[2], small = 8192;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0 && p[0] == 3);
    MUST(send(3, "first", 5, 0) == 5 && send(3, "second", 6, 0) == 6 && send(4, "back", 4, 0) == 4);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0 && send(5, "d1", 2, 0) == 2 && send(5, "d22", 3, 0) == 3 && send(6, "", 0, 0) == 0);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0 && send(7, "s1", 2, 0) == 2 && send(7, "s22", 3, 0) == 3);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && send(10, "last words", 10, 0) == 10 && close(10) == 0); /* 9 */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && p[0] == 10 && shutdown(10, SHUT_WR) == 0 && send(11, "half", 4, 0) == 4);
    MUST(setsockopt(10, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    sh->numbers[0] = (uint64_t)getpid();
    extra_start(NULL);
}

static bool pairs_verify(int which)
{
    int size = 0;
    socklen_t len = sizeof size;
    char got[8];
    if (which == 1)
        return true;
    if (!takes(4, "firstsecond") || !takes(3, "back") || !passes(3, 4, "more") || !NEED(fcntl(3, F_GETFL) & O_NONBLOCK))
        return false;
    if (!takes(6, "d1") || !takes(6, "d22") || !NEED(recv(5, got, 8, MSG_DONTWAIT) == 0) || !passes(6, 5, "dd") || !passes(5, 6, "ee"))
        return false;
    if (!takes(8, "s1") || !takes(8, "s22") || !passes(8, 7, "ss"))
        return false;
    if (!takes(9, "last words") || !NEED(recv(9, got, 8, MSG_DONTWAIT) == 0) || !NEED(send(9, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE))
        return false;
    if (!takes(10, "half") || !NEED(recv(11, got, 8, MSG_DONTWAIT) == 0) || !NEED(send(10, "x", 1, MSG_NOSIGNAL) < 0) || !passes(11, 10, "on"))
        return false;
    if (!NEED((uint64_t)maker(3).pid == sh->numbers[0] && (uint64_t)maker(8).pid == sh->numbers[0] && maker(3).uid == 0))
        return false;
    return NEED(getsockopt(10, SOL_SOCKET, SO_RCVBUF, &size, &len) == 0 && size == 16384);
}

/* ---- named streams */
static void streams_setup(void)
{
    int nl = named(SOCK_STREAM, "/tmp/unit-files.sock");
    MUST(nl == 3 && chmod("/tmp/unit-files.sock", 0640) == 0 && listen(3, 7) == 0);
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    connect_to(c, "/tmp/unit-files.sock");
    MUST(c == 4 && accept(3, NULL, NULL) == 5 && send(4, "to server", 9, 0) == 9 && send(5, "to client", 9, 0) == 9);
    int bound = named(SOCK_STREAM, "@unit-client");
    connect_to(bound, "/tmp/unit-files.sock");
    MUST(bound == 6 && accept(3, NULL, NULL) == 7);
    MUST(named(SOCK_SEQPACKET, "@unit-seq") == 8 && listen(8, 3) == 0);
    int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    connect_to(s, "@unit-seq");
    MUST(s == 9 && accept(8, NULL, NULL) == 10 && close(8) == 0 && send(9, "packet", 6, 0) == 6); /* the listener is gone */
    MUST(named(SOCK_STREAM, "/tmp/unit-files-unlinked.sock") == 8 && listen(8, 1) == 0 && unlink("/tmp/unit-files-unlinked.sock") == 0);
    int waiting = socket(AF_UNIX, SOCK_STREAM, 0);
    connect_to(waiting, "/tmp/unit-files.sock"); /* 11: never accepted */
    MUST(named(SOCK_STREAM, "@unit-idle") == 12);
    int gone = socket(AF_UNIX, SOCK_STREAM, 0);
    connect_to(gone, "/tmp/unit-files.sock");
    MUST(gone == 13);
    MUST(chdir("/tmp") == 0 && named(SOCK_STREAM, "unit-relative.sock") == 14 && listen(14, 1) == 0 && chdir("/") == 0);
    MUST(chdir("/tmp") == 0);
    sh->numbers[0] = (uint64_t)getpid();
}

static bool streams_verify(int which)
{
    struct stat st;
    struct pollfd state = {.fd = 3, .events = POLLIN};
    (void)which;
    for (int fd = 3; fd < 8; fd++)
        if (!NEED((uint64_t)maker(fd).pid == sh->numbers[0]))
            return false;
    if (!takes(5, "to server") || !takes(4, "to client") || !passes(4, 5, "more") || !has_name(5, "/tmp/unit-files.sock", false) ||
        !has_name(4, "/tmp/unit-files.sock", true))
        return false;
    if (!has_name(6, "@unit-client", false) || !has_name(7, "@unit-client", true) || !passes(7, 6, "x"))
        return false;
    if (!takes(10, "packet") || !has_name(10, "@unit-seq", false) || !passes(10, 9, "y") || !has_name(8, "/tmp/unit-files-unlinked.sock", false))
        return false;
    if (!NEED(stat("/tmp/unit-files.sock", &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0640) ||
        !NEED(lstat("/tmp/unit-files-unlinked.sock", &st) < 0) || !NEED(poll(&state, 1, 0) == 1))
        return false;
    int a = accept(3, NULL, NULL), b = accept(3, NULL, NULL);
    if (!NEED(a >= 0 && b >= 0) || !passes(a, 11, "first in") || !passes(b, 13, "second in") || !has_name(12, "@unit-idle", false))
        return false;
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    connect_to(c, "/tmp/unit-files.sock");
    int d = accept(3, NULL, NULL);
    if (!NEED(d >= 0) || !passes(c, d, "new"))
        return false;
    int rel = socket(AF_UNIX, SOCK_STREAM, 0);
    connect_to(rel, "/tmp/unit-relative.sock");
    return NEED(accept(14, NULL, NULL) >= 0) && has_name(14, "unit-relative.sock", false);
}

/* ---- datagrams */
static void datagrams_setup(void)
{
    MUST(named(SOCK_DGRAM, "@unit-log") == 3 && named(SOCK_DGRAM, "@unit-a") == 4);
    int nameless = socket(AF_UNIX, SOCK_DGRAM, 0), on = 1;
    connect_to(4, "@unit-log");
    connect_to(nameless, "@unit-log");
    MUST(nameless == 5 && send(4, "from a", 6, 0) == 6 && send(5, "from nobody", 11, 0) == 11);
    int dead = named(SOCK_DGRAM, "@unit-dead");
    connect_to(dead, "@unit-log");
    MUST(send(dead, "from the dead", 13, 0) == 13 && close(dead) == 0);
    MUST(named(SOCK_DGRAM, "@unit-x") == 6 && named(SOCK_DGRAM, "@unit-y") == 7);
    connect_to(6, "@unit-y");
    connect_to(7, "@unit-x");
    MUST(send(6, "x to y", 6, 0) == 6 && setsockopt(3, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
}

static bool from_name(int fd, const char *text, const char *name)
{
    struct sockaddr_un from = {0}, a;
    char got[64];
    socklen_t len = sizeof from, wanted = name ? address(&a, name) : 0;
    ssize_t n = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (void *)&from, &len);
    if (!NEED(n == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)n)))
        return false;
    return name ? NEED(len == wanted && !memcmp(&from, &a, len)) : NEED(len <= sizeof(sa_family_t));
}

static bool datagrams_verify(int which)
{
    int on = 0;
    socklen_t len = sizeof on;
    (void)which;
    if (!from_name(3, "from a", "@unit-a") || !from_name(3, "from nobody", NULL) || !from_name(3, "from the dead", "@unit-dead"))
        return false;
    if (!takes(7, "x to y") || !passes(7, 6, "back") || !passes(4, 3, "again") || !passes(5, 3, "too"))
        return false;
    return NEED(getsockopt(3, SOL_SOCKET, SO_PASSCRED, &on, &len) == 0 && on == 1);
}

/* ---- full queues: both directions written until they block */
static void full_setup(void)
{
    int p[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0 && p[0] == 3);
    for (ssize_t n; (n = send(3, sh->bytes, 1000, 0)) > 0;)
        sh->numbers[0] += (uint64_t)n;
    for (ssize_t n; (n = send(4, sh->bytes, 60000, 0)) > 0;)
        sh->numbers[1] += (uint64_t)n;
}

static uint64_t drain(int fd)
{
    uint64_t got = 0;
    for (ssize_t n; (n = recv(fd, sh->bytes, sizeof sh->bytes, MSG_DONTWAIT)) > 0;)
        got += (uint64_t)n;
    return got;
}

static bool full_verify(int which)
{
    (void)which;
    return NEED(drain(4) == sh->numbers[0]) && NEED(drain(3) == sh->numbers[1]) && passes(3, 4, "free again");
}

/* ---- descriptors on their way */
static void rights_setup(void)
{
    int p[2], fd;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && write(p[1], "plain", 5) == 5 && (fd = memfd_create("way", 0)) >= 0 && write(fd, "mem", 3) == 3);
    give(p[1], fd);
    MUST(write(p[1], "tail", 4) == 4 && close(fd) == 0);
}

static int bring(int from, const char *text, int *fd)
{
    char got[16] = "", control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {got, strlen(text)};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (!NEED(recvmsg(from, &m, MSG_DONTWAIT) == (ssize_t)strlen(text) && !strcmp(got, text)))
        return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return c != NULL;
}

static bool rights_verify(int which)
{
    char got[4] = "";
    int fd = -1;
    (void)which;
    return NEED(bring(3, "plain", &fd) == 0) && NEED(bring(3, "x", &fd) == 1) && NEED(bring(3, "tail", &fd) == 0) && NEED(pread(fd, got, 4, 0) == 3) &&
           NEED(!strcmp(got, "mem"));
}

/* Which nobody could watch from a queue. */
static void late_setup(void)
{
    struct iovec part = {(char[]){"x"}, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int p[2], fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && sendmsg(p[1], &m, 0) == 1 && close(fd) == 0);
}

static bool never(int which)
{
    (void)which;
    return false;
}

int main(void)
{
    static const struct test_case cases[] = {
        {"pairs with data, lost and half-shut ends", pairs_setup, pairs_verify, NULL},
        {"named stream and seqpacket sockets", streams_setup, streams_verify, NULL},
        {"datagrams from the named, the nameless and the dead", datagrams_setup, datagrams_verify, NULL},
        {"queues that are full", full_setup, full_verify, NULL},
        {"a descriptor on its way, between bytes", rights_setup, rights_verify, NULL},
        {"a pidfd on its way", late_setup, never, "SCM_RIGHTS"},
    };
    return cases_run(cases, ARRAY_LENGTH(cases));
}
