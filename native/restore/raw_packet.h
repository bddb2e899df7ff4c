/* Packets with addresses of our choice, sent by a raw socket inside the pod: datagrams that are put back (udp_inject.c), probes that
 * set restored TCP connections going (tcp_kick.c). IPv4 addresses are mapped into IPv6 here. */
#pragma once
#include <netinet/in.h>

#include "../image/schema.h"

struct packet_end {
    struct in6_addr address;
    uint16_t port;           /* network order */
};
/* False if the bytes are no sockaddr_in or sockaddr_in6. */
bool packet_end_parse(const struct bytes *sockaddr, struct packet_end *out);
bool packet_end_is_v4(const struct packet_end *end);
/* The Internet checksum over the pseudo header and the transport's header and data (its checksum field zero), network order. */
uint16_t packet_checksum(const struct packet_end *from, const struct packet_end *to, uint8_t protocol, const void *transport, size_t len);
/* The same over bytes alone. */
uint16_t packet_sum(const void *data, size_t len);
/* Transport header and data behind an IP header. 0, or -1 with errno. */
int packet_send(const struct packet_end *from, const struct packet_end *to, uint8_t protocol, const void *transport, size_t len);
