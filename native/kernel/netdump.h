/* One dump over netlink, answer by answer. */
#pragma once
#include <linux/netlink.h>

#include "../base/base.h"

/* 0; -1: `each` failed, or the kernel did (then *number is its errno, else 0). An answer that was disturbed by a change: E_BUSY. */
typedef int (*netdump_fn)(void *ctx, const struct nlmsghdr *m, struct err *e);
MUST_CHECK int netdump(int protocol, uint16_t type, const void *header, size_t len, netdump_fn each, void *ctx, int *number, struct err *e);
/* The same over a socket that is there, which may be of another namespace. */
MUST_CHECK int netdump_on(int fd, uint16_t type, const void *header, size_t len, netdump_fn each, void *ctx, int *number, struct err *e);
/* How many answers; -errno if the kernel has none to give. */
int netdump_count(int protocol, uint16_t type, const void *header, size_t len);
