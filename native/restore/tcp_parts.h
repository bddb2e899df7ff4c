/* What the two halves of loading TCP sockets share: connections (tcp_load.c), and listeners and sockets that are not connected
 * (tcp_closed_load.c). */
#pragma once
#include "files_load.h"
#include "spaces.h"

MUST_CHECK int tcp_int(int fd, int name, int value, const char *words, struct err *e);
/* socket(2), in the network namespace that it belongs to. */
MUST_CHECK int tcp_socket_make(const struct restore *r, const struct tcp_socket *t, struct err *e);
/* End it as if it had failed. */
MUST_CHECK int tcp_destroy(const struct restore *r, const struct tcp_socket *t, const struct bytes *local, const struct bytes *remote, struct err *e);
/* A socket in repair mode with its options, at its place. Its descriptor. */
MUST_CHECK int tcp_make(struct restore *r, const struct tcp_socket *t, size_t *index, struct err *e);
MUST_CHECK int tcp_bind(int fd, const struct tcp_socket *t, struct err *e);
/* Repair mode leaves SO_REUSEADDR off. */
MUST_CHECK int tcp_reuse_set(int fd, const struct tcp_socket *t, struct err *e);
bool tcp_is_connection(const struct tcp_socket *t);
/* The other end of a connection, if the image holds it: found in a list that is made once, for among thousands each would look through all.
 * An end may be its own other end. */
void tcp_peers_make(struct restore *r);
void tcp_peers_free(struct restore *r);
bool tcp_peer_is_here(const struct restore *r, const struct tcp_socket *t);
/* How much at the head of the send queue the other end already has, if that end is in this image; else 0. */
size_t tcp_peer_arrived(const struct restore *r, const struct tcp_socket *t);
MUST_CHECK int tcp_connection_load(struct restore *r, const struct tcp_socket *t, struct err *e);
MUST_CHECK int tcp_closed_load(struct restore *r, const struct tcp_socket *t, struct err *e);
