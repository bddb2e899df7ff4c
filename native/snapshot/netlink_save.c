/* Netlink sockets: port id, groups, options. Answers not read yet cannot be put back; they are read within moments. */
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include "files_save.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#define MEMBERSHIP_WORDS_MAX 64

static int addresses_save(const struct source *src, struct netlink_socket *n, struct err *e)
{
    struct sockaddr_nl address = {0};
    socklen_t len = sizeof address;
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "name of a netlink socket");
    n->port_id = address.nl_pid;
    n->groups = address.nl_groups;
    len = sizeof address;
    if (getpeername(src->fd, (struct sockaddr *)&address, &len) == 0) {
        n->peer_port = address.nl_pid;
        n->peer_groups = address.nl_groups;
    }
    return 0;
}

int netlink_save(struct saving *v, struct source *src, struct err *e)
{
    int type = 0, protocol = 0;
    socklen_t len = sizeof type;
    uint32_t groups[MEMBERSHIP_WORDS_MAX] = {0};
    socklen_t groups_len = sizeof groups;
    struct pollfd state = {.fd = src->fd, .events = POLLIN};
    if (getsockopt(src->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || getsockopt(src->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 ||
        poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a netlink socket");
    if (state.revents & POLLIN)
        return source_busy(v, src, e, "a netlink socket with answers not read yet");
    struct netlink_socket *n = LIST_ADD(&v->s->image, netlink_sockets);
    n->id = src->file->ref = src->file->id;
    n->net_space = src->net;
    n->type = (uint64_t)type;
    n->protocol = (uint64_t)protocol;
    if (getsockopt(src->fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &groups_len) == 0 && groups_len <= sizeof groups)
        bytes_set(&n->memberships, groups, groups_len);
    if (sockfilter_save(src->fd, &n->options, &n->options_count, e) < 0)
        return source_refuse(v, src, e, "%s", e->message);
    sockopts_save(src->fd, OPT_NETLINK, &n->options, &n->options_count);
    if (addresses_save(src, n, e) < 0)
        return -1;
    if (n->port_id && !diag_has_other(&v->view.diag, src->facts.st.st_ino)) /* only bound ones are listed */
        return source_refuse(v, src, e, "a netlink socket of another network namespace");
    return sockbufs_save(src->fd, &n->sndbuf, &n->rcvbuf, &n->buf_lock, e);
}
