/* All that is set in a network namespace: devices, addresses, rules, routes, permanent neighbours; read as messages of rtnetlink, and made anew from them in a
 * new namespace. Both in the calling process's own network namespace, with whatever rights that process has there. What cannot be asked for again but
 * shows (queueing disciplines, sets, states) is counted: equal counts in a namespace that was made anew mean that nothing of it was set. */
#pragma once
#include <linux/rtnetlink.h>

#include "netattr.h"

struct net_item {
    struct net_message message;
    struct buf compared;
};
struct net_conf {
    struct net_item *items;
    size_t count;
    struct buf counts;           /* of what can only be compared, as text */
};
/* E_UNSUPPORTED names what cannot be made anew. */
MUST_CHECK int netconf_read(struct net_conf *out, struct err *e);
void netconf_free(struct net_conf *c);
/* True if they say the same; else words name what differs in the first. */
bool netconf_same(const struct net_conf *a, const struct net_conf *b, char words[128]);

MUST_CHECK int netconf_validate(const struct net_message *messages, size_t count, struct err *e);
/* Of a namespace that was just made. */
MUST_CHECK int netconf_apply(const struct net_message *messages, size_t count, struct err *e);
/* Wait, not for long, until its addresses can be used: IPv6 hears of a device that is up only a moment later. */
void netconf_settle(void);

/* ---- parts of a message: the header of a link (zeros where it is too short), and one of its attributes */
struct ifinfomsg netconf_link(const struct net_message *m);
bool netconf_attribute(const struct net_message *m, uint16_t type, struct attribute *out);
