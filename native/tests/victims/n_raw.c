/* Raw and packet sockets in a network namespace that an ordinary user makes in a user namespace: of both families, connected, with a filter of ICMP types, with headers of
 * their own; packet sockets bound to a device and a protocol, promiscuous, with a filter program.
 * COVERAGE: raw sockets (IPv4, IPv6) in a network namespace that the job made | captured | addresses, options, filters; packets not read yet are waited for
 * COVERAGE: packet sockets there: device, protocol, memberships, options, filters | captured | packets not read yet are waited for */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "spaces_net.h"

#define ICMP_FILTER 1

static const struct sockaddr_in loop = {.sin_family = AF_INET, .sin_addr.s_addr = 0x100007f}, other = {.sin_family = AF_INET, .sin_addr.s_addr = 0x200007f};
static const struct sockaddr_in6 loop6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

static unsigned short sum(const void *data, size_t len)
{
    unsigned total = 0;
    for (size_t k = 0; k + 1 < len; k += 2) {
        unsigned short word;
        memcpy(&word, (const char *)data + k, sizeof word);
        total += word;
    }
    total = (total >> 16) + (total & 0xffff);
    return (unsigned short)~(total + (total >> 16));
}

/* An echo request that the kernel answers; the sockets get both, those that want them. */
static void ping(int fd, unsigned short number)
{
    struct icmphdr echo = {.type = ICMP_ECHO, .un.echo = {.id = 7, .sequence = number}};
    echo.checksum = sum(&echo, sizeof echo);
    MUST(send(fd, &echo, sizeof echo, 0) == (ssize_t)sizeof echo);
}

static int type_of(int fd)
{
    unsigned char data[256];
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
    return n < (ssize_t)(sizeof(struct iphdr) + 1) ? -1 : data[sizeof(struct iphdr)];
}

static void own_header(int fd)
{
    struct {
        struct iphdr ip;
        char text[4];
    } packet = {.ip = {.version = 4, .ihl = 5, .ttl = 9, .protocol = 253, .daddr = loop.sin_addr.s_addr, .saddr = other.sin_addr.s_addr}, .text = "own"};
    MUST(sendto(fd, &packet, sizeof packet, 0, (const void *)&loop, sizeof loop) == (ssize_t)sizeof packet);
}

static int count(int fd)
{
    char data[512];
    int n = 0;
    while (recv(fd, data, sizeof data, MSG_DONTWAIT) >= 0)
        n++;
    return n;
}

/* How many want all that passes the loopback device. */
static unsigned promiscuity(void)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST}, .link = {.ifi_index = 1}};
    static char answer[16384];
    unsigned value = 0;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    MUST(fd >= 0 && send(fd, &ask, sizeof ask, 0) == (ssize_t)sizeof ask);
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    MUST(n > (ssize_t)sizeof ask && close(fd) == 0);
    int left = (int)(n - (ssize_t)NLMSG_LENGTH(sizeof ask.link));
    for (struct rtattr *a = (void *)(answer + NLMSG_LENGTH(sizeof ask.link)); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == IFLA_PROMISCUITY)
            memcpy(&value, RTA_DATA(a), sizeof value);
    return value;
}

struct kit {
    int ping, answers, headers, strange, six, bound, device, program;
};

static struct kit make(void)
{
    struct kit k = {socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), socket(AF_INET, SOCK_RAW, IPPROTO_RAW), socket(AF_INET, SOCK_RAW, 253),
                    socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), socket(AF_INET, SOCK_RAW, 253), socket(AF_PACKET, SOCK_DGRAM, 0), socket(AF_PACKET, SOCK_RAW, 0)};
    unsigned only_answers = ~(1u << ICMP_ECHOREPLY), none = ~0u;
    struct icmp6_filter pass;
    struct sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {1, drop_all};
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = (int)if_nametoindex("lo")};
    struct packet_mreq all = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    int on = 1;
    ICMP6_FILTER_SETBLOCKALL(&pass);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &pass);
    MUST(k.ping >= 0 && k.answers >= 0 && k.headers >= 0 && k.strange >= 0 && k.six >= 0 && k.bound >= 0 && k.device >= 0 && k.program >= 0);
    MUST(setsockopt(k.ping, SOL_RAW, ICMP_FILTER, &none, sizeof none) == 0 && connect(k.ping, (const void *)&loop, sizeof loop) == 0);
    MUST(setsockopt(k.answers, SOL_RAW, ICMP_FILTER, &only_answers, sizeof only_answers) == 0);
    MUST(setsockopt(k.six, IPPROTO_ICMPV6, ICMP6_FILTER, &pass, sizeof pass) == 0 && connect(k.six, (const void *)&loop6, sizeof loop6) == 0);
    MUST(bind(k.bound, (const void *)&other, sizeof other) == 0);
    MUST(setsockopt(k.device, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) == 0 && setsockopt(k.device, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) == 0);
    MUST(bind(k.device, (void *)&at, sizeof at) == 0);
    MUST(setsockopt(k.program, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    at.sll_protocol = htons(ETH_P_ALL);
    MUST(bind(k.program, (void *)&at, sizeof at) == 0);
    return k;
}

static void check(const struct kit *k)
{
    struct icmp6_hdr echo = {.icmp6_type = ICMP6_ECHO_REQUEST};
    struct sockaddr_ll at = {0};
    socklen_t len = sizeof at, size = sizeof(int);
    int on = 0;
    ping(k->ping, 1);
    MUST(type_of(k->answers) == ICMP_ECHOREPLY && type_of(k->answers) == -1 && count(k->ping) == 0);
    own_header(k->headers);
    MUST(count(k->strange) == 1 && count(k->bound) == 0);
    MUST(send(k->six, &echo, sizeof echo, 0) == (ssize_t)sizeof echo && count(k->six) == 1);
    MUST(count(k->device) >= 3 && count(k->program) == 0); /* a request, an answer, the strange one; each as it goes and comes */
    MUST(getsockname(k->device, (struct sockaddr *)&at, &len) == 0 && at.sll_protocol == htons(ETH_P_IP) && at.sll_ifindex == (int)if_nametoindex("lo"));
    MUST(getsockopt(k->device, SOL_PACKET, PACKET_AUXDATA, &on, &size) == 0 && on == 1);
    MUST(promiscuity() == 1);
}

static _Noreturn void boxed(int to, int go)
{
    char byte;
    become_networked();
    struct kit k = make();
    check(&k);
    MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0);
    MUST(write(to, "r", 1) == 1 && read(go, &byte, 1) == 1);
    check(&k);
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
