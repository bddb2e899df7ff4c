/* Netlink messages: building them in a buffer, sending them in one go, collecting the kernel's answers. Sockets can be made
 * in another network namespace. Knows nothing of links or tables (netdev.c, netlock.c). */
#pragma once
#include "../base/base.h"

/* A socket made in the network namespace behind nsfd (-1: our own). The caller must be single-threaded. */
MUST_CHECK int netlink_open(int nsfd, int protocol, struct err *e);

/* One message: begin with its fixed header, add attributes, end. `at` is what begin returned. */
size_t netlink_begin(struct buf *b, uint16_t type, uint16_t flags, const void *header, size_t len);
void netlink_end(struct buf *b, size_t at);
void netlink_put(struct buf *b, uint16_t type, const void *data, size_t len);
void netlink_put_u32(struct buf *b, uint16_t type, uint32_t value);
void netlink_put_str(struct buf *b, uint16_t type, const char *text);
/* Bytes and zeros up to the next boundary. */
void netlink_pad(struct buf *b, const void *data, size_t len);
size_t netlink_nest(struct buf *b, uint16_t type);
void netlink_nest_end(struct buf *b, size_t at);

/* Send all messages of the buffer; 0, or -1 with the first error that the kernel answered (errno_out gets its number, 0 if none). */
MUST_CHECK int netlink_send(int fd, const struct buf *b, int *errno_out, struct err *e);
