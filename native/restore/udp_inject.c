/* See udp_inject.h. The kernel fills in the header checksum of IPv4; UDP over IPv4 goes without one, over IPv6 it must have one. */
#include "udp_inject.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif
#define DATAGRAM_MAX 65507u
#define ARRIVAL_MS 200

struct end {
    struct in6_addr address; /* IPv4 mapped into IPv6 */
    uint16_t port;           /* network order */
};

static bool end_parse(const struct bytes *b, struct end *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family = 0;
    memcpy(&family, b->data, b->len < sizeof family ? 0 : sizeof family);
    if (family == AF_INET && b->len >= sizeof v4) {
        memcpy(&v4, b->data, sizeof v4);
        *out = (struct end){.address = {.s6_addr = {[10] = 0xff, [11] = 0xff}}, .port = v4.sin_port};
        memcpy(&out->address.s6_addr[12], &v4.sin_addr, 4);
        return true;
    }
    if (family != AF_INET6 || b->len < sizeof v6)
        return false;
    memcpy(&v6, b->data, sizeof v6);
    *out = (struct end){v6.sin6_addr, v6.sin6_port};
    return true;
}

/* A socket bound to no address takes what comes for any: loopback's will do. */
static void any_replace(struct end *to, bool v4)
{
    static const struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    bool any = IN6_IS_ADDR_UNSPECIFIED(&to->address) ||
               (IN6_IS_ADDR_V4MAPPED(&to->address) && !memcmp(&to->address.s6_addr[12], "\0\0\0\0", 4));
    if (any)
        to->address = v4 ? mapped : in6addr_loopback;
}

static uint32_t sum_add(uint32_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
    return (sum & 0xffff) + (sum >> 16);
}

static uint16_t checksum6(const struct end *from, const struct end *to, const struct udphdr *h, const struct bytes *data)
{
    uint8_t pseudo[4] = {0, IPPROTO_UDP, (uint8_t)((data->len + sizeof *h) >> 8), (uint8_t)(data->len + sizeof *h)};
    uint32_t sum = sum_add(0, from->address.s6_addr, 16);
    sum += sum_add(0, to->address.s6_addr, 16);
    sum += sum_add(0, pseudo, sizeof pseudo);
    sum += sum_add(0, (const uint8_t *)h, sizeof *h);
    for (size_t at = 0; at < data->len; at += 4096)
        sum += sum_add(0, data->data + at, data->len - at < 4096 ? data->len - at : 4096);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    uint16_t inverted = (uint16_t)~sum;
    return htons(inverted ? inverted : 0xffff);
}

static void packet4(struct buf *out, const struct end *from, const struct end *to, const struct udphdr *udp, const struct bytes *data)
{
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
    memcpy(&ip.saddr, &from->address.s6_addr[12], 4);
    memcpy(&ip.daddr, &to->address.s6_addr[12], 4);
    ip.tot_len = htons((uint16_t)(sizeof ip + sizeof *udp + data->len));
    buf_add(out, &ip, sizeof ip);
    buf_add(out, udp, sizeof *udp);
    buf_add(out, data->data, data->len);
}

static void packet6(struct buf *out, const struct end *from, const struct end *to, struct udphdr *udp, const struct bytes *data)
{
    struct ip6_hdr ip = {.ip6_src = from->address, .ip6_dst = to->address};
    ip.ip6_flow = htonl(6u << 28);
    ip.ip6_plen = htons((uint16_t)(sizeof *udp + data->len));
    ip.ip6_nxt = IPPROTO_UDP;
    ip.ip6_hlim = 64;
    udp->check = checksum6(from, to, udp, data);
    buf_add(out, &ip, sizeof ip);
    buf_add(out, udp, sizeof *udp);
    buf_add(out, data->data, data->len);
}

static int packet_send(const struct buf *packet, const struct end *to, bool v4, struct err *e)
{
    struct sockaddr_in to4 = {.sin_family = AF_INET};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_addr = to->address};
    int on = 1;
    memcpy(&to4.sin_addr, &to->address.s6_addr[12], 4);
    AUTO_CLOSE int raw = socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (raw < 0 || (!v4 && setsockopt(raw, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on) < 0))
        return err_errno(e, "a raw socket");
    ssize_t n = sendto(raw, packet->data, packet->len, 0, v4 ? (const void *)&to4 : (const void *)&to6, v4 ? sizeof to4 : sizeof to6);
    return n < 0 ? err_errno(e, "put a datagram of %zu bytes back", packet->len) : 0;
}

static int datagram_inject(const struct udp_socket *u, const struct datagram *d, struct err *e)
{
    struct end from, to;
    AUTO_BUF struct buf packet = {0};
    if (!end_parse(&d->from, &from) || !end_parse(&u->local, &to) || d->data.len > DATAGRAM_MAX)
        return err_set(e, E_BAD_IMAGE, "a datagram of %zu bytes from nowhere", d->data.len);
    bool v4 = IN6_IS_ADDR_V4MAPPED(&from.address);
    struct udphdr udp = {.source = from.port, .dest = to.port, .len = htons((uint16_t)(sizeof udp + d->data.len))};
    any_replace(&to, v4);
    if (v4)
        packet4(&packet, &from, &to, &udp, &d->data);
    else
        packet6(&packet, &from, &to, &udp, &d->data);
    return packet_send(&packet, &to, v4, e);
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
