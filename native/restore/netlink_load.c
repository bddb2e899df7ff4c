/* Netlink sockets. Mirrors snapshot/netlink_save.c. */
#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../snapshot/files_save.h"
#include "files_load.h"
#include "spaces.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

static int groups_join(int fd, const struct netlink_socket *n, struct err *e)
{
    for (size_t bit = 0; bit < 8 * n->memberships.len; bit++) {
        int group = (int)bit + 1;
        if (n->memberships.data[bit / 8] >> bit % 8 & 1 &&
            setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
            return err_errno(e, "netlink group %d", group);
    }
    return 0;
}

static int names_set(int fd, const struct netlink_socket *n, struct err *e)
{
    struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_pid = (uint32_t)n->port_id};
    struct sockaddr_nl peer = {.nl_family = AF_NETLINK, .nl_pid = (uint32_t)n->peer_port, .nl_groups = (uint32_t)n->peer_groups};
    if (n->port_id && bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
        return err_errno(e, "netlink port %lu", n->port_id);
    if ((n->peer_port || n->peer_groups) && connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0)
        return err_errno(e, "netlink peer %lu", n->peer_port);
    return 0;
}

static int one_load(struct restore *r, const struct netlink_socket *n, struct err *e)
{
    size_t index;
    if (file_index(r, n->id, &index, e) < 0)
        return -1;
    if (n->type != SOCK_RAW && n->type != SOCK_DGRAM)
        return err_set(e, E_BAD_IMAGE, "a netlink socket of type %lu", n->type);
    if (net_enter(r, n->net_space, e) < 0)
        return -1;
    owner_rights_begin(r); /* what it may ask depends on who made it; a namespace of the job is its user's */
    int fd = socket(AF_NETLINK, (int)n->type | SOCK_CLOEXEC, (int)n->protocol);
    owner_rights_end(r);
    net_leave(r, n->net_space);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "a netlink socket of protocol %lu", n->protocol) : -1;
    fd = r->file_fds[index];
    if (names_set(fd, n, e) < 0 || groups_join(fd, n, e) < 0 || sockopts_load(fd, OPT_NETLINK, n->options, n->options_count, e) < 0 ||
        sockbufs_load(fd, n->sndbuf, n->rcvbuf, n->buf_lock, e) < 0)
        return -1;
    return file_flags_set(r, index, e);
}

int netlink_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->netlink_sockets_count; i++)
        if (one_load(r, &r->image->netlink_sockets[i], e) < 0)
            return err_wrap(e, "netlink socket");
    return 0;
}
