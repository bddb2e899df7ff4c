/* Which attributes of a netlink message say what somebody has set, and which are only measured: from what the kernel tells of a link, an address, a route, …
 * to the message that makes it anew. Every attribute is one of four: kept (asked for again), kept and not compared (remaining times), left out (counters,
 * states that come by themselves), or only compared: what is not known here must be the same in a network namespace that was made anew, or there is no
 * making it anew. */
#pragma once
#include "../image/schema.h"

struct attribute {
    uint16_t type;               /* without flags */
    size_t len;
    const uint8_t *data;
};
/* The next one before `end`; false: none, or what is left is none. */
bool attribute_next(const uint8_t **at, const uint8_t *end, struct attribute *out);
bool attribute_find(const uint8_t *at, const uint8_t *end, uint16_t type, struct attribute *out);
uint32_t attribute_u32(const struct attribute *a);

/* How long the header of a message of rtnetlink is; 0: of a type that is not kept. */
size_t netattr_header(uint16_t type);
/* `body` (header and attributes, as the kernel told) as it is asked for again, and the text by which two of them are compared. E_UNSUPPORTED: it cannot be
 * read. */
MUST_CHECK int netattr_filter(uint16_t type, const uint8_t *body, size_t len, struct buf *kept, struct buf *compared, struct err *e);
/* The name of an expression of a rule of nftables that cannot be made anew with all that it remembers; NULL: it has none. */
const char *netattr_strange_expression(const struct net_message *m);
/* Only what netattr_filter keeps, well formed, with lengths that are possible; for what an image says. */
MUST_CHECK int netattr_validate(const struct net_message *m, struct err *e);
