/* TCP sockets without a connection: listeners (of Multipath TCP too), sockets that were never connected, and what is left of connections
 * that ended: data that was not read, an error that was not read. Mirrors snapshot/tcp_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../kernel/sockdiag.h"
#include "../kernel/tcpstate.h"
#include "../snapshot/files_save.h"
#include "tcp_parts.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int listener_finish(int fd, const struct tcp_socket *t, struct err *e)
{
    int backlog = t->backlog > INT32_MAX ? INT32_MAX : (int)t->backlog;
    if (tcp_reuse_set(fd, t, e) < 0)
        return -1;
    return listen(fd, backlog) < 0 ? err_errno(e, "listen on TCP port %u", tcp_port(&t->local)) : 0;
}

static int unconnected_load(struct restore *r, const struct tcp_socket *t, struct err *e)
{
    size_t index;
    int fd = tcp_make(r, t, &index, e);
    if (fd < 0 || tcp_bind(fd, t, e) < 0 || tcp_int(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP, "leave TCP repair mode", e) < 0)
        return -1;
    if ((t->state == TCP_LISTEN ? listener_finish(fd, t, e) : tcp_reuse_set(fd, t, e)) < 0 ||
        sockbufs_load(fd, t->sndbuf, t->rcvbuf, t->buf_lock, e) < 0)
        return -1;
    if (t->shutdown && shutdown(fd, SHUT_RDWR) < 0 && errno != ENOTCONN)
        return err_errno(e, "shut a TCP socket");
    return file_flags_set(r, index, e);
}

/* What is left of a connection: the data that was not read, and behind it the end of file or the error. The other side is nobody. */
static int remains_load(struct restore *r, const struct tcp_socket *closed, struct err *e)
{
    struct tcp_socket t = *closed;
    uint8_t loopback[16] = {127, 0, 0, 1}, loopback6[16] = {[15] = 1};
    struct bytes remote = {0};
    size_t index;
    tcp_address(t.family, t.family == AF_INET ? loopback : loopback6, 9, &remote);
    t.local = t.remote = remote;
    t.bound = 0;
    t.state = TCP_ESTABLISHED;
    t.mss = 1460;
    t.shutdown = closed->error ? 0 : TCP_SHUT_RECEIVE;
    t.snd_seq = t.rcv_seq = 1;
    t.rcv_seq += t.receive_queue.len;
    int result = tcp_connection_load(r, &t, e);
    free(remote.data);
    if (result < 0 || file_index(r, t.id, &index, e) < 0)
        return -1;
    return tcp_int(r->file_fds[index], TCP_REPAIR, TCP_REPAIR_OFF_NO_WP, "leave TCP repair mode", e);
}

/* The kernel ends it as if it had failed. */
static int failure_load(struct restore *r, const struct tcp_socket *t, struct err *e)
{
    size_t index;
    struct sockaddr_storage address[2] = {0};
    struct bytes ends[2] = {0};
    if (remains_load(r, t, e) < 0 || file_index(r, t->id, &index, e) < 0)
        return -1;
    socklen_t local_len = sizeof *address, remote_len = sizeof *address;
    if (getsockname(r->file_fds[index], (struct sockaddr *)&address[0], &local_len) < 0 ||
        getpeername(r->file_fds[index], (struct sockaddr *)&address[1], &remote_len) < 0)
        return err_errno(e, "addresses of a connection");
    ends[0] = (struct bytes){(uint8_t *)&address[0], local_len};
    ends[1] = (struct bytes){(uint8_t *)&address[1], remote_len};
    return tcp_destroy(r, t, &ends[0], &ends[1], e) < 0 ? -1 : tcp_reuse_set(r->file_fds[index], t, e);
}

/* Sizes that were asked for; others the kernel tunes. */
static int multipath_buffers(int fd, const struct tcp_socket *t, struct err *e)
{
    const int halves[2] = {(int)(t->sndbuf / 2 & INT32_MAX), (int)(t->rcvbuf / 2 & INT32_MAX)};
    static const int names[2] = {SO_SNDBUF, SO_RCVBUF};
    for (int k = 0; k < 2; k++)
        if (t->buf_lock >> k & 1 && setsockopt(fd, SOL_SOCKET, names[k], &halves[k], sizeof halves[k]) < 0)
            return err_errno(e, "socket buffer of Multipath TCP");
    return 0;
}

/* Without repair mode, which Multipath TCP does not have. */
static int multipath_load(struct restore *r, const struct tcp_socket *t, struct err *e)
{
    size_t index;
    if (t->protocol != IPPROTO_MPTCP || (t->family != AF_INET && t->family != AF_INET6) || t->local.len > sizeof(struct sockaddr_storage))
        return err_set(e, E_BAD_IMAGE, "a TCP socket of family %lu, protocol %lu", t->family, t->protocol);
    int fd = tcp_socket_make(r, t, e);
    if (fd < 0 || file_index(r, t->id, &index, e) < 0 || file_place(r, index, fd, e) < 0)
        return -1;
    fd = r->file_fds[index];
    if (sockopts_load(fd, sockopts_internet(false, t->family), t->options, t->options_count, e) < 0 || tcp_bind(fd, t, e) < 0 ||
        (t->state == TCP_LISTEN && listener_finish(fd, t, e) < 0) || multipath_buffers(fd, t, e) < 0)
        return -1;
    return file_flags_set(r, index, e);
}

int tcp_closed_load(struct restore *r, const struct tcp_socket *t, struct err *e)
{
    if (t->protocol)
        return multipath_load(r, t, e);
    if (t->error)
        return failure_load(r, t, e);
    return t->state == TCP_CLOSE && t->receive_queue.len ? remains_load(r, t, e) : unconnected_load(r, t, e);
}
