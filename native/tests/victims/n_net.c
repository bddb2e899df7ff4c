/* Sockets in a network namespace that an ordinary user makes in a user namespace, over its loopback device: TCP of both families with data in both
 * queues, half shut, a listener that goes on accepting, an error not read; UDP with datagrams that wait; netlink. The same port is held in the pod's own
 * network, and neither hears of the other.
 * COVERAGE: TCP, UDP and netlink sockets in a network namespace that the job made | captured | with their queues; not where an address of theirs is gone */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "spaces_net.h"

static const struct sockaddr_in place4 = {.sin_family = AF_INET, .sin_port = 0x5d1b /* 7005 */, .sin_addr.s_addr = 0x100007f};
static const struct sockaddr_in6 place6 = {.sin6_family = AF_INET6, .sin6_port = 0x5e1b, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
enum { FILL = 300000 };

struct talk {
    int listener, client, server;
    size_t sent, back;
};

static char pattern(size_t at)
{
    return (char)(at * 2654435761u >> 13);
}

/* Until the other side takes no more, or `most`. */
static size_t fill(int fd, size_t most)
{
    char data[1000];
    size_t sent = 0;
    for (ssize_t n = 1; n > 0 && sent < most; sent += n > 0 ? (size_t)n : 0) {
        for (size_t k = 0; k < sizeof data; k++)
            data[k] = pattern(sent + k);
        n = send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return sent;
}

static void drain(int fd, size_t count)
{
    char data[1000];
    for (size_t got = 0; got < count;) {
        ssize_t n = recv(fd, data, sizeof data < count - got ? sizeof data : count - got, 0);
        MUST(n > 0);
        for (ssize_t k = 0; k < n; k++)
            MUST(data[k] == pattern(got + (size_t)k));
        got += (size_t)n;
    }
}

static void join(int listener, const void *to, socklen_t len, int *client, int *server)
{
    *client = socket(((const struct sockaddr *)to)->sa_family, SOCK_STREAM, 0);
    MUST(*client >= 0 && connect(*client, to, len) == 0 && (*server = accept(listener, NULL, NULL)) >= 0);
}

static int listen_at(const void *to, socklen_t len)
{
    int fd = socket(((const struct sockaddr *)to)->sa_family, SOCK_STREAM, 0), on = 1;
    MUST(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(fd, to, len) == 0 && listen(fd, 7) == 0);
    return fd;
}

static struct talk talk_start(const void *to, socklen_t len)
{
    struct talk t = {.listener = listen_at(to, len)};
    join(t.listener, to, len, &t.client, &t.server);
    t.sent = fill(t.client, 64 * FILL);
    t.back = fill(t.server, FILL);
    MUST(shutdown(t.client, SHUT_WR) == 0);
    return t;
}

static void talk_check(const struct talk *t, const void *to, socklen_t len)
{
    int again, taken;
    char byte;
    drain(t->server, t->sent);
    MUST(recv(t->server, &byte, 1, 0) == 0 && send(t->server, "!", 1, 0) == 1);
    drain(t->client, t->back);
    MUST(recv(t->client, &byte, 1, 0) == 1 && byte == '!' && close(t->server) == 0 && recv(t->client, &byte, 1, 0) == 0);
    join(t->listener, to, len, &again, &taken);
    MUST(send(again, "y", 1, 0) == 1 && recv(taken, &byte, 1, 0) == 1 && byte == 'y');
}

struct mail {
    int server, connected;
    struct sockaddr_in from;
};

static struct mail mail_start(void)
{
    struct mail m = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_DGRAM, 0), {0}};
    socklen_t len = sizeof m.from;
    MUST(bind(m.server, (const void *)&place4, sizeof place4) == 0 && connect(m.connected, (const void *)&place4, sizeof place4) == 0);
    MUST(send(m.connected, "one", 3, 0) == 3 && send(m.connected, "three", 5, 0) == 5);
    MUST(getsockname(m.connected, (struct sockaddr *)&m.from, &len) == 0);
    return m;
}

static void mail_check(const struct mail *m)
{
    char data[16];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    MUST(recvfrom(m->server, data, sizeof data, 0, (struct sockaddr *)&from, &len) == 3 && memcmp(data, "one", 3) == 0 && from.sin_port == m->from.sin_port);
    MUST(recv(m->server, data, sizeof data, 0) == 5 && memcmp(data, "three", 5) == 0);
    MUST(sendto(m->server, "back", 4, 0, (struct sockaddr *)&from, len) == 4 && recv(m->connected, data, sizeof data, 0) == 4);
}

/* It may change what is in the namespace, and hears of it. */
static void netlink_check(int fd)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
             .link = {.ifi_index = 1, .ifi_flags = IFF_UP | IFF_ALLMULTI, .ifi_change = IFF_ALLMULTI}};
    char answer[8192];
    struct nlmsghdr head = {0};
    MUST(send(fd, &ask, sizeof ask, 0) == (ssize_t)sizeof ask);
    for (int told = 0, acknowledged = 0; !told || !acknowledged;) {
        MUST(recv(fd, answer, sizeof answer, 0) >= (ssize_t)sizeof head);
        memcpy(&head, answer, sizeof head);
        told |= head.nlmsg_type == RTM_NEWLINK;
        acknowledged |= head.nlmsg_type == NLMSG_ERROR;
        MUST(head.nlmsg_type != NLMSG_ERROR || ((struct nlmsgerr *)(void *)(answer + NLMSG_HDRLEN))->error == 0);
    }
}

static int refused(void)
{
    struct sockaddr_in nobody = place4;
    nobody.sin_port = htons(9);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    MUST(connect(fd, (const void *)&nobody, sizeof nobody) < 0);
    return fd;
}

static _Noreturn void boxed(int told, int go)
{
    char byte;
    become_networked();
    struct sockaddr_nl links = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    struct talk four = talk_start(&place4, sizeof place4), six = talk_start(&place6, sizeof place6);
    struct mail mail = mail_start();
    int error, failed = refused(), netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    socklen_t len = sizeof error;
    MUST(netlink >= 0 && bind(netlink, (struct sockaddr *)&links, sizeof links) == 0);
    MUST(write(told, "r", 1) == 1 && read(go, &byte, 1) == 1);
    talk_check(&four, &place4, sizeof place4);
    talk_check(&six, &place6, sizeof place6);
    mail_check(&mail);
    MUST(getsockopt(failed, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error);
    netlink_check(netlink);
    _exit(0);
}

int main(void)
{
    int go[2], told[2], status;
    char byte;
    MUST(pipe(go) == 0 && pipe(told) == 0);
    struct talk own = {.listener = listen_at(&place4, sizeof place4)};
    join(own.listener, &place4, sizeof place4, &own.client, &own.server);
    own.sent = fill(own.client, FILL);
    pid_t child = fork();
    if (child == 0) {
        close(own.listener), close(own.client), close(own.server);
        boxed(told[1], go[0]);
    }
    MUST(read(told[0], &byte, 1) == 1);
    victim_wait();
    MUST(write(go[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    drain(own.server, own.sent);
    join(own.listener, &place4, sizeof place4, &own.client, &own.server);
    MUST(send(own.client, "z", 1, 0) == 1 && recv(own.server, &byte, 1, 0) == 1);
    return victim_ok();
}
