/* UDP sockets with the datagrams that wait in them. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "../kernel/tcpstate.h"
#include "files_messages.h"
#include "nets_reach.h"

static int addresses_save(const struct source *src, struct udp_socket *u, struct err *e)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of a socket");
    bytes_set(&u->local, &address, len);
    u->bound = tcp_port(&u->local) != 0;
    len = sizeof address;
    if (getpeername(src->fd, (struct sockaddr *)&address, &len) == 0) {
        bytes_set(&u->remote, &address, len);
        u->connected = 1;
    }
    return 0;
}

static bool option_is_set(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) == 0 && value;
}

/* Of a connected socket: a datagram before was refused. Which error it was nobody can look at without taking it away; it is nearly always this one. */
static int error_save(const struct saving *v, const struct source *src, struct udp_socket *u, struct err *e)
{
    struct pollfd state = {.fd = src->fd, .events = POLLIN};
    if (poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a UDP socket");
    if (!(state.revents & POLLERR))
        return 0;
    if (!u->connected || state.revents & POLLIN || option_is_set(src->fd, IPPROTO_IP, IP_RECVERR) || option_is_set(src->fd, IPPROTO_IPV6, IPV6_RECVERR))
        return source_busy(v, src, e, "a UDP socket with an error and messages that were not read yet");
    u->error = ECONNREFUSED;
    source_warn(v, src, "udp", "the error of a UDP socket, not read yet, comes back as ECONNREFUSED");
    return 0;
}

static int datagram_add(void *ctx, const struct peeked *m, struct err *e)
{
    struct udp_socket *u = ctx;
    struct datagram *d = LIST_ADD(u, queue);
    (void)e;
    bytes_set(&d->data, m->data, m->len);
    bytes_set(&d->from, m->from, m->from_len);
    return 0;
}

int udp_save(struct saving *v, struct source *src, struct err *e)
{
    const struct diag_inet *d = diag_find_inet(&v->view.diag, src->facts.st.st_ino);
    struct udp_socket *u = LIST_ADD(&v->s->image, udp_sockets);
    u->id = src->file->ref = src->file->id;
    u->family = (uint64_t)src->socket.domain;
    u->net_space = src->net;
    u->type = SOCK_DGRAM;
    u->protocol = (uint64_t)src->socket.protocol;
    u->shutdown = d ? d->shutdown : 0;
    if (sockfilter_save(src->fd, &u->options, &u->options_count, e) < 0)
        return source_refuse(v, src, e, "%s", e->message);
    sockopts_save(src->fd, sockopts_internet(true, u->family), &u->options, &u->options_count);
    if (addresses_save(src, u, e) < 0 || sockbufs_save(src->fd, &u->sndbuf, &u->rcvbuf, &u->buf_lock, e) < 0)
        return -1;
    if (groups_save(v, src, &u->options, &u->options_count, e) < 0 || error_save(v, src, u, e) < 0)
        return -1;
    if (net_reach_check(v, src, &u->local, &u->remote, e) < 0)
        return -1;
    if (u->bound && !d)
        return source_refuse(v, src, e, "a UDP socket of another network namespace");
    return messages_peek(v, src, 0, false, datagram_add, u, e);
}
