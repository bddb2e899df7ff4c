/* The rules of nftables in the calling process's own network namespace: tables, chains, objects, sets with their elements, rules; as the messages that load them
 * again, in an order that the kernel accepts, in one transaction. Handles are given anew. What tracks connections is refused by name. */
#pragma once
#include "netconf.h"

/* Adds to c. */
MUST_CHECK int nettables_read(struct net_conf *c, struct err *e);
/* Of all messages those that belong here; a namespace without rules of its own. */
MUST_CHECK int nettables_apply(const struct net_message *messages, size_t count, struct err *e);
