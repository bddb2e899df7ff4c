/* The sockets of one network namespace as the kernel lists them (sock_diag(7)): what no descriptor tells (peers of
 * Unix sockets, their queues of connections not accepted yet, shutdown flags, TCP sockets that no descriptor
 * names). Read only; nothing is touched. */
#pragma once
#include <netinet/in.h>

#include "../image/schema.h"

struct diag_unix {
    uint32_t ino, peer;          /* inode numbers; peer 0 for none */
    uint8_t type, state, shutdown;
    uint32_t receive_len, send_len; /* of a listener: connections waiting, backlog */
    bool has_node;
    uint32_t node_ino;
    uint64_t node_dev;
    uint8_t name[108];
    size_t name_len;             /* abstract names begin with a NUL */
    uint32_t *pending;           /* inode numbers of the clients not accepted yet, oldest first */
    size_t pending_count;
};
struct diag_inet {
    uint32_t ino;                /* 0: no descriptor names it */
    uint8_t family, state, shutdown;
    uint16_t protocol;
    bool has_keys;               /* TCP_MD5SIG */
    uint32_t receive_len, send_len; /* of a listener: connections waiting, backlog */
    uint16_t local_port, remote_port;
    uint64_t net;                /* of diag_add; 0: of diag_read */
    uint8_t local[16], remote[16];
};
struct diag {
    struct diag_unix *unixes;    /* by inode, ascending */
    size_t unixes_count;
    struct diag_inet *inets;     /* TCP and UDP of both families, by inode, ascending */
    size_t inets_count;
    bool tcp_left;               /* no connection and no listener in the namespace: sockets with an address only were not asked for */
    uint32_t *others;            /* inode numbers of netlink sockets, ascending */
    size_t others_count;
};

/* A socket in the network namespace of process `pid`; the calling thread's own namespace is as before afterwards. */
MUST_CHECK int netns_socket(pid_t pid, int family, int type, int protocol, struct err *e);
MUST_CHECK int diag_read(pid_t pid, struct diag *out, struct err *e);
/* What diag_read left. */
MUST_CHECK int diag_add_tcp(pid_t pid, struct diag *d, struct err *e);
/* And those of the network namespace of that process, marked as of `net`. */
MUST_CHECK int diag_add(pid_t pid, uint64_t net, struct diag *d, struct err *e);
/* End a TCP connection of our own network namespace as if it had failed. */
MUST_CHECK int diag_destroy_tcp(const struct bytes *local, const struct bytes *remote, struct err *e);
void diag_free(struct diag *d);
const struct diag_unix *diag_find_unix(const struct diag *d, uint64_t ino);
const struct diag_inet *diag_find_inet(const struct diag *d, uint64_t ino);
bool diag_has_other(const struct diag *d, uint64_t ino);
