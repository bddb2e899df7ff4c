/* Unix sockets, all of an image together, for they refer to each other: listeners and named ones first, then connections (pairs
 * where no name is needed, connect and accept where one is), then queues, halves that were shut, sizes, and last the
 * connections that wait to be accepted. Mirrors snapshot/unix_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../kernel/tcpstate.h"
#include "../snapshot/files_save.h"
#include "spaces.h"
#include "unix_names.h"

#define BACKLOG_WHILE_MAKING 4096

struct making {
    struct restore *r;
    const struct unix_socket *items; /* of the image */
    size_t count;
    int *fds;                /* parallel to items: in podinit, -1 not made yet */
    int *far;                /* the other end of a connection whose other end is gone; closed when queues are in */
    struct names names;
};

static bool is_connected_stream(const struct unix_socket *u)
{
    return u->type != SOCK_DGRAM && u->state == TCP_ESTABLISHED;
}

static bool is_pending(const struct unix_socket *u)
{
    return u->pending_on != 0;
}

static int item_find(const struct making *m, uint64_t id, size_t *found, struct err *e)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->items[i].id == id) {
            *found = i;
            return 0;
        }
    return err_set(e, E_BAD_IMAGE, "a reference to Unix socket %lu, which is not there", id);
}

static int item_place(struct making *m, size_t i, int fd, struct err *e)
{
    size_t index;
    if (file_index(m->r, m->items[i].id, &index, e) < 0 || file_place(m->r, index, fd, e) < 0)
        return -1;
    m->fds[i] = m->r->file_fds[index];
    return 0;
}

static int socket_make(const struct making *m, const struct unix_socket *u, struct err *e)
{
    if (u->type != SOCK_STREAM && u->type != SOCK_DGRAM && u->type != SOCK_SEQPACKET)
        return err_set(e, E_BAD_IMAGE, "a Unix socket of type %lu", u->type);
    if (net_enter(m->r, u->net_space, e) < 0)
        return -1;
    int fd = socket(AF_UNIX, (int)u->type | SOCK_CLOEXEC, 0);
    net_leave(m->r, u->net_space);
    return fd < 0 ? err_errno(e, "a Unix socket") : fd;
}

/* ---- alone: listeners, sockets that are not connected, datagram sockets but nameless pairs */
static int alone_make(struct making *m, size_t i, struct err *e)
{
    const struct unix_socket *u = &m->items[i];
    int fd = socket_make(m, u, e);
    if (fd < 0 || item_place(m, i, fd, e) < 0)
        return -1;
    if (u->name.len && name_bind(&m->names, m->fds[i], u, e) < 0)
        return -1;
    struct maker maker = maker_of(m->r, u);
    if (u->state == TCP_LISTEN && maker_listen(&maker, m->fds[i], BACKLOG_WHILE_MAKING) < 0)
        return err_errno(e, "listen on a Unix socket");
    return 0;
}

static int pair_make(struct making *m, size_t i, const size_t *other, struct err *e)
{
    int pair[2];
    struct maker maker = maker_of(m->r, &m->items[i]);
    if (net_enter(m->r, m->items[i].net_space, e) < 0)
        return -1;
    int made = maker_pair(&maker, (int)m->items[i].type, pair);
    net_leave(m->r, m->items[i].net_space);
    if (made < 0)
        return err_errno(e, "a pair of Unix sockets");
    if (item_place(m, i, pair[0], e) < 0)
        return -1;
    if (other)
        return item_place(m, *other, pair[1], e);
    m->far[i] = high_place(m->r, pair[1], e);
    return m->far[i] < 0 ? -1 : 0;
}

static bool is_datagram_pair(const struct making *m, size_t i, size_t *other)
{
    struct err ignored;
    const struct unix_socket *u = &m->items[i];
    return u->type == SOCK_DGRAM && u->peer && item_find(m, u->peer, other, &ignored) == 0 && m->items[*other].peer == u->id &&
           m->items[*other].type == SOCK_DGRAM && *other != i && (!u->name.len || !m->items[*other].name.len);
}

/* A nameless datagram socket whose partner has gone. (A named one is also ESTABLISHED when others connected to it.) */
static bool is_left_datagram(const struct unix_socket *u)
{
    return u->type == SOCK_DGRAM && u->state == TCP_ESTABLISHED && !u->peer && !u->name.len;
}

static int datagram_pair_make(struct making *m, size_t i, size_t other, struct err *e)
{
    if (pair_make(m, i, &other, e) < 0)
        return -1;
    size_t both[] = {i, other};
    for (int k = 0; k < 2; k++)
        if (m->items[both[k]].name.len && name_bind(&m->names, m->fds[both[k]], &m->items[both[k]], e) < 0)
            return -1;
    return 0;
}

static int alones_make(struct making *m, struct err *e)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct unix_socket *u = &m->items[i];
        size_t other = 0;
        int result = 0;
        if (m->fds[i] >= 0 || is_connected_stream(u))
            continue;
        if (is_datagram_pair(m, i, &other))
            result = m->fds[other] < 0 ? datagram_pair_make(m, i, other, e) : err_set(e, E_BAD_IMAGE, "Unix sockets in a triangle");
        else if (is_left_datagram(u))
            result = pair_make(m, i, NULL, e);
        else
            result = alone_make(m, i, e);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* ---- connections */
static bool has_listener(const struct making *m, const struct unix_socket *u, size_t *listener)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->items[i].state == TCP_LISTEN && m->items[i].type == u->type && m->items[i].mount_space == u->mount_space && name_equal(&m->items[i].name, &u->name)) {
            *listener = i;
            return true;
        }
    return false;
}

/* A listener for the moment, where the one that accepted is gone. Its node is nobody's: what stood there comes back. */
static int listener_borrow(struct making *m, const struct unix_socket *u, const struct unix_socket *client, struct err *e)
{
    struct maker maker = client ? maker_of(m->r, client) : (struct maker){0};
    struct unix_socket nameless_node = *u;
    nameless_node.mode = 0;
    int fd = socket_make(m, u, e);
    if (fd >= 0 && (name_bind(&m->names, fd, &nameless_node, e) < 0 || maker_listen(&maker, fd, 8) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* server: the one that was accepted and has the listener's name; client may be NULL (gone). */
static int accepted_make(struct making *m, size_t server, const size_t *client, struct err *e)
{
    const struct unix_socket *u = &m->items[server];
    size_t listener = 0;
    bool found = has_listener(m, u, &listener);
    struct maker connector = maker_of(m->r, u);
    AUTO_CLOSE int borrowed = found ? -1 : listener_borrow(m, u, client ? &m->items[*client] : NULL, e);
    int from = socket_make(m, u, e);
    if ((!found && borrowed < 0) || from < 0)
        return -1;
    if (client && m->items[*client].name.len && name_bind(&m->names, from, &m->items[*client], e) < 0)
        return -1;
    if (name_connect(m->r, from, found ? &m->items[listener] : u, &connector, e) < 0)
        return -1;
    int to = accept4(found ? m->fds[listener] : borrowed, NULL, NULL, SOCK_CLOEXEC);
    if (to < 0)
        return err_errno(e, "accept a Unix connection");
    if (item_place(m, server, to, e) < 0)
        return -1;
    if (client)
        return item_place(m, *client, from, e);
    m->far[server] = high_place(m->r, from, e);
    return m->far[server] < 0 ? -1 : 0;
}

static int connection_make(struct making *m, size_t i, struct err *e)
{
    const struct unix_socket *u = &m->items[i];
    size_t other = 0, listener;
    if (u->peer && (item_find(m, u->peer, &other, e) < 0 || m->fds[other] >= 0 || m->items[other].type != u->type || other == i))
        return err_set(e, E_BAD_IMAGE, "Unix socket %lu and its other side do not fit", u->id);
    const struct unix_socket *peer = u->peer ? &m->items[other] : NULL;
    if (!u->name.len && (!peer || !peer->name.len))
        return pair_make(m, i, peer ? &other : NULL, e);
    if (!u->name.len || (peer && peer->name.len && has_listener(m, peer, &listener) && !has_listener(m, u, &listener)))
        return accepted_make(m, other, &i, e);
    return accepted_make(m, i, peer ? &other : NULL, e);
}

static int connections_make(struct making *m, struct err *e)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->fds[i] < 0 && !is_pending(&m->items[i]) && connection_make(m, i, e) < 0)
            return -1;
    return 0;
}

/* ---- queues */
static struct cmsghdr *control_add(struct msghdr *header, int type, size_t bytes)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)((uint8_t *)header->msg_control + header->msg_controllen);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = type};
    header->msg_controllen += CMSG_SPACE(bytes);
    return c;
}

static int rights_add(const struct making *m, struct msghdr *header, const struct unix_message *message, struct err *e)
{
    if (message->rights_count > RIGHTS_MAX)
        return err_set(e, E_BAD_IMAGE, "a message with %zu descriptors", message->rights_count);
    if (!message->rights_count)
        return 0;
    struct cmsghdr *c = control_add(header, SCM_RIGHTS, message->rights_count * sizeof(int));
    for (size_t i = 0; i < message->rights_count; i++) {
        size_t index;
        if (file_index(m->r, message->rights[i].file, &index, e) < 0)
            return -1;
        if (m->r->file_fds[index] < 0)
            return err_set(e, E_BAD_IMAGE, "a message with file %lu, which is made later", message->rights[i].file);
        memcpy(CMSG_DATA(c) + i * sizeof(int), &m->r->file_fds[index], sizeof(int));
    }
    return 0;
}

static int message_send(const struct making *m, int fd, const struct unix_message *message, const struct unix_socket *to, struct err *e)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(RIGHTS_MAX * sizeof(int))] = {0};
    struct sockaddr_un address;
    AUTO_CLOSE int held = -1;
    const struct pod_facts *pod = &m->r->pod->facts; /* an ordinary user's pod knows no other */
    struct maker maker = {message->pid, (uid_t)(pod->uid ? pod->uid : message->uid), (gid_t)(pod->uid ? pod->gid : message->gid)};
    struct ucred creds = {.pid = getpid(), .uid = maker.uid, .gid = maker.gid}, *sent = NULL;
    struct iovec part = {message->data.data, message->data.len};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    if (to && to->name.len) {
        size_t len;
        if (name_reach(m->r, to, &address, &len, &held, e) < 0)
            return -1;
        header.msg_name = &address;
        header.msg_namelen = (socklen_t)len;
    }
    if (message->has_creds) {
        sent = (struct ucred *)(void *)CMSG_DATA(control_add(&header, SCM_CREDENTIALS, sizeof creds));
        memcpy(sent, &creds, sizeof creds);
    }
    if (rights_add(m, &header, message, e) < 0)
        return -1;
    ssize_t n = sent ? maker_send(&maker, fd, &header, sent) : sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return err_errno(e, "%zu bytes into a Unix socket", message->data.len);
    return (size_t)n == message->data.len ? 0 : err_set(e, E_OS, "%zd of %zu bytes fitted into a Unix socket", n, message->data.len);
}

/* Who sends: the socket of that name if it is there, else one that is made for the moment. */
static int sender_find(struct making *m, const struct unix_socket *to, const struct unix_message *message, int *made, struct err *e)
{
    struct unix_socket like = {.type = SOCK_DGRAM, .dir = (char[]){""}, .name = message->address, .mount_space = to->mount_space, .net_space = to->net_space};
    for (size_t i = 0; i < m->count && message->address.len; i++)
        if (m->items[i].type == SOCK_DGRAM && m->fds[i] >= 0 && name_equal(&m->items[i].name, &message->address))
            return m->fds[i];
    *made = socket_make(m, &like, e);
    if (*made >= 0 && message->address.len && name_bind(&m->names, *made, &like, e) < 0)
        return -1;
    return *made;
}

static int datagrams_send(struct making *m, size_t i, struct err *e)
{
    const struct unix_socket *u = &m->items[i];
    size_t other = 0;
    for (size_t k = 0; k < u->queue_count; k++) {
        AUTO_CLOSE int made = -1;
        bool by_pair = m->far[i] >= 0 || is_datagram_pair(m, i, &other);
        int sender = m->far[i] >= 0 ? m->far[i] : by_pair ? m->fds[other] : sender_find(m, u, &u->queue[k], &made, e);
        if (sender < 0 || sockbufs_widen(sender, u->sndbuf, u->rcvbuf, e) < 0 ||
            message_send(m, sender, &u->queue[k], by_pair ? NULL : u, e) < 0)
            return -1;
    }
    return 0;
}

static int stream_send(struct making *m, size_t i, struct err *e)
{
    const struct unix_socket *u = &m->items[i];
    size_t other = 0;
    if (!u->queue_count)
        return 0;
    if (u->peer && item_find(m, u->peer, &other, e) < 0)
        return -1;
    int sender = u->peer ? m->fds[other] : m->far[i];
    size_t total = 0;
    for (size_t k = 0; k < u->queue_count; k++)
        total += u->queue[k].data.len;
    if (sender < 0 || total > INT32_MAX / 8)
        return err_set(e, E_BAD_IMAGE, "Unix socket %lu has %zu bytes from nobody", u->id, total);
    if (sockbufs_widen(sender, 4 * total, u->rcvbuf, e) < 0)
        return -1;
    for (size_t k = 0; k < u->queue_count; k++)
        if (message_send(m, sender, &u->queue[k], NULL, e) < 0)
            return -1;
    return 0;
}

static int queues_fill(struct making *m, struct err *e)
{
    for (size_t i = 0; i < m->count; i++)
        if (!is_pending(&m->items[i]) && (m->items[i].type == SOCK_DGRAM ? datagrams_send(m, i, e) : stream_send(m, i, e)) < 0)
            return err_wrap(e, "queue of Unix socket %lu", m->items[i].id);
    return 0;
}

/* ---- the rest */
static int datagrams_connect(struct making *m, struct err *e)
{
    for (size_t i = 0; i < m->count; i++) {
        size_t other = 0;
        if (m->items[i].type != SOCK_DGRAM || !m->items[i].peer || is_datagram_pair(m, i, &other))
            continue;
        if (item_find(m, m->items[i].peer, &other, e) < 0 || name_connect(m->r, m->fds[i], &m->items[other], NULL, e) < 0)
            return -1;
    }
    return 0;
}

/* In the order in which they waited; small backlogs come at the end. */
static int pendings_connect(struct making *m, struct err *e)
{
    for (uint64_t order = 1, left = 1; left; order++) {
        left = 0;
        for (size_t i = 0; i < m->count; i++) {
            const struct unix_socket *u = &m->items[i];
            size_t listener = 0;
            left += is_pending(u) && u->pending_order > order && order < BACKLOG_WHILE_MAKING;
            if (!is_pending(u) || u->pending_order != order)
                continue;
            int fd = socket_make(m, u, e);
            if (fd < 0 || item_place(m, i, fd, e) < 0 || item_find(m, u->pending_on, &listener, e) < 0 ||
                (u->name.len && name_bind(&m->names, m->fds[i], u, e) < 0) || name_connect(m->r, m->fds[i], &m->items[listener], NULL, e) < 0)
                return -1;
        }
    }
    return 0;
}

static int shutdown_set(const struct making *m, size_t i, struct err *e)
{
    static const int how[] = {-1, SHUT_RD, SHUT_WR, SHUT_RDWR};
    const struct unix_socket *u = &m->items[i];
    if (m->far[i] >= 0 || !(u->shutdown & 3) || u->state != TCP_ESTABLISHED)
        return 0;
    if (shutdown(m->fds[i], how[u->shutdown & 3]) < 0 && errno != ENOTCONN)
        return err_errno(e, "shut a Unix socket");
    return 0;
}

static int item_finish(struct making *m, size_t i, struct err *e)
{
    const struct unix_socket *u = &m->items[i];
    size_t index;
    if (m->fds[i] < 0)
        return err_set(e, E_BAD_IMAGE, "Unix socket %lu waits for a listener that is not there", u->id);
    if (u->error && m->far[i] >= 0 && send(m->fds[i], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1) /* not read by the other side: that makes the error */
        return err_errno(e, "a Unix connection that is to fail");
    cleanup_close(&m->far[i]);
    struct maker maker = maker_of(m->r, u); /* each listen(2) remembers its caller anew */
    if (u->state == TCP_LISTEN && maker_listen(&maker, m->fds[i], u->backlog > INT32_MAX ? INT32_MAX : (int)u->backlog) < 0)
        return err_errno(e, "listen on a Unix socket");
    if (sockopts_load(m->fds[i], OPT_UNIX, u->options, u->options_count, e) < 0 ||
        sockbufs_load(m->fds[i], u->sndbuf, u->rcvbuf, u->buf_lock, e) < 0 || file_index(m->r, u->id, &index, e) < 0)
        return -1;
    return file_flags_set(m->r, index, e);
}

static int all_make(struct making *m, struct err *e)
{
    if (alones_make(m, e) < 0 || connections_make(m, e) < 0 || queues_fill(m, e) < 0 || datagrams_connect(m, e) < 0 ||
        pendings_connect(m, e) < 0)
        return -1;
    for (size_t i = 0; i < m->count; i++)
        if (shutdown_set(m, i, e) < 0)
            return -1;
    for (size_t i = 0; i < m->count; i++)
        if (item_finish(m, i, e) < 0)
            return err_wrap(e, "Unix socket %lu", m->items[i].id);
    return names_finish(&m->names, e);
}

int unix_load(struct restore *r, struct err *e)
{
    struct making m = {.r = r, .names = {.r = r}, .items = r->image->unix_sockets, .count = r->image->unix_sockets_count};
    m.fds = xcalloc(m.count + 1, sizeof *m.fds);
    m.far = xcalloc(m.count + 1, sizeof *m.far);
    for (size_t i = 0; i < m.count; i++)
        m.fds[i] = m.far[i] = -1;
    int result = all_make(&m, e);
    free(m.fds);
    free(m.far);
    names_free(&m.names);
    return result < 0 ? err_wrap(e, "Unix sockets") : 0;
}
