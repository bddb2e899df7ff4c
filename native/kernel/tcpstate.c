/* See tcpstate.h. */
#include "tcpstate.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Address and port in one form: IPv4 mapped into IPv6. False if it is neither. */
static bool address_parse(const struct bytes *b, struct in6_addr *address, uint16_t *port)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family;
    if (b->len < sizeof family)
        return false;
    memcpy(&family, b->data, sizeof family);
    if (family == AF_INET && b->len >= sizeof v4) {
        memcpy(&v4, b->data, sizeof v4);
        *address = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&address->s6_addr[12], &v4.sin_addr, 4);
        *port = ntohs(v4.sin_port);
        return true;
    }
    if (family != AF_INET6 || b->len < sizeof v6)
        return false;
    memcpy(&v6, b->data, sizeof v6);
    *address = v6.sin6_addr;
    *port = ntohs(v6.sin6_port);
    return true;
}

uint16_t tcp_port(const struct bytes *address)
{
    struct in6_addr ignored;
    uint16_t port = 0;
    return address_parse(address, &ignored, &port) ? port : 0;
}

void tcp_address(uint64_t family, const uint8_t raw[16], uint16_t port, struct bytes *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&v4.sin_addr, raw, 4);
    memcpy(&v6.sin6_addr, raw, 16);
    if (family == AF_INET)
        bytes_set(out, &v4, sizeof v4);
    else
        bytes_set(out, &v6, sizeof v6);
}

bool tcp_address_equal(const struct bytes *a, const struct bytes *b)
{
    struct in6_addr x, y;
    uint16_t x_port, y_port;
    return address_parse(a, &x, &x_port) && address_parse(b, &y, &y_port) && x_port == y_port && !memcmp(&x, &y, sizeof x);
}

bool tcp_address_key(const struct bytes *address, uint8_t key[TCP_KEY_BYTES])
{
    struct in6_addr a;
    uint16_t port;
    if (!address_parse(address, &a, &port))
        return false;
    memcpy(key, &a, sizeof a);
    memcpy(key + sizeof a, &port, sizeof port);
    return true;
}

bool tcp_address_is_loopback(const struct bytes *address)
{
    struct in6_addr a;
    uint16_t port;
    return address_parse(address, &a, &port) &&
           (IN6_IS_ADDR_LOOPBACK(&a) || (IN6_IS_ADDR_V4MAPPED(&a) && a.s6_addr[12] == 127));
}

bool tcp_address_in(const struct bytes *address, const char *net)
{
    struct in6_addr a;
    struct in_addr wanted;
    uint32_t found;
    uint16_t port;
    char text[64];
    snprintf(text, sizeof text, "%s", net);
    char *slash = strchr(text, '/');
    unsigned long len = slash ? strtoul(slash + 1, NULL, 10) : 32;
    if (slash)
        *slash = 0;
    if (!address_parse(address, &a, &port) || !IN6_IS_ADDR_V4MAPPED(&a) || inet_pton(AF_INET, text, &wanted) != 1 || len > 32)
        return false;
    memcpy(&found, &a.s6_addr[12], sizeof found);
    uint32_t mask = len ? ~0u << (32 - len) : 0;
    return ((ntohl(found) ^ ntohl(wanted.s_addr)) & mask) == 0;
}
