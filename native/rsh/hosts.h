/* Which addresses belong to the job's own network, and which address a name of it has. */
#pragma once
#include <netinet/in.h>

#include "../base/base.h"

/* On a network of one of our own interfaces (loopback too). */
bool address_is_ours(struct in_addr address);
/* A dotted address, or a name in /etc/hosts; false: the job does not know it. */
bool host_find(const char *name, struct in_addr *out);
