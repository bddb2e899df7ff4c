/* What the two halves of loading TCP sockets share: connections (tcp_load.c), and listeners and sockets that are not connected
 * (tcp_closed_load.c). */
#pragma once
#include "files_load.h"

MUST_CHECK int tcp_int(int fd, int name, int value, const char *words, struct err *e);
/* A socket in repair mode with its options, at its place. Its descriptor. */
MUST_CHECK int tcp_make(struct restore *r, const struct tcp_socket *t, size_t *index, struct err *e);
MUST_CHECK int tcp_bind(int fd, const struct tcp_socket *t, struct err *e);
/* Repair mode leaves SO_REUSEADDR off. */
MUST_CHECK int tcp_reuse_set(int fd, const struct tcp_socket *t, struct err *e);
MUST_CHECK int tcp_connection_load(struct restore *r, const struct tcp_socket *t, struct err *e);
MUST_CHECK int tcp_closed_load(struct restore *r, const struct tcp_socket *t, struct err *e);
