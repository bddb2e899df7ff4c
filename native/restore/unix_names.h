/* Names of Unix sockets while they are being made again: bind(2) to the very name that getsockname(2) told, in a tree that may
 * already hold the node, another socket's node, or nothing at that place. Afterwards the place is as the tree had it. */
#pragma once
#include <sys/un.h>

#include "files_load.h"
#include "unix_maker.h"

struct borrowed {            /* a place to be put right at the end */
    uint64_t mount_space;
    char *dir, *path, *aside; /* aside: the name, in the same directory, of what stood there; NULL if nothing did */
};
struct names {
    const struct restore *r;
    struct borrowed *items;
    size_t items_count;
};

MUST_CHECK int name_bind(struct names *n, int fd, const struct unix_socket *u, struct err *e);
/* connect(2) to the name of u, by `maker` (NULL: it does not matter). */
MUST_CHECK int name_connect(const struct restore *r, int fd, const struct unix_socket *u, const struct maker *maker, struct err *e);
/* The address at which the socket of that name is reached, while *held (or -1) is open. */
MUST_CHECK int name_reach(const struct restore *r, const struct unix_socket *u, struct sockaddr_un *out, size_t *len, int *held, struct err *e);
bool name_equal(const struct bytes *a, const struct bytes *b);
MUST_CHECK int names_finish(struct names *n, struct err *e);
void names_free(struct names *n);
