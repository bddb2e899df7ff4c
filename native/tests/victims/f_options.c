/* Options of sockets, each set to what is not its default and compared with what it was: TCP listeners that share a port, connections with a cork
 * and bytes behind it, keepalive, linger, user timeout, congestion control, buffer sizes, bound device, filter, IP options, IPv6 options; what
 * the handshake agreed on (window scale, SACK, timestamps, segment size).
 * COVERAGE: TCP options: cork, keepalive, linger, reuseport, congestion control, user timeout, IP options, bound device, filters | captured |
 * COVERAGE: TCP congestion window, round-trip times, socket cookies (SO_COOKIE), IPV6_V6ONLY of a connection | differs | measured and given anew
 * COVERAGE: urgent data that was sent and not acknowledged | differs | it arrives as ordinary data: nothing tells that it is urgent
 * COVERAGE: TCP window scale, SACK, timestamps, segment size | captured | as the handshake agreed on */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "victim.h"

#define VALUE_BYTES 64

struct option {
    int level, name;
};
static const struct option shown[] = {
    {SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_LINGER}, {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_PRIORITY}, {SOL_SOCKET, SO_SNDBUF}, {SOL_SOCKET, SO_RCVBUF}, {SOL_SOCKET, SO_RCVLOWAT}, {SOL_SOCKET, SO_RCVTIMEO},
    {SOL_SOCKET, SO_SNDTIMEO}, {SOL_SOCKET, SO_BINDTODEVICE}, {SOL_SOCKET, SO_DONTROUTE}, {SOL_SOCKET, SO_TIMESTAMP}, {SOL_SOCKET, SO_ZEROCOPY},
    {IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_CORK}, {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT}, {IPPROTO_TCP, TCP_LINGER2}, {IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT}, {IPPROTO_TCP, TCP_SAVE_SYN}, {IPPROTO_TCP, TCP_MAXSEG}, {IPPROTO_TCP, TCP_INQ},
    {IPPROTO_IP, IP_TOS}, {IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_OPTIONS}, {IPPROTO_IP, IP_RECVERR}, {IPPROTO_IP, IP_RECVTOS}, {IPPROTO_IP, IP_MINTTL},
    {IPPROTO_IP, IP_MTU_DISCOVER}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT}, {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IPV6, IPV6_TCLASS}, {IPPROTO_IPV6, IPV6_UNICAST_HOPS}, {IPPROTO_IPV6, IPV6_RECVPKTINFO}, {IPPROTO_IPV6, IPV6_DONTFRAG},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT}, {IPPROTO_IPV6, IPV6_MINHOPCOUNT},
};
enum { SHOWN = sizeof shown / sizeof *shown, SOCKETS = 12 };

static int sockets[SOCKETS], count;
static struct {
    socklen_t len;
    char bytes[VALUE_BYTES];
} before[SOCKETS][SHOWN];
static struct tcp_info agreed[SOCKETS];

static void set(int fd, int level, int name, int value)
{
    MUST(setsockopt(fd, level, name, &value, sizeof value) == 0);
}
static void common_set(int fd)
{
    struct linger linger = {1, 7};
    struct timeval time = {9, 500000};
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1), set(fd, SOL_SOCKET, SO_OOBINLINE, 1), set(fd, SOL_SOCKET, SO_PRIORITY, 3), set(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
    set(fd, SOL_SOCKET, SO_RCVLOWAT, 2), set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 100), set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 11);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4), set(fd, IPPROTO_TCP, TCP_SYNCNT, 3), set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 60000), set(fd, IPPROTO_TCP, TCP_INQ, 1);
    set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000), set(fd, IPPROTO_TCP, TCP_LINGER2, 20), set(fd, IPPROTO_IP, IP_TOS, 0x08), set(fd, IPPROTO_IP, IP_TTL, 33);
    MUST(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    MUST(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
}

static int listener(in_port_t *port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = *port};
    socklen_t len = sizeof any;
    int fd = sockets[count++] = socket(AF_INET6, SOCK_STREAM, 0);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1), set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0), set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5), set(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
    set(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20), set(fd, IPPROTO_TCP, TCP_MAXSEG, 1200);
    MUST(bind(fd, (void *)&any, sizeof any) == 0 && listen(fd, 9) == 0 && getsockname(fd, (void *)&any, &len) == 0);
    *port = any.sin6_port;
    return fd;
}

static void connection(int listening, in_port_t port, int pair[2])
{
    static const uint8_t record_route[] = {IPOPT_NOP, IPOPT_RR, 7, 4, 0, 0, 0, 0};
    struct sock_filter all[] = {{BPF_RET | BPF_K, 0, 0, 0xffffffff}};
    struct sock_fprog program = {1, all};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pair[0] = sockets[count++] = socket(AF_INET, SOCK_STREAM, 0);
    set(pair[0], SOL_SOCKET, SO_SNDBUF, 30000), set(pair[0], SOL_SOCKET, SO_RCVBUF, 50000);
    MUST(setsockopt(pair[0], IPPROTO_IP, IP_OPTIONS, record_route, sizeof record_route) == 0);
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0 && connect(pair[0], (void *)&to, sizeof to) == 0 && send(pair[0], "early", 5, 0) == 5);
    MUST((pair[1] = sockets[count++] = accept(listening, NULL, NULL)) >= 0);
    common_set(pair[0]), common_set(pair[1]);
    set(pair[1], IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), set(pair[1], IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), set(pair[1], IPPROTO_TCP, TCP_NODELAY, 1);
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 || errno == EPERM); /* some kernels: root only */
}

static void connection6(int listening, in_port_t port)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = sockets[count++] = socket(AF_INET6, SOCK_STREAM, 0);
    MUST(connect(fd, (void *)&to, sizeof to) == 0 && send(fd, "six", 3, 0) == 3 && (sockets[count++] = accept(listening, NULL, NULL)) >= 0);
    common_set(fd);
    set(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x40), set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
}

static void options_get(int which, int k, void *value, socklen_t *len)
{
    *len = VALUE_BYTES;
    memset(value, 0, VALUE_BYTES);
    if (getsockopt(sockets[which], shown[k].level, shown[k].name, value, len) < 0)
        *len = 0;
}
static struct tcp_info info(int fd)
{
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0);
    return i;
}

static void compare(void)
{
    char value[VALUE_BYTES];
    socklen_t len;
    for (int which = 0; which < count; which++) {
        for (int k = 0; k < SHOWN; k++) {
            options_get(which, k, value, &len);
            if (len != before[which][k].len || memcmp(value, before[which][k].bytes, VALUE_BYTES))
                printf("socket %d option %d/%d: %d, was %d\n", which, shown[k].level, shown[k].name, *(int *)(void *)value, *(int *)(void *)before[which][k].bytes), fail("an option");
        }
        struct tcp_info now = info(sockets[which]);
        MUST(now.tcpi_options == agreed[which].tcpi_options && now.tcpi_snd_wscale == agreed[which].tcpi_snd_wscale);
        MUST(now.tcpi_rcv_wscale == agreed[which].tcpi_rcv_wscale && now.tcpi_state == agreed[which].tcpi_state);
    }
}

int main(void)
{
    in_port_t port = 0;
    int pair[2];
    char text[64] = "";
    socklen_t filter = 0, filter_now = 0;
    int first = listener(&port);
    connection(first, port, pair);
    connection6(first, port);
    listener(&port); /* shares the port */
    set(sockets[count++] = socket(AF_INET6, SOCK_STREAM, 0), IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
    set(pair[0], IPPROTO_TCP, TCP_CORK, 1);
    MUST(send(pair[0], " corked", 7, 0) == 7);
    for (int which = 0; which < count; which++) {
        agreed[which] = info(sockets[which]);
        for (int k = 0; k < SHOWN; k++)
            options_get(which, k, before[which][k].bytes, &before[which][k].len);
    }
    MUST(getsockopt(pair[0], SOL_SOCKET, SO_GET_FILTER, NULL, &filter) == 0);
    victim_wait();
    compare();
    MUST(getsockopt(pair[0], SOL_SOCKET, SO_GET_FILTER, NULL, &filter_now) == 0 && filter_now == filter);
    set(pair[0], IPPROTO_TCP, TCP_CORK, 0);
    MUST(recv(pair[1], text, 12, MSG_WAITALL) == 12 && !strcmp(text, "early corked"));
    return victim_ok();
}
