/* See udp_inject.h. */
#include "udp_inject.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "raw_packet.h"

#define DATAGRAM_MAX 65507u
#define ARRIVAL_MS 200

/* A socket bound to no address takes what comes for any: loopback's will do. */
static void any_replace(struct packet_end *to, bool v4)
{
    static const struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    bool any = IN6_IS_ADDR_UNSPECIFIED(&to->address) ||
               (packet_end_is_v4(to) && !memcmp(&to->address.s6_addr[12], "\0\0\0\0", 4));
    if (any)
        to->address = v4 ? mapped : in6addr_loopback;
}

static int datagram_inject(const struct udp_socket *u, const struct datagram *d, struct err *e)
{
    struct packet_end from, to;
    AUTO_BUF struct buf whole = {0};
    if (!packet_end_parse(&d->from, &from) || !packet_end_parse(&u->local, &to) || d->data.len > DATAGRAM_MAX)
        return err_set(e, E_BAD_IMAGE, "a datagram of %zu bytes from nowhere", d->data.len);
    any_replace(&to, packet_end_is_v4(&from));
    struct udphdr udp = {.source = from.port, .dest = to.port, .len = htons((uint16_t)(sizeof udp + d->data.len))};
    buf_add(&whole, &udp, sizeof udp);
    buf_add(&whole, d->data.data, d->data.len);
    uint8_t protocol = u->protocol == IPPROTO_UDPLITE ? IPPROTO_UDPLITE : IPPROTO_UDP; /* Lite: its length field then says that all is covered */
    udp.check = packet_checksum(&from, &to, protocol, whole.data, whole.len);
    memcpy(whole.data, &udp, sizeof udp);
    return packet_send(&from, &to, protocol, whole.data, whole.len) < 0 ? err_errno(e, "put a datagram of %zu bytes back", d->data.len) : 0;
}

/* ---- errors */
static int refusal4(const struct packet_end *own, const struct packet_end *other, const struct udphdr *udp, uint8_t protocol)
{
    struct {
        struct icmphdr icmp;
        struct iphdr ip;
        struct udphdr udp;
    } p = {.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH}, .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = protocol}, .udp = *udp};
    p.ip.tot_len = htons(sizeof p.ip + sizeof p.udp);
    memcpy(&p.ip.saddr, &own->address.s6_addr[12], 4);
    memcpy(&p.ip.daddr, &other->address.s6_addr[12], 4);
    p.icmp.checksum = packet_sum(&p, sizeof p);
    return packet_send(other, own, IPPROTO_ICMP, &p, sizeof p);
}

static int refusal6(const struct packet_end *own, const struct packet_end *other, const struct udphdr *udp, uint8_t protocol)
{
    struct {
        struct icmp6_hdr icmp;
        struct ip6_hdr ip;
        struct udphdr udp;
    } p = {.icmp = {.icmp6_type = ICMP6_DST_UNREACH, .icmp6_code = ICMP6_DST_UNREACH_NOPORT}, .ip = {.ip6_src = own->address, .ip6_dst = other->address}, .udp = *udp};
    p.ip.ip6_flow = htonl(6u << 28);
    p.ip.ip6_plen = htons(sizeof p.udp);
    p.ip.ip6_nxt = protocol;
    p.ip.ip6_hlim = 64;
    p.icmp.icmp6_cksum = packet_checksum(other, own, IPPROTO_ICMPV6, &p, sizeof p);
    return packet_send(other, own, IPPROTO_ICMPV6, &p, sizeof p);
}

int udp_refuse(int fd, const struct udp_socket *u, struct err *e)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    struct packet_end own, other;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of a UDP socket");
    struct bytes name = {(uint8_t *)&address, len};
    if (!packet_end_parse(&name, &own) || !packet_end_parse(&u->remote, &other))
        return err_set(e, E_BAD_IMAGE, "a UDP socket that nobody can have refused");
    struct udphdr udp = {.source = own.port, .dest = other.port, .len = htons(sizeof udp)};
    struct pollfd state = {.fd = fd};
    if ((packet_end_is_v4(&own) ? refusal4 : refusal6)(&own, &other, &udp, (uint8_t)u->protocol) < 0)
        return err_errno(e, "give a UDP socket its error back");
    return poll(&state, 1, ARRIVAL_MS) == 1 && state.revents & POLLERR ? 0 : err_set(e, E_OS, "a UDP socket did not get its error back");
}

int udp_inject(int fd, const struct udp_socket *u, struct err *e)
{
    for (size_t i = 0; i < u->queue_count; i++)
        if (datagram_inject(u, &u->queue[i], e) < 0)
            return -1;
    struct pollfd state = {.fd = fd, .events = POLLIN};
    if (u->queue_count && poll(&state, 1, ARRIVAL_MS) != 1)
        return err_set(e, E_OS, "datagrams did not come back into their socket");
    return 0;
}
