/* See raw_packet.h. The kernel fills in the header checksum of IPv4. */
#include "raw_packet.h"

#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

bool packet_end_parse(const struct bytes *b, struct packet_end *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family = 0;
    memcpy(&family, b->data, b->len < sizeof family ? 0 : sizeof family);
    if (family == AF_INET && b->len >= sizeof v4) {
        memcpy(&v4, b->data, sizeof v4);
        *out = (struct packet_end){.address = {.s6_addr = {[10] = 0xff, [11] = 0xff}}, .port = v4.sin_port};
        memcpy(&out->address.s6_addr[12], &v4.sin_addr, 4);
        return true;
    }
    if (family != AF_INET6 || b->len < sizeof v6)
        return false;
    memcpy(&v6, b->data, sizeof v6);
    *out = (struct packet_end){v6.sin6_addr, v6.sin6_port};
    return true;
}

bool packet_end_is_v4(const struct packet_end *end)
{
    return IN6_IS_ADDR_V4MAPPED(&end->address);
}

static uint64_t sum_add(uint64_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? data[i] : (uint64_t)data[i] << 8;
    return sum;
}

static uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint16_t packet_sum(const void *data, size_t len)
{
    return htons(sum_fold(sum_add(0, data, len)));
}

uint16_t packet_checksum(const struct packet_end *from, const struct packet_end *to, uint8_t protocol, const void *transport, size_t len)
{
    bool v4 = packet_end_is_v4(from);
    size_t first = v4 ? 12 : 0;
    uint8_t rest[4] = {0, protocol, (uint8_t)(len >> 8), (uint8_t)len};
    uint64_t sum = sum_add(0, from->address.s6_addr + first, 16 - first);
    sum = sum_add(sum, to->address.s6_addr + first, 16 - first);
    sum = sum_add(sum, rest, sizeof rest);
    sum = sum_add(sum, transport, len);
    uint16_t inverted = sum_fold(sum);
    bool none_is_zero = protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
    return htons(inverted || !none_is_zero ? inverted : 0xffff);
}

static void header4(struct buf *out, const struct packet_end *from, const struct packet_end *to, uint8_t protocol, size_t len)
{
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = protocol};
    memcpy(&ip.saddr, &from->address.s6_addr[12], 4);
    memcpy(&ip.daddr, &to->address.s6_addr[12], 4);
    ip.tot_len = htons((uint16_t)(sizeof ip + len));
    buf_add(out, &ip, sizeof ip);
}

static void header6(struct buf *out, const struct packet_end *from, const struct packet_end *to, uint8_t protocol, size_t len)
{
    struct ip6_hdr ip = {.ip6_src = from->address, .ip6_dst = to->address};
    ip.ip6_flow = htonl(6u << 28);
    ip.ip6_plen = htons((uint16_t)len);
    ip.ip6_nxt = protocol;
    ip.ip6_hlim = 64;
    buf_add(out, &ip, sizeof ip);
}

int packet_send(const struct packet_end *from, const struct packet_end *to, uint8_t protocol, const void *transport, size_t len)
{
    bool v4 = packet_end_is_v4(from);
    struct sockaddr_in to4 = {.sin_family = AF_INET};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_addr = to->address};
    AUTO_BUF struct buf packet = {0};
    int on = 1;
    memcpy(&to4.sin_addr, &to->address.s6_addr[12], 4);
    AUTO_CLOSE int raw = socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (raw < 0 || (!v4 && setsockopt(raw, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on) < 0))
        return -1;
    (v4 ? header4 : header6)(&packet, from, to, protocol, len);
    buf_add(&packet, transport, len);
    return sendto(raw, packet.data, packet.len, 0, v4 ? (const void *)&to4 : (const void *)&to6, v4 ? sizeof to4 : sizeof to6) < 0 ? -1 : 0;
}
