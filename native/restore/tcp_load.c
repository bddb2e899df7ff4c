/* TCP sockets back into the kernel, with the pod's network locked. First listeners (these and closed ones: tcp_closed_load.c), then connections in repair
 * mode with their receive queue; they stay in repair mode while the tree is made. tcp_load_finish then puts in what was sent and not
 * acknowledged, leaves repair mode, and sends the rest and the FINs in the ordinary way: all that as late as possible,
 * for retransmission backs off while the network is locked. Of a connection whose both ends are in this image the receiving
 * end is known, so nothing counts as sent that did not arrive. Mirrors snapshot/tcp_save.c. */
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
#include "files_load.h"
#include "tcp_parts.h"
#include "tcp_room.h"

#define CHUNK_FIRST (1u << 20)

int tcp_int(int fd, int name, int value, const char *words, struct err *e)
{
    return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value) < 0 ? err_errno(e, "%s", words) : 0;
}

bool tcp_is_connection(const struct tcp_socket *t)
{
    return t->state != TCP_LISTEN && t->state != TCP_CLOSE && t->state != TCP_SYN_SENT;
}

static unsigned families(const struct tcp_socket *t)
{
    return sockopts_internet(false, t->family);
}

static uint64_t option_value(const struct tcp_socket *t, int level, int name)
{
    for (size_t i = 0; i < t->options_count; i++) {
        int value;
        if (t->options[i].level == (uint64_t)level && t->options[i].name == (uint64_t)name && t->options[i].value.len == sizeof value) {
            memcpy(&value, t->options[i].value.data, sizeof value);
            return (uint64_t)(unsigned)value;
        }
    }
    return 0;
}

/* Repair mode leaves SO_REUSEADDR off. */
int tcp_reuse_set(int fd, const struct tcp_socket *t, struct err *e)
{
    int reuse = option_value(t, SOL_SOCKET, SO_REUSEADDR) != 0;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) < 0 ? err_errno(e, "SO_REUSEADDR") : 0;
}

/* ---- making one: bound in repair mode, which forces the port */
int tcp_socket_make(const struct restore *r, const struct tcp_socket *t, struct err *e)
{
    if (net_enter_maker(r, t->net_space, e) < 0)
        return -1;
    int fd = socket((int)t->family, SOCK_STREAM | SOCK_CLOEXEC, t->protocol ? (int)t->protocol : IPPROTO_TCP);
    net_leave_maker(r, t->net_space);
    return fd < 0 ? err_errno(e, "a TCP socket") : fd;
}

int tcp_destroy(const struct restore *r, const struct tcp_socket *t, const struct bytes *local, const struct bytes *remote, struct err *e)
{
    if (net_enter(r, t->net_space, e) < 0)
        return -1;
    int result = diag_destroy_tcp(local, remote, e);
    net_leave(r, t->net_space);
    return result;
}

int tcp_make(struct restore *r, const struct tcp_socket *t, size_t *index, struct err *e)
{
    static struct sockopt_defaults defaults[2]; /* of the two families */
    if ((t->family != AF_INET && t->family != AF_INET6) || t->local.len > sizeof(struct sockaddr_storage) ||
        t->remote.len > sizeof(struct sockaddr_storage))
        return err_set(e, E_BAD_IMAGE, "a TCP socket of family %lu", t->family);
    if (file_index(r, t->id, index, e) < 0)
        return -1;
    int fd = tcp_socket_make(r, t, e);
    if (fd < 0 || file_place(r, *index, fd, e) < 0)
        return -1;
    fd = r->file_fds[*index];
    return sockopts_load_new(fd, families(t), &defaults[t->family == AF_INET6], t->options, t->options_count, e) < 0 ||
                   tcp_int(fd, TCP_REPAIR, TCP_REPAIR_ON, "TCP repair mode", e) < 0
               ? -1
               : fd;
}

int tcp_bind(int fd, const struct tcp_socket *t, struct err *e)
{
    if (t->bound && bind(fd, (const void *)t->local.data, (socklen_t)t->local.len) < 0)
        return err_errno(e, "bind TCP port %u", tcp_port(&t->local));
    return 0;
}

/* ---- connections */
static int sequence_set(int fd, int queue, uint32_t seq, struct err *e)
{
    return tcp_int(fd, TCP_REPAIR_QUEUE, queue, "select a TCP queue", e) < 0 ||
                   tcp_int(fd, TCP_QUEUE_SEQ, (int)seq, "TCP sequence number", e) < 0
               ? -1
               : 0;
}

/* In pieces as large as the kernel takes. */
static int queue_put(int fd, const uint8_t *data, size_t len, const char *words, struct err *e)
{
    for (size_t at = 0, chunk = CHUNK_FIRST; at < len;) {
        size_t part = len - at < chunk ? len - at : chunk;
        ssize_t n = send(fd, data + at, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (chunk > 1024)
            chunk /= 2;
        else
            return err_errno(e, "%s: %zu of %zu bytes", words, at, len);
    }
    return 0;
}

static int negotiated_set(int fd, const struct tcp_socket *t, struct err *e)
{
    struct tcp_repair_opt options[4];
    size_t n = 0;
    options[n++] = (struct tcp_repair_opt){2 /* MSS */, (uint32_t)t->mss};
    if (t->tcp_options & TCPI_OPT_WSCALE)
        options[n++] = (struct tcp_repair_opt){3, (uint32_t)((t->snd_wscale & 0xff) | (t->rcv_wscale & 0xff) << 16)};
    if (t->tcp_options & TCPI_OPT_SACK)
        options[n++] = (struct tcp_repair_opt){4, 0};
    if (t->tcp_options & TCPI_OPT_TIMESTAMPS)
        options[n++] = (struct tcp_repair_opt){8, 0};
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, (socklen_t)(n * sizeof *options)) < 0)
        return err_errno(e, "TCP options");
    return tcp_int(fd, TCP_TIMESTAMP, (int)t->timestamp, "TCP timestamp", e);
}

int tcp_connection_load(struct restore *r, const struct tcp_socket *t, struct err *e)
{
    size_t index;
    size_t arrived = tcp_peer_arrived(r, t);
    int fd = tcp_make(r, t, &index, e);
    if (fd < 0 || sockbufs_widen(fd, tcp_room_of(t->sndbuf, &t->send_queue), tcp_room_of(t->rcvbuf, &t->receive_queue), e) < 0)
        return -1;
    uint32_t sent_from = (uint32_t)t->snd_seq - (uint32_t)(t->send_queue.len - arrived);
    if (sequence_set(fd, TCP_SEND_QUEUE, sent_from, e) < 0 ||
        sequence_set(fd, TCP_RECV_QUEUE, (uint32_t)t->rcv_seq - (uint32_t)t->receive_queue.len, e) < 0 || tcp_bind(fd, t, e) < 0)
        return -1;
    if (connect(fd, (const void *)t->remote.data, (socklen_t)t->remote.len) < 0)
        return t->outside ? 0 : err_errno(e, "connect in repair mode"); /* no way out of this pod any more */
    if (negotiated_set(fd, t, e) < 0 || tcp_int(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE, "select a TCP queue", e) < 0 ||
        queue_put(fd, t->receive_queue.data, t->receive_queue.len, "TCP receive queue", e) < 0)
        return -1;
    if (t->shutdown & TCP_SHUT_RECEIVE && shutdown(fd, SHUT_RD) < 0)
        return err_errno(e, "shut the receiving half");
    return file_flags_set(r, index, e);
}

int tcp_load(struct restore *r, struct err *e)
{
    tcp_peers_make(r);
    for (int listeners = 1; listeners >= 0; listeners--) /* a port belongs to its listener first */
        for (size_t i = 0; i < r->image->tcp_sockets_count; i++) {
            const struct tcp_socket *t = &r->image->tcp_sockets[i];
            if ((t->state == TCP_LISTEN) != listeners)
                continue;
            if ((tcp_is_connection(t) ? tcp_connection_load(r, t, e) : tcp_closed_load(r, t, e)) < 0)
                return err_wrap(e, "TCP socket of port %u", tcp_port(&t->local));
        }
    return 0;
}

/* ---- the end */
/* `arrived`: what the other side has already of the send queue; it reckoned the room that it offered from before that. */
static int window_set(int fd, const struct tcp_socket *t, size_t arrived, struct err *e)
{
    struct tcp_repair_window window;
    if (t->window.len != sizeof window)
        return err_set(e, E_BAD_IMAGE, "a TCP window of %zu bytes", t->window.len);
    memcpy(&window, t->window.data, sizeof window);
    if ((int32_t)(window.rcv_wup - (uint32_t)t->rcv_seq) > 0) /* it counted a FIN */
        window.rcv_wup = (uint32_t)t->rcv_seq;
    if ((int32_t)(window.snd_wl1 - (uint32_t)t->rcv_seq) > 0) /* of a segment that found no room: it comes again, and what comes before it counts, too */
        window.snd_wl1 = (uint32_t)t->rcv_seq;
    window.snd_wnd -= window.snd_wnd < arrived ? window.snd_wnd : (uint32_t)arrived;
    return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window) < 0 ? err_errno(e, "TCP window") : 0;
}

/* The kernel cut segments to the smallest when it connected in repair mode, and would leave it at that: setting IP options, those that it has or
 * none, makes it look again, now that it knows the other side's segment size and window. */
static int segments_size(int fd, const struct tcp_socket *t, struct err *e)
{
    struct sockaddr_in6 v6 = {0};
    const struct sockopt *found = NULL;
    memcpy(&v6, t->remote.data, t->remote.len < sizeof v6 ? t->remote.len : sizeof v6);
    if (t->family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) { /* a byte is no option, but counts as a change */
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, "", 1) < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, NULL, 0) < 0)
            return err_errno(e, "size of TCP segments");
        return 0;
    }
    for (size_t i = 0; i < t->options_count; i++)
        if (t->options[i].level == IPPROTO_IP && t->options[i].name == IP_OPTIONS)
            found = &t->options[i];
    if (setsockopt(fd, IPPROTO_IP, IP_OPTIONS, found ? found->value.data : NULL, found ? (socklen_t)found->value.len : 0) < 0)
        return err_errno(e, "size of TCP segments");
    return 0;
}

static size_t unsent_bytes(const struct restore *r, const struct tcp_socket *t)
{
    size_t len = t->send_queue.len;
    return tcp_peer_is_here(r, t) ? len - tcp_peer_arrived(r, t) : t->unsent_len < len ? t->unsent_len : len;
}

/* What comes in the moment the others wake is offered no more room than there will be. */
static int receive_room_set(int fd, const struct tcp_socket *t, struct err *e)
{
    return sockbufs_load(fd, sockbuf_wide(tcp_room_of(t->sndbuf, &t->send_queue)), t->rcvbuf, t->buf_lock, e);
}

static int connection_wake(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    size_t arrived = tcp_peer_arrived(r, t), len = t->send_queue.len, unsent = unsent_bytes(r, t);
    const uint8_t *data = t->send_queue.data;
    /* Where the other side has sent its FIN it may be closed and gone: a window probe would only bring a reset. Nothing is cut in a namespace of the
     * job: the other side may not be awake yet. */
    int leave = t->shutdown & TCP_SHUT_RECEIVE || t->net_space ? TCP_REPAIR_OFF_NO_WP : TCP_REPAIR_OFF;
    if (tcp_int(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE, "select a TCP queue", e) < 0 ||
        queue_put(fd, data + arrived, len - arrived - unsent, "TCP send queue", e) < 0 || window_set(fd, t, arrived, e) < 0 ||
        segments_size(fd, t, e) < 0 ||
        tcp_int(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE, "select a TCP queue", e) < 0 ||
        tcp_int(fd, TCP_REPAIR, leave, "leave TCP repair mode", e) < 0 || tcp_reuse_set(fd, t, e) < 0)
        return -1;
    return t->net_space ? receive_room_set(fd, t, e) : 0;
}

static int connection_send(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    size_t unsent = unsent_bytes(r, t);
    if (queue_put(fd, t->send_queue.data + t->send_queue.len - unsent, unsent, "TCP data not sent yet", e) < 0 ||
        sockbufs_load(fd, t->sndbuf, t->rcvbuf, t->buf_lock, e) < 0)
        return -1;
    if (t->shutdown & TCP_SHUT_SEND && shutdown(fd, SHUT_WR) < 0 && errno != ENOTCONN)
        return err_errno(e, "shut the sending half");
    return 0;
}

/* The other side knows nothing of the cut: the job sees the connection end (ECONNABORTED), as it would if the machine had lost it. */
static int outside_finish(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    if (tcp_int(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP, "leave TCP repair mode", e) < 0 || tcp_reuse_set(fd, t, e) < 0 ||
        sockbufs_load(fd, t->sndbuf, t->rcvbuf, t->buf_lock, e) < 0)
        return -1;
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state != TCP_CLOSE)
        return tcp_destroy(r, t, &t->local, &t->remote, e);
    return shutdown(fd, SHUT_RDWR) < 0 && errno != ENOTCONN ? err_errno(e, "shut a TCP socket") : 0;
}

/* Nothing had been exchanged yet: connect anew, without waiting. */
static int attempt_finish(int fd, const struct tcp_socket *t, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_errno(e, "flags of a socket");
    if (connect(fd, (const void *)t->remote.data, (socklen_t)t->remote.len) < 0 && errno != EINPROGRESS && errno != EPERM)
        return err_errno(e, "connect to port %u", tcp_port(&t->remote));
    return fcntl(fd, F_SETFL, flags) < 0 ? err_errno(e, "flags of a socket") : 0;
}

static int socket_wake(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    if (!tcp_is_connection(t))
        return 0;
    return t->outside ? outside_finish(r, fd, t, e) : connection_wake(r, fd, t, e);
}

static int socket_send(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    if (tcp_is_connection(t) && !t->outside)
        return connection_send(r, fd, t, e);
    return t->state == TCP_SYN_SENT ? attempt_finish(fd, t, e) : 0;
}

static int all_finish(const struct restore *r, bool own, int (*finish)(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e), struct err *e)
{
    for (size_t i = 0; i < r->image->tcp_sockets_count; i++) {
        const struct tcp_socket *t = &r->image->tcp_sockets[i];
        size_t index;
        if ((t->net_space != 0) != own)
            continue;
        if (file_index(r, t->id, &index, e) < 0 || finish(r, r->file_fds[index], t, e) < 0)
            return err_wrap(e, "TCP socket of port %u", tcp_port(&t->local));
    }
    return 0;
}

static int socket_finish(const struct restore *r, int fd, const struct tcp_socket *t, struct err *e)
{
    return socket_wake(r, fd, t, e) < 0 ? -1 : socket_send(r, fd, t, e);
}

/* In the pod's network, which is cut, one after the other; in the job's own all are awake before the first of them sends. */
int tcp_load_finish(struct restore *r, struct err *e)
{
    if (all_finish(r, false, socket_finish, e) < 0 || all_finish(r, true, socket_wake, e) < 0 || all_finish(r, true, socket_send, e) < 0)
        return -1;
    tcp_peers_free(r);
    return 0;
}
