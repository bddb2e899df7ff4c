/* TCP over loopback with both ends in the pod (as much in flight as fits, halves shut, listeners, attempts), UDP with waiting
 * datagrams, netlink, options of sockets. */
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <linux/sockios.h>

#include "files_harness.h"

static const struct sockaddr_in loopback = {.sin_family = AF_INET};

static struct sockaddr_in at_port(uint16_t port)
{
    struct sockaddr_in a = loopback;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    return a;
}

static int listener(uint16_t port, int backlog)
{
    struct sockaddr_in a = at_port(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    MUST(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    MUST(bind(fd, (void *)&a, sizeof a) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static void tcp_pair(int listening, uint16_t port, int *client, int *server)
{
    struct sockaddr_in a = at_port(port);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    MUST(*client >= 0 && connect(*client, (void *)&a, sizeof a) == 0);
    *server = accept(listening, NULL, NULL);
    MUST(*server >= 0);
}

static bool takes(int fd, const char *text, int timeout_ms)
{
    char got[256] = "";
    size_t len = strlen(text), at = 0;
    struct pollfd state = {.fd = fd, .events = POLLIN};
    while (at < len) {
        if (!NEED(poll(&state, 1, timeout_ms) == 1))
            return false;
        ssize_t n = recv(fd, got + at, len - at, MSG_DONTWAIT);
        if (!NEED(n > 0))
            return false;
        at += (size_t)n;
    }
    return NEED(!memcmp(got, text, len));
}

static bool passes(int from, int to, const char *text)
{
    return NEED(send(from, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)strlen(text)) && takes(to, text, 5000);
}

static bool at_end(int fd)
{
    char byte;
    struct pollfd state = {.fd = fd, .events = POLLIN};
    return NEED(poll(&state, 1, 5000) == 1) && NEED(recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

static void option_set(int fd, int level, int name, int value)
{
    MUST(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

/* ---- plain */
static void plain_setup(void)
{
    int c, s;
    struct linger linger = {1, 3};
    MUST(listener(7000, 9) == 3);
    tcp_pair(3, 7000, &c, &s); /* 4, 5 */
    MUST(send(c, "to server", 9, 0) == 9 && send(s, "to client", 9, 0) == 9 && fcntl(c, F_SETFL, O_NONBLOCK) == 0);
    option_set(c, IPPROTO_TCP, TCP_NODELAY, 1);
    option_set(c, SOL_SOCKET, SO_KEEPALIVE, 1);
    option_set(c, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    option_set(c, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    option_set(c, SOL_SOCKET, SO_REUSEADDR, 1);
    option_set(s, SOL_SOCKET, SO_RCVBUF, 50000);
    MUST(setsockopt(s, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    MUST(socket(AF_INET, SOCK_STREAM, 0) == 6);
    extra_start(NULL);
}

static bool plain_verify(int which)
{
    int c, s;
    if (which == 1)
        return true;
    if (!takes(5, "to server", 0) || !takes(4, "to client", 0) || !passes(4, 5, "more") || !passes(5, 4, "back"))
        return false;
    if (!NEED(option(4, IPPROTO_TCP, TCP_NODELAY) == 1) || !NEED(option(4, SOL_SOCKET, SO_KEEPALIVE) == 1) ||
        !NEED(option(4, IPPROTO_TCP, TCP_KEEPIDLE) == 77) || !NEED(option(4, IPPROTO_TCP, TCP_USER_TIMEOUT) == 12345) ||
        !NEED(option(4, SOL_SOCKET, SO_REUSEADDR) == 1) || !NEED(option(5, SOL_SOCKET, SO_RCVBUF) == 100000) ||
        !NEED(option(3, SOL_SOCKET, SO_REUSEADDR) == 1) || !NEED(option(5, IPPROTO_TCP, TCP_NODELAY) == 0))
        return false;
    if (!NEED(fcntl(4, F_GETFL) & O_NONBLOCK))
        return false;
    tcp_pair(3, 7000, &c, &s);
    struct sockaddr_in a = at_port(7000);
    return passes(c, s, "new") && NEED(connect(6, (void *)&a, sizeof a) == 0);
}

/* ---- queues filled until both block */
static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}

static void fill(int fd, uint64_t *sent, size_t step)
{
    for (;;) {
        for (size_t i = 0; i < step; i++)
            sh->bytes[i] = (char)pattern(*sent + i);
        ssize_t n = send(fd, sh->bytes, step, MSG_DONTWAIT);
        if (n <= 0)
            return;
        *sent += (uint64_t)n;
    }
}

/* No network lock here: what is on its way must have arrived, or the two ends are captured at different times. */
static void settle(int c, int s)
{
    for (int same = 0, last[4] = {0}; same < 10; usleep(20000)) {
        int now[4] = {0};
        MUST(ioctl(c, SIOCOUTQ, &now[0]) == 0 && ioctl(s, SIOCOUTQ, &now[1]) == 0 && ioctl(c, FIONREAD, &now[2]) == 0 && ioctl(s, FIONREAD, &now[3]) == 0);
        same = memcmp(now, last, sizeof now) ? 0 : same + 1;
        memcpy(last, now, sizeof now);
    }
}

static void full_setup(void)
{
    int c, s;
    MUST(listener(7001, 1) == 3);
    tcp_pair(3, 7001, &c, &s);
    for (int i = 0; i < 3; i++) {
        fill(c, &sh->numbers[0], 65536);
        fill(s, &sh->numbers[1], 3000);
        usleep(50000);
    }
    settle(c, s);
}

static bool drain(int fd, uint64_t total)
{
    static uint8_t data[1 << 16];
    struct pollfd state = {.fd = fd, .events = POLLIN};
    for (uint64_t got = 0; got < total;) {
        if (!NEED(poll(&state, 1, 10000) == 1))
            return false;
        ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (!NEED(n > 0))
            return false;
        for (ssize_t i = 0; i < n; i++)
            if (!NEED(data[i] == pattern(got + (uint64_t)i)))
                return false;
        got += (uint64_t)n;
    }
    return NEED(recv(fd, data, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

static bool full_verify(int which)
{
    (void)which;
    return drain(5, sh->numbers[0]) && drain(4, sh->numbers[1]) && passes(4, 5, "free") && passes(5, 4, "again");
}

/* ---- halves */
static void halves_setup(void)
{
    int c, s;
    MUST(listener(7002, 5) == 3);
    tcp_pair(3, 7002, &c, &s); /* 4, 5: the client has shut; data before it */
    MUST(send(4, "and then no more", 16, 0) == 16 && shutdown(4, SHUT_WR) == 0);
    tcp_pair(3, 7002, &c, &s); /* 6, 7: the server has closed, the client has not read */
    MUST(send(7, "goodbye", 7, 0) == 7 && close(7) == 0);
    tcp_pair(3, 7002, &c, &s); /* 7, 8: both shut, neither closed; both read to the end */
    MUST(shutdown(7, SHUT_WR) == 0 && shutdown(8, SHUT_WR) == 0);
    tcp_pair(3, 7002, &c, &s); /* 9, 10: shut, then the other side closed too: data waits in a closed socket */
    MUST(shutdown(9, SHUT_WR) == 0 && send(10, "output", 6, 0) == 6 && close(10) == 0);
    tcp_pair(3, 7002, &c, &s); /* 10, 11: receiving half shut by hand */
    MUST(shutdown(10, SHUT_RD) == 0);
    usleep(100000);
}

static bool halves_verify(int which)
{
    (void)which;
    if (!takes(5, "and then no more", 5000) || !at_end(5) || !passes(5, 4, "reply") || !NEED(send(4, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE))
        return false;
    if (!takes(6, "goodbye", 5000) || !at_end(6) || !at_end(7) || !at_end(8) || !takes(9, "output", 5000) || !at_end(9))
        return false;
    return at_end(10) && passes(10, 11, "still") && NEED(close(4) == 0) && at_end(5);
}

/* ---- IPv6 and mapped addresses */
static void v6_setup(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(7003), .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(7003), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    MUST(fd == 3 && bind(3, (void *)&a, sizeof a) == 0 && listen(3, 5) == 0);
    MUST(socket(AF_INET6, SOCK_STREAM, 0) == 4 && connect(4, (void *)&to, sizeof to) == 0 && accept(3, NULL, NULL) == 5);
    struct sockaddr_in v4 = at_port(7003);
    MUST(socket(AF_INET, SOCK_STREAM, 0) == 6 && connect(6, (void *)&v4, sizeof v4) == 0 && accept(3, NULL, NULL) == 7);
    MUST(send(4, "six", 3, 0) == 3 && send(7, "four", 4, 0) == 4);
}

static bool v6_verify(int which)
{
    (void)which;
    return takes(5, "six", 0) && takes(6, "four", 0) && passes(5, 4, "back") && passes(6, 7, "there");
}

/* ---- busy */
static void waiting_setup(void)
{
    struct sockaddr_in a = at_port(7004);
    MUST(listener(7004, 5) == 3 && socket(AF_INET, SOCK_STREAM, 0) == 4 && connect(4, (void *)&a, sizeof a) == 0);
}

/* ---- an attempt that nobody answers */
static void attempt_setup(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0xc0000201)};
    MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) == 3 && connect(3, (void *)&to, sizeof to) < 0 && errno == EINPROGRESS);
}

static bool attempt_verify(int which)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    struct pollfd state = {.fd = 3, .events = POLLOUT};
    (void)which;
    return NEED(getsockopt(3, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_SYN_SENT) && NEED(poll(&state, 1, 0) == 0) &&
           NEED(fcntl(3, F_GETFL) & O_NONBLOCK);
}

static bool never(int which)
{
    (void)which;
    return false;
}

/* ---- UDP */
static void udp_setup(void)
{
    struct sockaddr_in a = at_port(7100), b = at_port(7101), any = {.sin_family = AF_INET, .sin_port = htons(7102)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(7103), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 3 && bind(3, (void *)&a, sizeof a) == 0);
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 4 && bind(4, (void *)&b, sizeof b) == 0);
    MUST(sendto(4, "one", 3, 0, (void *)&a, sizeof a) == 3 && sendto(4, "", 0, 0, (void *)&a, sizeof a) == 0);
    MUST(sendto(4, sh->bytes, 40000, 0, (void *)&a, sizeof a) == 40000);
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 5 && bind(5, (void *)&any, sizeof any) == 0 && connect(5, (void *)&a, sizeof a) == 0);
    MUST(sendto(3, "to any", 6, 0, (void *)&(struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(7102), .sin_addr = a.sin_addr},
                sizeof a) == 6);
    MUST(socket(AF_INET6, SOCK_DGRAM, 0) == 6 && bind(6, (void *)&six, sizeof six) == 0);
    MUST(sendto(6, "six!!", 5, 0, (void *)&six, sizeof six) == 5 && socket(AF_INET6, SOCK_DGRAM, 0) == 7);
    option_set(4, SOL_SOCKET, SO_BROADCAST, 1);
}

static bool udp_takes(int fd, size_t len, uint16_t from_port)
{
    static char got[65536];
    struct sockaddr_in6 from = {0};
    socklen_t from_len = sizeof from;
    ssize_t n = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (void *)&from, &from_len);
    return NEED(n == (ssize_t)len) && NEED(ntohs(from.sin6_port) == from_port);
}

static bool udp_verify(int which)
{
    struct sockaddr_in a = at_port(7100);
    (void)which;
    if (!udp_takes(3, 3, 7101) || !udp_takes(3, 0, 7101) || !udp_takes(3, 40000, 7101) || !udp_takes(5, 6, 7100) || !udp_takes(6, 5, 7103))
        return false;
    return NEED(sendto(4, "two", 3, 0, (void *)&a, sizeof a) == 3) && udp_takes(3, 3, 7101) && NEED(send(5, "x", 1, 0) == 1) &&
           udp_takes(3, 1, 7102) && NEED(option(4, SOL_SOCKET, SO_BROADCAST) == 1);
}

static void multicast_setup(void)
{
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xe0010203), .imr_ifindex = 1};
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 3 && setsockopt(3, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0);
}

/* Only a member can leave. */
static bool multicast_verify(int which)
{
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xe0010203), .imr_ifindex = 1};
    (void)which;
    return NEED(setsockopt(3, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group) == 0) &&
           NEED(setsockopt(3, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group) < 0);
}

/* ---- filters */
static void filter_setup(void)
{
    struct sock_filter nothing[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program = {1, nothing};
    struct sockaddr_in a = at_port(7110);
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 3 && bind(3, (void *)&a, sizeof a) == 0);
    MUST(setsockopt(3, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    option_set(3, SOL_SOCKET, SO_LOCK_FILTER, 1);
    MUST(socket(AF_INET, SOCK_DGRAM, 0) == 4);
}

static bool filter_verify(int which)
{
    struct sockaddr_in a = at_port(7110);
    struct pollfd state = {.fd = 3, .events = POLLIN};
    (void)which;
    return NEED(sendto(4, "dropped", 7, 0, (void *)&a, sizeof a) == 7) && NEED(poll(&state, 1, 50) == 0) &&
           NEED(option(3, SOL_SOCKET, SO_LOCK_FILTER) == 1);
}

/* ---- netlink */
static void netlink_setup(void)
{
    struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    socklen_t len = sizeof a;
    MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) == 3 && bind(3, (void *)&a, sizeof a) == 0);
    MUST(getsockname(3, (void *)&a, &len) == 0);
    sh->numbers[0] = a.nl_pid;
    MUST(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE) == 4);
}

static bool netlink_verify(int which)
{
    struct sockaddr_nl a;
    socklen_t len = sizeof a;
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } ask = {.head = {sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}};
    (void)which;
    return NEED(getsockname(3, (void *)&a, &len) == 0 && a.nl_pid == sh->numbers[0] && a.nl_groups == RTMGRP_LINK) &&
           NEED(send(4, &ask, sizeof ask, 0) == sizeof ask) && NEED(recv(4, sh->bytes, sizeof sh->bytes, 0) > 100);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"TCP with data and options", plain_setup, plain_verify, NULL},
        {"TCP with full queues both ways", full_setup, full_verify, NULL},
        {"TCP with shut halves", halves_setup, halves_verify, NULL},
        {"TCP over IPv6 and mapped addresses", v6_setup, v6_verify, NULL},
        {"a TCP connection that was not accepted", waiting_setup, never, "not accepted"},
        {"a TCP connection that nobody answers yet", attempt_setup, attempt_verify, NULL},
        {"UDP with waiting datagrams", udp_setup, udp_verify, NULL},
        {"a multicast group", multicast_setup, multicast_verify, NULL},
        {"a socket with a packet filter", filter_setup, filter_verify, NULL},
        {"netlink", netlink_setup, netlink_verify, NULL},
    };
    return cases_run(cases, ARRAY_LENGTH(cases));
}
