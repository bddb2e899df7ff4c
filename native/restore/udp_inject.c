/* See udp_inject.h. */
#include "udp_inject.h"

#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

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
    udp.check = packet_checksum(&from, &to, IPPROTO_UDP, whole.data, whole.len);
    memcpy(whole.data, &udp, sizeof udp);
    return packet_send(&from, &to, IPPROTO_UDP, whole.data, whole.len) < 0 ? err_errno(e, "put a datagram of %zu bytes back", d->data.len) : 0;
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
