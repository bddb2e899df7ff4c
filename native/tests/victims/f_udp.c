/* UDP: several multicast groups of both families with and without chosen sources, UDP-Lite, corked and connected sockets, broadcast, datagrams
 * that wait, a refusal that nobody has read, options of the socket, IP and IPv6 level.
 * COVERAGE: UDP and UDP-Lite sockets | captured | with datagrams that wait
 * COVERAGE: multicast groups of a socket | captured | with their lists of sources
 * COVERAGE: UDP socket with an error that was not read | differs | it comes back as ECONNREFUSED */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#include "victim.h"

#ifndef UDPLITE_RECV_CSCOV
#define UDPLITE_RECV_CSCOV 11
#endif

static struct sockaddr_in loopback(in_port_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}
static int bound(int family, int protocol, in_port_t *port)
{
    struct sockaddr_in6 any = {.sin6_family = (sa_family_t)family};
    socklen_t len = sizeof any;
    int fd = socket(family, SOCK_DGRAM, protocol);
    MUST(fd >= 0 && bind(fd, (void *)&any, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof any) == 0);
    MUST(getsockname(fd, (void *)&any, &len) == 0);
    *port = any.sin6_port;
    return fd;
}
static void set(int fd, int level, int name, int value)
{
    MUST(setsockopt(fd, level, name, &value, sizeof value) == 0);
}
static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    MUST(getsockopt(fd, level, name, &value, &len) == 0);
    return value;
}

static struct group_filter group(int family, const char *text)
{
    struct group_filter f = {.gf_interface = if_nametoindex("lo"), .gf_fmode = MCAST_EXCLUDE};
    if (family == AF_INET) {
        struct sockaddr_in a = {.sin_family = AF_INET};
        MUST(inet_pton(AF_INET, text, &a.sin_addr) == 1);
        memcpy(&f.gf_group, &a, sizeof a);
    } else {
        struct sockaddr_in6 a = {.sin6_family = AF_INET6};
        MUST(inet_pton(AF_INET6, text, &a.sin6_addr) == 1);
        memcpy(&f.gf_group, &a, sizeof a);
    }
    return f;
}
static void join(int fd, int family, const char *text)
{
    struct group_filter f = group(family, text);
    struct group_req request = {.gr_interface = f.gf_interface, .gr_group = f.gf_group};
    MUST(setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
}
static void join_source(int fd, const char *text, const char *from)
{
    struct group_filter f = group(AF_INET, text), source = group(AF_INET, from);
    struct group_source_req request = {.gsr_interface = f.gf_interface, .gsr_group = f.gf_group, .gsr_source = source.gf_group};
    MUST(setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &request, sizeof request) == 0);
}
/* -1 not joined, else how many sources */
static int sources(int fd, int family, const char *text, uint32_t *mode)
{
    struct group_filter f = group(family, text);
    socklen_t len = sizeof f;
    f.gf_numsrc = 1;
    if (getsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_MSFILTER, &f, &len) < 0)
        return -1;
    *mode = f.gf_fmode;
    return (int)f.gf_numsrc;
}

static int many, many6, lite, refused, corked, plain, target;
static in_port_t many_port, many6_port, lite_port, plain_port, target_port;

static void send_to(int from, in_port_t port, const char *text)
{
    struct sockaddr_in to = loopback(port);
    MUST(sendto(from, text, strlen(text), 0, (void *)&to, sizeof to) == (ssize_t)strlen(text));
}
static void take(int fd, const char *text)
{
    char got[64] = "";
    MUST(recv(fd, got, sizeof got, 0) == (ssize_t)strlen(text) && !memcmp(got, text, strlen(text)));
}
static void await_error(int fd)
{
    struct pollfd p = {.fd = fd};
    MUST(poll(&p, 1, 5000) == 1 && p.revents & POLLERR);
}

static void set_up(void)
{
    in_port_t port;
    many = bound(AF_INET, 0, &many_port), many6 = bound(AF_INET6, 0, &many6_port), lite = bound(AF_INET, IPPROTO_UDPLITE, &lite_port);
    plain = bound(AF_INET, 0, &plain_port), refused = bound(AF_INET, 0, &port), corked = bound(AF_INET, 0, &port);
    target = bound(AF_INET, 0, &target_port);
    join(many, AF_INET, "239.1.2.3"), join(many, AF_INET, "239.1.2.4"), join_source(many, "239.9.9.9", "127.0.0.1");
    join(many6, AF_INET6, "ff15::77");
    set(lite, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 8);
    set(corked, IPPROTO_UDP, UDP_CORK, 1), set(plain, SOL_SOCKET, SO_BROADCAST, 1), set(plain, IPPROTO_UDP, UDP_GRO, 1);
    set(many6, IPPROTO_IP, IP_RECVTTL, 1), set(many6, IPPROTO_IPV6, IPV6_DONTFRAG, 1), set(plain, IPPROTO_IP, IP_RECVOPTS, 1);
    int from = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    send_to(from, lite_port, "lite");
    close(from);
    int nobody = bound(AF_INET, 0, &port);
    struct sockaddr_in to = loopback(port), there = loopback(target_port);
    MUST(close(nobody) == 0 && connect(refused, (void *)&to, sizeof to) == 0 && send(refused, "x", 1, 0) == 1);
    MUST(connect(corked, (void *)&there, sizeof there) == 0);
    await_error(refused);
    send_to(plain, target_port, "waits");
}

static void check(void)
{
    uint32_t mode = 9;
    char c;
    MUST(sources(many, AF_INET, "239.1.2.3", &mode) == 0 && mode == MCAST_EXCLUDE && sources(many, AF_INET, "239.1.2.4", &mode) == 0);
    MUST(sources(many, AF_INET, "239.9.9.9", &mode) == 1 && mode == MCAST_INCLUDE && sources(plain, AF_INET, "239.1.2.3", &mode) < 0);
    MUST(sources(many6, AF_INET6, "ff15::77", &mode) == 0 && mode == MCAST_EXCLUDE);
    MUST(get(lite, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV) == 8 && get(corked, IPPROTO_UDP, UDP_CORK) == 1 && get(plain, IPPROTO_UDP, UDP_GRO) == 1);
    MUST(get(many6, IPPROTO_IP, IP_RECVTTL) == 1 && get(many6, IPPROTO_IPV6, IPV6_DONTFRAG) == 1 && get(plain, IPPROTO_IP, IP_RECVOPTS) == 1);
    MUST(get(plain, SOL_SOCKET, SO_BROADCAST) == 1);
    take(lite, "lite");
    take(target, "waits");
    MUST(send(corked, "a", 1, 0) == 1 && send(corked, "b", 1, 0) == 1 && recv(target, &c, 1, MSG_DONTWAIT) < 0);
    set(corked, IPPROTO_UDP, UDP_CORK, 0);
    take(target, "ab");
    MUST(recv(refused, &c, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED && recv(refused, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

int main(void)
{
    return victim_main(set_up, check);
}
