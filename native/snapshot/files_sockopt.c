/* Socket options that travel: one table. Saved by (level, name, value); when loaded, only what the table knows is set, and only
 * where the new socket differs, so that defaults cost nothing and need no rights. Buffer sizes are apart: their values
 * are doubled by the kernel and carry a lock (SO_BUF_LOCK) against auto-tuning. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "files_save.h"

#ifndef SOL_RAW
#define SOL_RAW 255
#endif
#define ICMP_FILTER 1 /* of linux/icmp.h, which does not go with netinet/in.h */
#define ICMPV6_FILTER 1
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef UDPLITE_SEND_CSCOV
#define UDPLITE_SEND_CSCOV 10
#define UDPLITE_RECV_CSCOV 11
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#define OPT_LOADED 256 /* saved elsewhere, under conditions */
#define OPTION_BYTES_MAX 64
#define OPT_RAW (OPT_RAW4 | OPT_RAW6)
#define OPT_IP (OPT_TCP | OPT_UDP | OPT_RAW | OPT_PACKET)
#define OPT_BOTH (OPT_V4 | OPT_V6) /* a socket of IPv6 has those of IPv4 too, for mapped addresses */
#define OPT_UDPS (OPT_UDP4 | OPT_UDP6)
#define OPT_ALL (OPT_UNIX | OPT_IP | OPT_NETLINK)

static const struct known_option {
    unsigned families;
    int level, name;
    socklen_t size;          /* most that it can be */
} known_options[] = {
    {OPT_V6, IPPROTO_IPV6, IPV6_V6ONLY, 4},
    {OPT_IP, SOL_SOCKET, SO_REUSEADDR, 4},
    {OPT_IP, SOL_SOCKET, SO_REUSEPORT, 4},
    {OPT_IP, SOL_SOCKET, SO_KEEPALIVE, 4},
    {OPT_IP, SOL_SOCKET, SO_LINGER, sizeof(struct linger)},
    {OPT_IP, SOL_SOCKET, SO_OOBINLINE, 4},
    {OPT_IP, SOL_SOCKET, SO_BROADCAST, 4},
    {OPT_ALL, SOL_SOCKET, SO_PRIORITY, 4},
    {OPT_IP, SOL_SOCKET, SO_MARK, 4},
    {OPT_IP, SOL_SOCKET, SO_DONTROUTE, 4},
    {OPT_IP, SOL_SOCKET, SO_BINDTODEVICE, 16},
    {OPT_ALL, SOL_SOCKET, SO_RCVLOWAT, 4},
    {OPT_ALL, SOL_SOCKET, SO_RCVTIMEO, 16},
    {OPT_ALL, SOL_SOCKET, SO_SNDTIMEO, 16},
    {OPT_UNIX | OPT_NETLINK, SOL_SOCKET, SO_PASSCRED, 4},
    {OPT_UNIX | OPT_NETLINK, SOL_SOCKET, SO_PASSSEC, 4},
    {OPT_ALL, SOL_SOCKET, SO_TIMESTAMP, 4},
    {OPT_ALL, SOL_SOCKET, SO_TIMESTAMPNS, 4},
    {OPT_UDP, SOL_SOCKET, SO_NO_CHECK, 4},
    {OPT_UNIX | OPT_UDP | OPT_NETLINK, SOL_SOCKET, SO_RXQ_OVFL, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_NODELAY, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_CORK, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_KEEPIDLE, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_KEEPINTVL, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_KEEPCNT, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_SYNCNT, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_LINGER2, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_DEFER_ACCEPT, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_USER_TIMEOUT, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_CONGESTION, 16},
    {OPT_TCP, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4},
    {OPT_LOADED, IPPROTO_TCP, TCP_MAXSEG, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_SAVE_SYN, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_FASTOPEN, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_INQ, 4},
    {OPT_TCP, IPPROTO_TCP, TCP_TX_DELAY, 4},
    {OPT_BOTH, IPPROTO_IP, IP_TOS, 4},
    {OPT_BOTH, IPPROTO_IP, IP_TTL, 4},
    {OPT_BOTH, IPPROTO_IP, IP_FREEBIND, 4},
    {OPT_BOTH, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 4},
    {OPT_BOTH, IPPROTO_IP, IP_MTU_DISCOVER, 4},
    {OPT_BOTH, IPPROTO_IP, IP_RECVERR, 4},
    {OPT_BOTH, IPPROTO_IP, IP_PKTINFO, 4},
    {OPT_BOTH, IPPROTO_IP, IP_RECVTTL, 4},
    {OPT_BOTH, IPPROTO_IP, IP_RECVTOS, 4},
    {OPT_UDPS, IPPROTO_IP, IP_MULTICAST_TTL, 4},
    {OPT_UDPS, IPPROTO_IP, IP_MULTICAST_LOOP, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 4},
    {OPT_UDP6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 4},
    {OPT_UDP6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_TCLASS, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVERR, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_PKTINFO, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_BROADCAST_ERROR, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_NO_ENOBUFS, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_CAP_ACK, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_EXT_ACK, 4},
    {OPT_NETLINK, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 4},
    {OPT_IP, SOL_SOCKET, SO_ZEROCOPY, 4},
    {OPT_IP, SOL_SOCKET, SO_TIMESTAMPING, 4},
    {OPT_IP, SOL_SOCKET, SO_MAX_PACING_RATE, 8},
    {OPT_BOTH, IPPROTO_IP, IP_RECVORIGDSTADDR, 4},
    {OPT_BOTH, IPPROTO_IP, IP_MINTTL, 4},
    {OPT_UDP4, IPPROTO_IP, IP_MULTICAST_IF, 4},
    {OPT_UDPS, IPPROTO_IP, IP_MULTICAST_ALL, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVTCLASS, 4},
    {OPT_UDP6, IPPROTO_IPV6, IPV6_MULTICAST_IF, 4},
    {OPT_UNIX | OPT_UDP, SOL_SOCKET, SO_PEEK_OFF, 4},
    {OPT_ALL, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 4},
    {OPT_IP, SOL_SOCKET, SO_BUSY_POLL, 4},
    {OPT_UNIX, SOL_SOCKET, SO_PASSPIDFD, 4},
    {OPT_UNIX, SOL_SOCKET, SO_PASSRIGHTS, 4},
    {OPT_UDP, IPPROTO_UDP, UDP_CORK, 4},
    {OPT_UDP, IPPROTO_UDP, UDP_NO_CHECK6_TX, 4},
    {OPT_UDP, IPPROTO_UDP, UDP_NO_CHECK6_RX, 4},
    {OPT_UDP, IPPROTO_UDP, UDP_SEGMENT, 4},
    {OPT_UDP, IPPROTO_UDP, UDP_GRO, 4},
    {OPT_UDP, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 4},
    {OPT_UDP, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 4},
    {OPT_BOTH, IPPROTO_IP, IP_OPTIONS, 40},
    {OPT_BOTH, IPPROTO_IP, IP_RECVOPTS, 4},
    {OPT_BOTH, IPPROTO_IP, IP_RETOPTS, 4},
    {OPT_BOTH, IPPROTO_IP, IP_LOCAL_PORT_RANGE, 4},
    {OPT_BOTH, IPPROTO_IP, IP_RECVFRAGSIZE, 4},
    {OPT_UDPS, IPPROTO_IP, IP_UNICAST_IF, 4},
    {OPT_UDP, IPPROTO_IP, IP_CHECKSUM, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVRTHDR, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVHOPOPTS, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVDSTOPTS, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVPATHMTU, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_DONTFRAG, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_MINHOPCOUNT, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 4},
    {OPT_V6, IPPROTO_IPV6, IPV6_FREEBIND, 4},
    {OPT_UDP6, IPPROTO_IPV6, IPV6_UNICAST_IF, 4},
    {OPT_UDP6, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 4},
    {OPT_RAW4, IPPROTO_IP, IP_HDRINCL, 4},
    {OPT_RAW4, SOL_RAW, ICMP_FILTER, 4},
    {OPT_RAW6, IPPROTO_ICMPV6, ICMPV6_FILTER, 32},
    {OPT_RAW6, SOL_RAW, IPV6_CHECKSUM, 4},
    {OPT_RAW6, IPPROTO_IPV6, IPV6_HDRINCL, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_AUXDATA, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_ORIGDEV, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_VERSION, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_RESERVE, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_LOSS, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_VNET_HDR, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_TIMESTAMP, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_QDISC_BYPASS, 4},
    {OPT_PACKET, SOL_PACKET, PACKET_IGNORE_OUTGOING, 4},
    {OPT_ALL, SOL_SOCKET, SO_LOCK_FILTER, 4}, /* last: afterwards the filter cannot be set */
};

unsigned sockopts_internet(bool udp, uint64_t family)
{
    bool v4 = family == AF_INET;
    return (udp ? OPT_UDP | (v4 ? OPT_UDP4 : OPT_UDP6) : OPT_TCP) | (v4 ? OPT_V4 : OPT_V6);
}

unsigned sockopts_raw(uint64_t family)
{
    if (family == AF_PACKET)
        return OPT_PACKET;
    return family == AF_INET ? OPT_RAW4 | OPT_UDP4 | OPT_V4 : OPT_RAW6 | OPT_UDP6 | OPT_V6;
}

/* ---- packet filters (classic BPF): the length is counted in instructions both ways */
#define FILTER_INSTRUCTIONS_MAX 4096u

int sockfilter_save(int fd, struct sockopt **options, size_t *count, struct err *e)
{
    socklen_t instructions = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &instructions) < 0)
        return errno == EACCES ? err_set(e, E_UNSUPPORTED, "a socket with an eBPF filter") : err_errno(e, "filter of a socket");
    if (instructions == 0)
        return 0;
    if (instructions > FILTER_INSTRUCTIONS_MAX)
        return err_set(e, E_UNSUPPORTED, "a socket with a filter of %u instructions", instructions);
    struct sock_filter program[FILTER_INSTRUCTIONS_MAX];
    if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, program, &instructions) < 0)
        return err_errno(e, "filter of a socket");
    struct sockopt *o = list_add((void **)options, count, sizeof *o);
    o->level = SOL_SOCKET;
    o->name = SO_ATTACH_FILTER;
    bytes_set(&o->value, program, instructions * sizeof *program);
    return 0;
}

static int filter_load(int fd, const struct sockopt *o, struct err *e)
{
    struct sock_fprog program = {.len = (unsigned short)(o->value.len / sizeof(struct sock_filter)), .filter = (void *)o->value.data};
    if (o->value.len % sizeof(struct sock_filter) || o->value.len / sizeof(struct sock_filter) > FILTER_INSTRUCTIONS_MAX)
        return err_set(e, E_BAD_IMAGE, "a socket filter of %zu bytes", o->value.len);
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? err_errno(e, "filter of a socket") : 0;
}

/* ---- multicast groups (groups_save.c) */
static bool is_membership(const struct sockopt *o)
{
    return o->name == MCAST_MSFILTER && (o->level == IPPROTO_IP || o->level == IPPROTO_IPV6);
}

static int membership_load(int fd, const struct sockopt *o, struct err *e)
{
    AUTO_FREE struct group_filter *f = xcalloc(1, o->value.len + sizeof *f);
    if (o->value.len < GROUP_FILTER_SIZE(0))
        return err_set(e, E_BAD_IMAGE, "a multicast group of %zu bytes", o->value.len);
    memcpy(f, o->value.data, o->value.len);
    if (f->gf_numsrc > UINT16_MAX || GROUP_FILTER_SIZE(f->gf_numsrc) != o->value.len)
        return err_set(e, E_BAD_IMAGE, "a multicast group of %zu bytes", o->value.len);
    struct group_req request = {.gr_interface = f->gf_interface, .gr_group = f->gf_group};
    if (setsockopt(fd, (int)o->level, MCAST_JOIN_GROUP, &request, sizeof request) < 0)
        return err_errno(e, "join a multicast group");
    bool everybody = f->gf_fmode == MCAST_EXCLUDE && !f->gf_numsrc;
    if (!everybody && setsockopt(fd, (int)o->level, MCAST_MSFILTER, f, (socklen_t)o->value.len) < 0)
        return err_errno(e, "sources of a multicast group");
    return 0;
}

/* ---- memberships of packet sockets (packetdiag.h) */
static bool is_packet_membership(unsigned families, const struct sockopt *o)
{
    return families & OPT_PACKET && o->level == SOL_PACKET && o->name == PACKET_ADD_MEMBERSHIP && o->value.len == sizeof(struct packet_mreq);
}

/* ---- the table */
void sockopts_save(int fd, unsigned families, struct sockopt **options, size_t *count)
{
    for (size_t i = 0; i < ARRAY_LENGTH(known_options); i++) {
        const struct known_option *k = &known_options[i];
        uint8_t value[OPTION_BYTES_MAX] = {0};
        socklen_t len = k->size;
        if (!(k->families & families) || getsockopt(fd, k->level, k->name, value, &len) < 0)
            continue; /* what this kernel or this kind of socket does not have */
        struct sockopt *o = list_add((void **)options, count, sizeof *o);
        o->level = (uint64_t)k->level;
        o->name = (uint64_t)k->name;
        bytes_set(&o->value, value, len);
    }
}

/* Images hold them in the order of the table: the search goes on where the last one ended. */
static const struct known_option *option_known(unsigned families, const struct sockopt *o, size_t *cursor)
{
    for (size_t i = 0; i < ARRAY_LENGTH(known_options); i++, *cursor = (*cursor + 1) % ARRAY_LENGTH(known_options)) {
        const struct known_option *k = &known_options[*cursor];
        if ((uint64_t)k->level == o->level && (uint64_t)k->name == o->name && k->families & (families | OPT_LOADED) && o->value.len <= k->size)
            return k;
    }
    return NULL;
}

static bool has_already(int fd, const struct known_option *k, const struct sockopt *o)
{
    uint8_t now[OPTION_BYTES_MAX] = {0};
    socklen_t len = k->size;
    return getsockopt(fd, k->level, k->name, now, &len) == 0 && len == o->value.len && (!len || !memcmp(now, o->value.data, len));
}

static bool is_default(int fd, struct sockopt_defaults *defaults, const struct known_option *k, const struct sockopt *o)
{
    _Static_assert(ARRAY_LENGTH(known_options) <= SOCKOPTS_KNOWN_MAX, "room for all");
    size_t i = (size_t)(k - known_options);
    if (!defaults->of[i].asked && k->size <= sizeof defaults->of[i].value) {
        socklen_t len = k->size;
        defaults->of[i].asked = getsockopt(fd, k->level, k->name, defaults->of[i].value, &len) == 0;
        defaults->of[i].len = len;
    }
    uint32_t len = defaults->of[i].len;
    return defaults->of[i].asked && len == o->value.len && (!len || !memcmp(defaults->of[i].value, o->value.data, len));
}

int sockopts_load_new(int fd, unsigned families, struct sockopt_defaults *defaults, const struct sockopt *options, size_t count, struct err *e)
{
    bool is_new = defaults != NULL; /* one option may change another */
    size_t cursor = 0;
    for (size_t i = 0; i < count; i++) {
        const struct sockopt *o = &options[i];
        if (o->level == SOL_SOCKET && o->name == SO_ATTACH_FILTER) {
            if (filter_load(fd, o, e) < 0)
                return -1;
            continue;
        }
        if (is_membership(o)) {
            if (membership_load(fd, o, e) < 0)
                return -1;
            continue;
        }
        if (is_packet_membership(families, o)) {
            if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, o->value.data, (socklen_t)o->value.len) < 0)
                return err_errno(e, "membership of a packet socket");
            continue;
        }
        const struct known_option *k = option_known(families, o, &cursor);
        if (!k)
            return err_set(e, E_BAD_IMAGE, "socket option %lu/%lu is not one that images carry", o->level, o->name);
        if ((is_new && is_default(fd, defaults, k, o)) || has_already(fd, k, o))
            continue;
        if (setsockopt(fd, k->level, k->name, o->value.data, (socklen_t)o->value.len) < 0)
            return err_errno(e, "socket option %d/%d", k->level, k->name);
        is_new = false;
    }
    return 0;
}

int sockopts_load(int fd, unsigned families, const struct sockopt *options, size_t count, struct err *e)
{
    return sockopts_load_new(fd, families, NULL, options, count, e);
}

/* ---- buffers */
static int number_get(int fd, int name, uint64_t *value, struct err *e)
{
    int number = 0;
    socklen_t len = sizeof number;
    if (getsockopt(fd, SOL_SOCKET, name, &number, &len) < 0)
        return err_errno(e, "socket option %d", name);
    *value = number < 0 ? 0 : (uint64_t)number;
    return 0;
}

int sockbufs_save(int fd, uint64_t *sndbuf, uint64_t *rcvbuf, uint64_t *lock, struct err *e)
{
    return number_get(fd, SO_SNDBUF, sndbuf, e) < 0 || number_get(fd, SO_RCVBUF, rcvbuf, e) < 0 ||
                   number_get(fd, SO_BUF_LOCK, lock, e) < 0
               ? -1
               : 0;
}

/* The kernel doubles what is set. Without CAP_NET_ADMIN over the host the plain option must do (bounded by wmem_max). */
static int buffer_set(int fd, int force, int plain, uint64_t bytes, struct err *e)
{
    if (bytes > INT32_MAX)
        return err_set(e, E_BAD_IMAGE, "a socket buffer of %lu bytes", bytes);
    int half = (int)(bytes / 2);
    if (setsockopt(fd, SOL_SOCKET, force, &half, sizeof half) < 0 &&
        (errno != EPERM || setsockopt(fd, SOL_SOCKET, plain, &half, sizeof half) < 0))
        return err_errno(e, "socket buffer of %lu bytes", bytes);
    return 0;
}

uint64_t sockbuf_wide(uint64_t bytes)
{
    return 2 * bytes + (1u << 20);
}

/* Where the plain option must do, it could only make a buffer smaller that is wide enough already (tcp_room.c). */
static int buffer_widen(int fd, int force, int plain, uint64_t bytes, struct err *e)
{
    uint64_t now = 0;
    int half = (int)(bytes / 2), both = 3;
    if (setsockopt(fd, SOL_SOCKET, force, &half, sizeof half) == 0)
        return 0;
    if (errno == EPERM && number_get(fd, plain, &now, e) == 0 && now >= bytes) /* or the kernel tunes it down again */
        return setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &both, sizeof both) < 0 ? err_errno(e, "lock of socket buffers") : 0;
    return buffer_set(fd, force, plain, bytes, e);
}

int sockbufs_widen(int fd, uint64_t sndbuf, uint64_t rcvbuf, struct err *e)
{
    if (sndbuf > INT32_MAX / 4 || rcvbuf > INT32_MAX / 4)
        return err_set(e, E_BAD_IMAGE, "socket buffers of %lu and %lu bytes", sndbuf, rcvbuf);
    return buffer_widen(fd, SO_SNDBUFFORCE, SO_SNDBUF, sockbuf_wide(sndbuf), e) < 0 ||
                   buffer_widen(fd, SO_RCVBUFFORCE, SO_RCVBUF, sockbuf_wide(rcvbuf), e) < 0
               ? -1
               : 0;
}

int sockbufs_load(int fd, uint64_t sndbuf, uint64_t rcvbuf, uint64_t lock, struct err *e)
{
    int bits = (int)(lock & 3);
    if (buffer_set(fd, SO_SNDBUFFORCE, SO_SNDBUF, sndbuf, e) < 0 || buffer_set(fd, SO_RCVBUFFORCE, SO_RCVBUF, rcvbuf, e) < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &bits, sizeof bits) < 0)
        return err_errno(e, "lock of socket buffers");
    return 0;
}
