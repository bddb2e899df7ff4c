/* Devices in a network namespace that an ordinary user makes in a user namespace: a veth pair, one end a port of a bridge, with addresses of both families,
 * routes, a rule, a neighbour that stays; asked of the kernel as a dump over netlink, which must say the same before and after. A socket is bound to a device,
 * a connection goes from one end's address over loopback routes, and the namespace can still be changed. What only passes (counters, timers, states) is left out.
 * COVERAGE: veth pairs, bridges and their ports in a network namespace that the job made | captured | same numbers, names, addresses, options; both ends in one namespace
 * COVERAGE: addresses, routes, routing rules and permanent neighbours there | captured |
 * COVERAGE: sysctls of a network namespace that the job made | captured | as in a new one: in a pod nobody may write them */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "spaces.h"

#define DUMP_MAX (1u << 20)

static int route_fd;
static struct {
    struct nlmsghdr head;
    char body[4096];
} ask;

/* ---- asking */
static void begin(unsigned short type, unsigned short flags, const void *header, size_t len)
{
    ask.head = (struct nlmsghdr){.nlmsg_len = (unsigned)NLMSG_LENGTH(NLMSG_ALIGN(len)), .nlmsg_type = type, .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags)};
    memset(ask.body, 0, sizeof ask.body);
    memcpy(ask.body, header, len);
}

static struct rtattr *attribute(unsigned short type, const void *data, size_t len)
{
    struct rtattr *a = (void *)((char *)&ask + NLMSG_ALIGN(ask.head.nlmsg_len));
    *a = (struct rtattr){(unsigned short)RTA_LENGTH(len), type};
    if (len)
        memcpy(RTA_DATA(a), data, len);
    ask.head.nlmsg_len = (unsigned)(NLMSG_ALIGN(ask.head.nlmsg_len) + RTA_ALIGN(a->rta_len));
    return a;
}

static void nest_end(struct rtattr *a)
{
    a->rta_len = (unsigned short)((char *)&ask + ask.head.nlmsg_len - (char *)a);
}

static void text(unsigned short type, const char *value)
{
    attribute(type, value, strlen(value) + 1);
}

static void number(unsigned short type, unsigned value)
{
    attribute(type, &value, sizeof value);
}

static void address(unsigned short type, int family, const char *value)
{
    char bytes[16];
    MUST(inet_pton(family, value, bytes) == 1);
    attribute(type, bytes, family == AF_INET ? 4 : 16);
}

static int told(void)
{
    char answer[8192];
    struct nlmsghdr head;
    int error;
    MUST(send(route_fd, &ask, ask.head.nlmsg_len, 0) == (ssize_t)ask.head.nlmsg_len && recv(route_fd, answer, sizeof answer, 0) >= (ssize_t)(sizeof head + sizeof error));
    memcpy(&head, answer, sizeof head);
    memcpy(&error, answer + sizeof head, sizeof error);
    MUST(head.nlmsg_type == NLMSG_ERROR);
    return -error;
}

#define ASKED(step) \
    do { \
        int error_ = (step, told()); \
        if (error_) \
            printf("%s: %s\n", #step, strerror(error_)); \
        MUST(!error_); \
    } while (0)

static void veth(const char *name, const char *other)
{
    struct ifinfomsg link = {0};
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    text(IFLA_IFNAME, name);
    struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
    text(IFLA_INFO_KIND, "veth");
    struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0), *peer = attribute(VETH_INFO_PEER, &link, sizeof link);
    text(IFLA_IFNAME, other);
    nest_end(peer);
    nest_end(data);
    nest_end(info);
}

static void bridge(const char *name)
{
    struct ifinfomsg link = {.ifi_index = 77};
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    text(IFLA_IFNAME, name);
    struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
    text(IFLA_INFO_KIND, "bridge");
    struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0);
    number(IFLA_BR_AGEING_TIME, 12300);
    nest_end(data);
    nest_end(info);
}

static void set(const char *name, unsigned flags, unsigned short type, const void *value, size_t len)
{
    struct ifinfomsg link = {.ifi_index = (int)if_nametoindex(name), .ifi_flags = flags, .ifi_change = flags};
    begin(RTM_NEWLINK, 0, &link, sizeof link);
    if (type)
        attribute(type, value, len);
}

static void port(const char *name)
{
    struct ifinfomsg link = {.ifi_index = (int)if_nametoindex(name)};
    unsigned char on = 1;
    begin(RTM_NEWLINK, 0, &link, sizeof link);
    struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
    text(IFLA_INFO_SLAVE_KIND, "bridge");
    struct rtattr *data = attribute(IFLA_INFO_SLAVE_DATA, NULL, 0);
    attribute(IFLA_BRPORT_ISOLATED, &on, 1);
    nest_end(data);
    nest_end(info);
}

static void address_give(const char *name, int family, const char *value, unsigned char bits)
{
    struct ifaddrmsg a = {.ifa_family = (unsigned char)family, .ifa_prefixlen = bits, .ifa_index = if_nametoindex(name)};
    begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &a, sizeof a);
    address(IFA_LOCAL, family, value);
    address(IFA_ADDRESS, family, value);
    if (family == AF_INET6)
        number(IFA_FLAGS, IFA_F_NODAD);
}

static void way(int family, const char *to, unsigned char bits, const char *over, unsigned metric)
{
    struct rtmsg r = {.rtm_family = (unsigned char)family, .rtm_dst_len = bits, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST};
    begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &r, sizeof r);
    address(RTA_DST, family, to);
    address(RTA_GATEWAY, family, over);
    number(RTA_PRIORITY, metric);
    struct rtattr *metrics = attribute(RTA_METRICS, NULL, 0);
    number(RTAX_MTU, 1300);
    nest_end(metrics);
}

static void rule(unsigned table)
{
    struct fib_rule_hdr r = {.family = AF_INET, .src_len = 24, .action = FR_ACT_TO_TBL};
    begin(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &r, sizeof r);
    address(FRA_SRC, AF_INET, "10.7.0.0");
    number(FRA_TABLE, table);
    number(FRA_PRIORITY, 1234);
    number(FRA_FWMARK, 9);
}

static void neighbour(const char *name, const char *value)
{
    struct ndmsg n = {.ndm_family = AF_INET, .ndm_ifindex = (int)if_nametoindex(name), .ndm_state = NUD_PERMANENT};
    begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &n, sizeof n);
    address(NDA_DST, AF_INET, value);
    attribute(NDA_LLADDR, "\2\0\0\0\0\7", 6);
}

/* ---- what is there */
static size_t dump_len;
static char dump[2][DUMP_MAX];

static int passes(unsigned short type, unsigned short attribute_type)
{
    static const unsigned short of_links[] = {IFLA_STATS, IFLA_STATS64, IFLA_OPERSTATE, IFLA_CARRIER, IFLA_CARRIER_CHANGES, IFLA_CARRIER_UP_COUNT, IFLA_CARRIER_DOWN_COUNT,
                                              IFLA_LINKINFO, IFLA_AF_SPEC};
    for (size_t k = 0; type == RTM_NEWLINK && k < sizeof of_links / sizeof *of_links; k++)
        if (of_links[k] == attribute_type)
            return 1;
    return (type == RTM_NEWADDR && (attribute_type == IFA_CACHEINFO || attribute_type == IFA_FLAGS)) || (type == RTM_NEWROUTE && attribute_type == RTA_CACHEINFO) ||
           (type == RTM_NEWNEIGH && attribute_type == NDA_CACHEINFO);
}

static void keep(char *out, const void *data, size_t len)
{
    MUST(dump_len + len < DUMP_MAX);
    memcpy(out + dump_len, data, len);
    dump_len += len;
}

static void message_keep(char *out, struct nlmsghdr *m, size_t header)
{
    struct ifaddrmsg *a = NLMSG_DATA(m);
    const struct ndmsg *n = NLMSG_DATA(m);
    struct ifinfomsg *l = NLMSG_DATA(m);
    if (m->nlmsg_type == RTM_NEWADDR)
        a->ifa_flags = 0;
    if (m->nlmsg_type == RTM_NEWLINK)
        l->ifi_flags &= ~(IFF_RUNNING | 0x70000u);
    if (m->nlmsg_type == RTM_NEWADDR && a->ifa_family == AF_INET6 && a->ifa_scope == RT_SCOPE_LINK)
        return; /* they come by themselves, after a while */
    if (m->nlmsg_type == RTM_NEWNEIGH && n->ndm_state != NUD_PERMANENT)
        return;
    keep(out, NLMSG_DATA(m), header);
    int left = (int)(m->nlmsg_len - NLMSG_LENGTH(NLMSG_ALIGN(header)));
    for (struct rtattr *b = (void *)((char *)NLMSG_DATA(m) + NLMSG_ALIGN(header)); RTA_OK(b, left); b = RTA_NEXT(b, left))
        if (!passes(m->nlmsg_type, b->rta_type & 0x3fff))
            keep(out, b, b->rta_len);
}

/* Which come in another order after a while: routes of IPv6 by their age. */
static void dump_one(char *out, unsigned short type, unsigned char family, size_t header)
{
    static char answer[65536];
    ask.head = (struct nlmsghdr){.nlmsg_len = (unsigned)NLMSG_LENGTH(NLMSG_ALIGN(header)), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP};
    memset(ask.body, 0, header);
    ask.body[0] = (char)family;
    MUST(send(route_fd, &ask, ask.head.nlmsg_len, 0) == (ssize_t)ask.head.nlmsg_len);
    for (;;) {
        ssize_t n = recv(route_fd, answer, sizeof answer, 0);
        MUST(n > 0);
        size_t left = (size_t)n;
        for (struct nlmsghdr *m = (void *)answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            MUST(m->nlmsg_type != NLMSG_ERROR);
            if (m->nlmsg_type == NLMSG_DONE)
                return;
            message_keep(out, m, header);
        }
    }
}

static size_t dump_all(char *out)
{
    dump_len = 0;
    dump_one(out, RTM_GETLINK, AF_UNSPEC, sizeof(struct ifinfomsg));
    dump_one(out, RTM_GETADDR, AF_INET, sizeof(struct ifaddrmsg));
    dump_one(out, RTM_GETADDR, AF_INET6, sizeof(struct ifaddrmsg));
    dump_one(out, RTM_GETROUTE, AF_INET, sizeof(struct rtmsg));
    dump_one(out, RTM_GETRULE, AF_INET, sizeof(struct fib_rule_hdr));
    dump_one(out, RTM_GETNEIGH, AF_INET, sizeof(struct ndmsg));
    return dump_len;
}

static void make(void)
{
    unsigned index, mtu = 1400;
    ASKED(set("lo", IFF_UP, 0, NULL, 0));
    ASKED(veth("left", "right"));
    ASKED(bridge("br"));
    ASKED(veth("spare", "other"));
    index = if_nametoindex("br");
    MUST(index == 77);
    ASKED(set("right", 0, IFLA_MASTER, &index, sizeof index));
    ASKED(port("right"));
    ASKED(set("left", 0, IFLA_MTU, &mtu, sizeof mtu));
    ASKED(set("left", 0, IFLA_IFALIAS, "the left one", 12));
    ASKED(set("left", IFF_UP, 0, NULL, 0));
    ASKED(set("right", IFF_UP, 0, NULL, 0));
    ASKED(set("br", IFF_UP, 0, NULL, 0));
    ASKED(address_give("left", AF_INET, "10.7.0.1", 24));
    ASKED(address_give("left", AF_INET, "10.7.0.9", 24));
    ASKED(address_give("br", AF_INET, "10.7.1.1", 24));
    ASKED(address_give("left", AF_INET6, "fd07::1", 64));
    ASKED(way(AF_INET, "192.168.0.0", 16, "10.7.0.2", 5));
    ASKED(way(AF_INET, "192.168.0.0", 16, "10.7.1.2", 6));
    ASKED(way(AF_INET6, "fd08::", 16, "fd07::2", 7));
    ASKED(rule(100));
    ASKED(neighbour("left", "10.7.0.2"));
}

static _Noreturn void boxed(int to, int go)
{
    char byte;
    become(CLONE_NEWUSER | CLONE_NEWNET, 0, 0);
    MUST(open("/proc/sys/net/ipv4/ip_forward", O_WRONLY) < 0 && errno == EROFS); /* else what is written there would have to come back, too */
    route_fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    make();
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(7000)}, there = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(7001)};
    MUST(inet_pton(AF_INET, "10.7.0.1", &place.sin_addr) == 1 && inet_pton(AF_INET, "192.168.3.4", &there.sin_addr) == 1 && inet_pton(AF_INET6, "fd07::1", &six.sin6_addr) == 1);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0), letters = socket(AF_INET6, SOCK_DGRAM, 0);
    MUST(bind(listener, (void *)&place, sizeof place) == 0 && listen(listener, 3) == 0 && connect(client, (void *)&place, sizeof place) == 0);
    int server = accept(listener, NULL, NULL);
    MUST(server >= 0 && send(client, "over", 4, 0) == 4 && bind(letters, (void *)&six, sizeof six) == 0);
    MUST(setsockopt(out, SOL_SOCKET, SO_BINDTODEVICE, "left", 4) == 0 && connect(out, (void *)&there, sizeof there) == 0);
    char data[8] = {0};
    for (ssize_t n = -1; n < 0; n = recv(letters, data, sizeof data, MSG_PEEK | MSG_DONTWAIT)) /* until the address is one */
        MUST(usleep(2000) == 0 && (sendto(letters, "mail", 4, 0, (void *)&six, sizeof six) == 4 || errno == EADDRNOTAVAIL || errno == ENETUNREACH));
    size_t before = dump_all(dump[0]);
    MUST(write(to, "r", 1) == 1 && read(go, &byte, 1) == 1);
    size_t after = dump_all(dump[1]);
    MUST(before == after && memcmp(dump[0], dump[1], before) == 0);
    MUST(recv(server, data, 4, 0) == 4 && memcmp(data, "over", 4) == 0 && recv(letters, data, 8, 0) == 4 && memcmp(data, "mail", 4) == 0);
    MUST(send(out, "x", 1, 0) == 1 && send(server, "back", 4, 0) == 4 && recv(client, data, 4, 0) == 4);
    ASKED(veth("late", "later"));
    _exit(0);
}

int main(void)
{
    int go[2], from[2], status;
    char byte;
    MUST(pipe(go) == 0 && pipe(from) == 0);
    pid_t child = fork();
    if (child == 0)
        boxed(from[1], go[0]);
    MUST(close(from[1]) == 0 && read(from[0], &byte, 1) == 1);
    victim_wait();
    MUST(write(go[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return victim_ok();
}
