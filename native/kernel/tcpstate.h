/* Numbers of TCP states as the kernel shows them (include/net/tcp_states.h; linux/tcp.h and netinet/tcp.h do not go
 * together), and socket addresses as bytes. */
#pragma once
#include <netinet/in.h>

#include "../image/schema.h"

enum tcp_state_number {
    TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT,
    TCP_LAST_ACK, TCP_LISTEN, TCP_CLOSING, TCP_NEW_SYN_RECV
};
/* sk_shutdown */
enum tcp_shutdown { TCP_SHUT_RECEIVE = 1, TCP_SHUT_SEND = 2 };

uint16_t tcp_port(const struct bytes *address);
/* A sockaddr_in or sockaddr_in6 of an address in network order. */
void tcp_address(uint64_t family, const uint8_t raw[16], uint16_t port, struct bytes *out);
/* The address lies in "A.B.C.D/LEN". */
bool tcp_address_in(const struct bytes *address, const char *net);
bool tcp_address_is_loopback(const struct bytes *address);
/* Address and port as bytes that can be compared and put in order: an IPv4 address mapped into IPv6 gives the same as itself. False: neither. */
#define TCP_KEY_BYTES 18
bool tcp_address_key(const struct bytes *address, uint8_t key[TCP_KEY_BYTES]);
/* The same address and port, an IPv4 address mapped into IPv6 being the same as itself. */
bool tcp_address_equal(const struct bytes *a, const struct bytes *b);
