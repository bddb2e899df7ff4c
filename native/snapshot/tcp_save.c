/* TCP sockets, asked through the engine's duplicate in repair mode. Sequence numbers in the image stand behind the last byte of
 * each queue and never count a FIN: a FIN that was sent is sent again after the restore (`shutdown` says so), one that was
 * received comes again from the other side, and until it comes the receiving half is shut, so that the reader sees
 * the end of file at once. Repair mode loses SO_REUSEADDR, which is put back. After leaving it without a window
 * probe the socket is exactly as before. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../kernel/tcpstate.h"
#include "../store/crew.h"
#include "files_save.h"
#include "nets_reach.h"

#define SOCKETS_AT_ONCE 16ul
#define SEGMENT_MIN 88 /* what may be asked for */
#define SEGMENT_MAX 32767
#define SEND_SLACK_BYTES (256u * 1024) /* a segment acknowledged in part is shown whole */

/* ---- what lies in the pod's network without a descriptor */
static const char *orphan_words(const struct diag_inet *s)
{
    switch (s->state) {
    case TCP_FIN_WAIT1: case TCP_CLOSING: case TCP_LAST_ACK:
        return "a closed TCP connection whose last data is not acknowledged yet";
    case TCP_SYN_RECV: case TCP_NEW_SYN_RECV:
        return "a TCP connection that is just being made";
    case TCP_ESTABLISHED: case TCP_CLOSE_WAIT:
        return "a TCP connection that was not accepted yet";
    default:
        return NULL; /* FIN_WAIT2, TIME_WAIT: nothing of ours is left to deliver */
    }
}

int tcp_check_orphans(struct saving *v, struct err *e)
{
    const struct diag *d = &v->view.diag;
    for (size_t i = 0; i < d->inets_count && d->inets[i].ino == 0; i++) {
        const struct diag_inet *s = &d->inets[i];
        const char *words = s->protocol == IPPROTO_TCP ? orphan_words(s) : NULL;
        if (words)
            return err_set(e, E_BUSY, "%s (port %u, other side's %u)", words, s->local_port, s->remote_port);
    }
    return 0;
}

/* ---- repair mode */
static int repair_enter(const struct saving *v, const struct source *src, int *reuse, struct err *e)
{
    int on = TCP_REPAIR_ON;
    socklen_t len = sizeof *reuse;
    if (getsockopt(src->fd, SOL_SOCKET, SO_REUSEADDR, reuse, &len) < 0)
        return err_errno(e, "SO_REUSEADDR");
    if (journal_note("repair %d %d %lu %d", v->s->victims[src->victim].pid, src->number,
                     (unsigned long)src->facts.st.st_ino, *reuse) < 0)
        return err_set(e, E_IO, "journal cannot be written");
    return setsockopt(src->fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0 ? err_errno(e, "TCP repair mode") : 0;
}

static int repair_leave(const struct source *src, int reuse, struct err *e)
{
    int off = TCP_REPAIR_OFF_NO_WP, queue = TCP_NO_QUEUE;
    (void)setsockopt(src->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue);
    if (setsockopt(src->fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off) < 0 ||
        setsockopt(src->fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) < 0)
        return err_errno(e, "leave TCP repair mode");
    return 0;
}

/* ---- queues */
static int sequence_get(int fd, int queue, uint64_t *seq, struct err *e)
{
    uint32_t number = 0;
    socklen_t len = sizeof number;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue) < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &number, &len) < 0)
        return err_errno(e, "TCP sequence number");
    *seq = number;
    return 0;
}

/* The last `len` bytes of the selected queue. */
static int queue_peek(int fd, size_t len, size_t slack, struct bytes *out, struct err *e)
{
    if (len == 0)
        return 0;
    AUTO_FREE uint8_t *data = xcalloc(1, len + slack);
    ssize_t n = recv(fd, data, len + slack, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        return err_errno(e, "TCP queue of %zu bytes", len);
    if ((size_t)n < len)
        return err_set(e, E_UNSUPPORTED, "a TCP queue with urgent data (%zd of %zu bytes can be read)", n, len);
    bytes_set(out, data + ((size_t)n - len), len);
    return 0;
}

static uint32_t fins_sent(uint64_t state)
{
    return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}
static uint32_t fins_received(uint64_t state)
{
    return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
}

static int lengths_get(int fd, uint64_t state, size_t *out, size_t *unsent, size_t *in, struct err *e)
{
    int out_bytes = 0, unsent_bytes = 0, in_bytes = 0;
    if (ioctl(fd, SIOCOUTQ, &out_bytes) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent_bytes) < 0 || ioctl(fd, SIOCINQ, &in_bytes) < 0)
        return err_errno(e, "lengths of TCP queues");
    int fin = fins_sent(state) && state != TCP_FIN_WAIT2; /* sent or queued, counted, not acknowledged */
    out_bytes -= out_bytes > 0 ? fin : 0;
    unsent_bytes -= unsent_bytes > 0 ? fin : 0;
    *out = (size_t)out_bytes;
    *unsent = (size_t)(unsent_bytes < out_bytes ? unsent_bytes : out_bytes);
    *in = (size_t)in_bytes;
    return 0;
}

static int queues_save(int fd, struct tcp_socket *t, struct err *e)
{
    size_t out = 0, unsent = 0, in = 0;
    if (lengths_get(fd, t->state, &out, &unsent, &in, e) < 0 || sequence_get(fd, TCP_RECV_QUEUE, &t->rcv_seq, e) < 0 ||
        queue_peek(fd, in, 0, &t->receive_queue, e) < 0 || sequence_get(fd, TCP_SEND_QUEUE, &t->snd_seq, e) < 0 ||
        queue_peek(fd, out, SEND_SLACK_BYTES, &t->send_queue, e) < 0)
        return -1;
    t->snd_seq = (uint32_t)t->snd_seq - fins_sent(t->state);
    t->rcv_seq = (uint32_t)t->rcv_seq - fins_received(t->state);
    t->unsent_len = unsent;
    return 0;
}

/* ---- what was negotiated */
static int negotiated_save(int fd, struct tcp_socket *t, const struct tcp_info *info, struct err *e)
{
    struct tcp_repair_window window;
    uint32_t mss = 0, timestamp = 0;
    socklen_t len = sizeof mss, window_len = sizeof window;
    if (getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len) < 0 || getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &timestamp, &len) < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &window_len) < 0)
        return err_errno(e, "TCP options");
    t->mss = mss;
    t->timestamp = timestamp;
    t->tcp_options = info->tcpi_options;
    t->snd_wscale = info->tcpi_snd_wscale;
    t->rcv_wscale = info->tcpi_rcv_wscale;
    bytes_set(&t->window, &window, sizeof window);
    return 0;
}

static int connected_save(const struct saving *v, const struct source *src, struct tcp_socket *t, const struct tcp_info *info,
                          struct err *e)
{
    int reuse = 0;
    if (repair_enter(v, src, &reuse, e) < 0)
        return -1;
    int result = queues_save(src->fd, t, e) < 0 || negotiated_save(src->fd, t, info, e) < 0 ? -1 : 0;
    struct err on_leaving;
    if (repair_leave(src, reuse, &on_leaving) < 0 && result == 0) {
        *e = on_leaving;
        return -1;
    }
    return result;
}

/* ---- the parts of one socket */
static int addresses_save(const struct source *src, const struct diag_inet *d, struct tcp_socket *t, struct err *e)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of a socket");
    bytes_set(&t->local, &address, len);
    t->bound = tcp_port(&t->local) != 0;
    if (t->state == TCP_CLOSE || t->state == TCP_LISTEN)
        return 0;
    if (t->state == TCP_SYN_SENT) { /* getpeername does not tell before it is connected */
        tcp_address(t->family, d->remote, d->remote_port, &t->remote);
        return 0;
    }
    len = sizeof address;
    if (getpeername(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of the other side");
    bytes_set(&t->remote, &address, len);
    return 0;
}

/* ---- connections that leave the job */
static bool is_own_address(const struct diag *d, const struct tcp_socket *t)
{
    for (size_t i = 0; i < d->inets_count; i++) {
        struct bytes local = {0};
        tcp_address(d->inets[i].family, d->inets[i].local, d->inets[i].local_port, &local);
        bool same = !d->inets[i].net && d->inets[i].protocol == IPPROTO_TCP && tcp_address_equal(&local, &t->remote);
        free(local.data);
        if (same)
            return true;
    }
    return false;
}

static bool is_outside(const struct saving *v, const struct tcp_socket *t)
{
    const struct pod_net *net = &v->s->pod->net;
    if (t->net_space || !t->remote.len || tcp_address_is_loopback(&t->remote))
        return false;
    bool gateway = net->gateway[0] && tcp_address_in(&t->remote, net->gateway);
    return (gateway || !net->present || !tcp_address_in(&t->remote, net->ip)) && !is_own_address(&v->view.diag, t);
}

static void outside_note(struct saving *v, const struct source *src, struct tcp_socket *t)
{
    t->outside = is_outside(v, t);
    if (!t->outside)
        return;
    AUTO_FREE char *words = xasprintf("a TCP connection that leaves the job (port %u there); a restore resets it", tcp_port(&t->remote));
    source_warn(v, src, "tcp", words);
}

/* A closed socket stands in no list: only poll tells that its halves were shut. */
static int closed_save(const struct source *src, struct tcp_socket *t, struct err *e)
{
    struct pollfd state = {.fd = src->fd, .events = POLLRDHUP};
    int in = 0;
    if (poll(&state, 1, 0) < 0 || ioctl(src->fd, SIOCINQ, &in) < 0)
        return err_errno(e, "state of a closed socket");
    t->shutdown = state.revents & POLLRDHUP ? TCP_SHUT_RECEIVE | TCP_SHUT_SEND : 0;
    return queue_peek(src->fd, (size_t)in, 0, &t->receive_queue, e);
}

/* What it was nobody can look at without taking it away: a connection that failed comes back as one that failed. */
static int error_save(struct saving *v, const struct source *src, struct tcp_socket *t, struct err *e)
{
    struct pollfd state = {.fd = src->fd};
    if (poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a TCP socket");
    if (!(state.revents & POLLERR))
        return 0;
    if (t->state != TCP_CLOSE)
        return source_busy(v, src, e, "a TCP socket with notices in its error queue that were not read yet");
    t->error = ECONNABORTED;
    source_warn(v, src, "tcp", "the error of its TCP connection, not read yet, comes back as ECONNABORTED");
    return 0;
}

/* The most that a segment may hold, as asked for before there is a connection. */
static void segment_save(int fd, struct tcp_socket *t)
{
    int mss = 0;
    socklen_t len = sizeof mss;
    if (t->protocol || (t->state != TCP_CLOSE && t->state != TCP_LISTEN) || getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len) < 0)
        return;
    if (mss < SEGMENT_MIN || mss > SEGMENT_MAX) /* what it came to while it was connected */
        return;
    struct sockopt *o = LIST_ADD(t, options);
    *o = (struct sockopt){.level = IPPROTO_TCP, .name = TCP_MAXSEG};
    bytes_set(&o->value, &mss, sizeof mss);
}

static int state_save(const struct saving *v, const struct source *src, const struct diag_inet *d, struct tcp_socket *t,
                      const struct tcp_info *info, struct err *e)
{
    switch (t->state) {
    case TCP_CLOSE:
        return closed_save(src, t, e);
    case TCP_LISTEN:
        t->backlog = d->send_len;
        return d->receive_len ? source_busy(v, src, e, "%u TCP connections that were not accepted yet", d->receive_len) : 0;
    case TCP_SYN_SENT:
        return 0; /* nothing was exchanged: the restore connects anew */
    case TCP_SYN_RECV: case TCP_TIME_WAIT:
        return source_busy(v, src, e, "a TCP connection that is just being made or ended");
    default:
        t->shutdown = d->shutdown;
        return connected_save(v, src, t, info, e);
    }
}

static int tcp_save(struct saving *v, struct source *src, struct err *e)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(src->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return err_errno(e, "state of a TCP socket");
    const struct diag_inet *d = diag_find_inet(&v->view.diag, src->facts.st.st_ino);
    if (info.tcpi_state != TCP_CLOSE && !d)
        return source_refuse(v, src, e, "a TCP socket of another network namespace");
    if (d && d->has_keys)
        return source_refuse(v, src, e, "a TCP socket that signs its segments (TCP_MD5SIG)");
    struct tcp_socket *t = src->tcp;
    t->id = src->file->ref = src->file->id;
    t->family = (uint64_t)src->socket.domain;
    t->net_space = src->net;
    t->protocol = src->socket.protocol == IPPROTO_TCP ? 0 : (uint64_t)src->socket.protocol;
    t->state = info.tcpi_state;
    if (sockfilter_save(src->fd, &t->options, &t->options_count, e) < 0)
        return source_refuse(v, src, e, "%s", e->message);
    sockopts_save(src->fd, sockopts_internet(false, t->family), &t->options, &t->options_count);
    if (addresses_save(src, d, t, e) < 0 || sockbufs_save(src->fd, &t->sndbuf, &t->rcvbuf, &t->buf_lock, e) < 0)
        return -1;
    segment_save(src->fd, t);
    if (net_reach_check(v, src, &t->local, &t->remote, e) < 0)
        return -1;
    if (groups_save(v, src, &t->options, &t->options_count, e) < 0)
        return -1;
    outside_note(v, src, t);
    if (error_save(v, src, t, e) < 0)
        return -1;
    return state_save(v, src, d, t, &info, e);
}

/* ---- all of them: a hundred calls for each, on all processors */
struct tcp_list {
    struct saving *v;
    struct source **items;
    size_t count;
};

static int some_save(void *ctx, size_t worker, size_t piece, struct err *e)
{
    const struct tcp_list *l = ctx;
    (void)worker;
    for (size_t i = piece * SOCKETS_AT_ONCE; i < l->count && i < (piece + 1) * SOCKETS_AT_ONCE; i++) {
        struct source *src = l->items[i];
        if (tcp_save(l->v, src, e) < 0)
            return e->code == E_UNSUPPORTED || e->code == E_BUSY
                       ? -1
                       : err_wrap(e, "process %d: descriptor %d (%s)", l->v->s->victims[src->victim].inner_pid, src->number, src->facts.link);
    }
    return 0;
}

/* The entries come first, all of them, so that pointers to them stay. */
int tcps_save(struct saving *v, struct err *e)
{
    struct image *image = &v->s->image;
    AUTO_FREE struct source **items = xcalloc(v->sources_count + 1, sizeof *items);
    struct tcp_list l = {.v = v, .items = items};
    for (size_t i = 0; i < v->sources_count; i++)
        if (v->sources[i].kind == FILE_TCP) {
            LIST_ADD(image, tcp_sockets);
            items[l.count++] = &v->sources[i];
        }
    for (size_t i = 0; i < l.count; i++)
        items[i]->tcp = &image->tcp_sockets[i];
    return crew_work((l.count + SOCKETS_AT_ONCE - 1) / SOCKETS_AT_ONCE, some_save, &l, e);
}
