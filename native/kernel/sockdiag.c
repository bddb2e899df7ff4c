/* See sockdiag.h. One dump per family and protocol over NETLINK_SOCK_DIAG, but one for both families of TCP: each is a walk through the whole table of
 * connections, which all network namespaces share, and takes longer than anything else that is asked of a pod without many sockets. What this kernel cannot list
 * (ENOENT, EOPNOTSUPP) yields nothing: its sockets are then unknown and get refused by name. */
#include "sockdiag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define DIAG_BUFFER_BYTES (64u * 1024)
#define ERRNO_MAX 4095

int netns_socket(pid_t pid, int family, int type, int protocol, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    AUTO_CLOSE int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int theirs = open(path, O_RDONLY | O_CLOEXEC);
    if (own < 0 || theirs < 0)
        return err_errno(e, "network namespace of process %d", pid);
    if (setns(theirs, CLONE_NEWNET) < 0)
        return err_errno(e, "enter the network namespace of process %d", pid);
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    int number = errno;
    CHECK(setns(own, CLONE_NEWNET) == 0); /* going on in a wrong namespace would be worse than ending */
    errno = number;
    return fd < 0 ? err_errno(e, "socket of family %d", family) : fd;
}

/* ---- one answer each */
typedef void (*answer_fn)(struct diag *d, const struct nlmsghdr *m);

static void pending_add(struct diag_unix *u, const uint32_t *inos, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *(uint32_t *)list_add((void **)&u->pending, &u->pending_count, sizeof *inos) = inos[i];
}

static void unix_attribute(struct diag_unix *u, const struct rtattr *a)
{
    const void *data = RTA_DATA(a);
    size_t len = RTA_PAYLOAD(a);
    switch (a->rta_type) {
    case UNIX_DIAG_NAME:
        u->name_len = len < sizeof u->name ? len : sizeof u->name;
        memcpy(u->name, data, u->name_len);
        break;
    case UNIX_DIAG_VFS: {
        struct unix_diag_vfs vfs;
        if (len < sizeof vfs)
            break;
        memcpy(&vfs, data, sizeof vfs);
        u->has_node = true;
        u->node_ino = vfs.udiag_vfs_ino;
        u->node_dev = vfs.udiag_vfs_dev;
        break;
    }
    case UNIX_DIAG_PEER:
        memcpy(&u->peer, data, len < sizeof u->peer ? 0 : sizeof u->peer);
        break;
    case UNIX_DIAG_ICONS:
        pending_add(u, data, len / sizeof(uint32_t));
        break;
    case UNIX_DIAG_RQLEN: {
        struct unix_diag_rqlen queues;
        if (len < sizeof queues)
            break;
        memcpy(&queues, data, sizeof queues);
        u->receive_len = queues.udiag_rqueue;
        u->send_len = queues.udiag_wqueue;
        break;
    }
    case UNIX_DIAG_SHUTDOWN:
        memcpy(&u->shutdown, data, len < 1 ? 0 : 1);
        break;
    default:
        break;
    }
}

static void unix_answer(struct diag *d, const struct nlmsghdr *m)
{
    const struct unix_diag_msg *msg = NLMSG_DATA(m);
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof *msg))
        return;
    struct diag_unix *u = LIST_ADD(d, unixes);
    *u = (struct diag_unix){.ino = msg->udiag_ino, .type = msg->udiag_type, .state = msg->udiag_state};
    unsigned left = m->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *msg);
    for (const struct rtattr *a = (const void *)(msg + 1); RTA_OK(a, left); a = RTA_NEXT(a, left))
        unix_attribute(u, a);
}

static void inet_answer(struct diag *d, const struct nlmsghdr *m)
{
    const struct inet_diag_msg *msg = NLMSG_DATA(m);
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof *msg))
        return;
    struct diag_inet *s = LIST_ADD(d, inets);
    *s = (struct diag_inet){.ino = msg->idiag_inode, .family = msg->idiag_family, .state = msg->idiag_state,
                            .receive_len = msg->idiag_rqueue, .send_len = msg->idiag_wqueue,
                            .local_port = ntohs(msg->id.idiag_sport), .remote_port = ntohs(msg->id.idiag_dport)};
    memcpy(s->local, msg->id.idiag_src, sizeof s->local);
    memcpy(s->remote, msg->id.idiag_dst, sizeof s->remote);
    unsigned left = m->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *msg);
    for (const struct rtattr *a = (const void *)(msg + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == INET_DIAG_SHUTDOWN)
            memcpy(&s->shutdown, RTA_DATA(a), RTA_PAYLOAD(a) < 1 ? 0 : 1);
        s->has_keys |= a->rta_type == INET_DIAG_MD5SIG;
    }
}

static void netlink_answer(struct diag *d, const struct nlmsghdr *m)
{
    const struct netlink_diag_msg *msg = NLMSG_DATA(m);
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof *msg))
        return;
    *(uint32_t *)list_add((void **)&d->others, &d->others_count, sizeof(uint32_t)) = msg->ndiag_ino;
}

/* ---- one dump */
/* 1: more to come, 0: the end, -1 failed. */
static int diag_messages(struct diag *d, char *data, size_t len, answer_fn answer, struct err *e)
{
    unsigned left = (unsigned)len;
    for (const struct nlmsghdr *m = (const void *)data; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
        if (m->nlmsg_type == NLMSG_DONE)
            return 0;
        if (m->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *answered = NLMSG_DATA(m);
            if (m->nlmsg_len < NLMSG_LENGTH(sizeof *answered) || answered->error > 0 || answered->error < -ERRNO_MAX)
                return err_set(e, E_OS, "list sockets: the kernel's answer is not as expected");
            errno = -answered->error;
            return errno == ENOENT || errno == EOPNOTSUPP || errno == 0 ? 0 : err_errno(e, "list sockets");
        }
        if (m->nlmsg_type == SOCK_DIAG_BY_FAMILY || m->nlmsg_type == TCPDIAG_GETSOCK)
            answer(d, m);
    }
    return 1;
}

static int diag_dump(int fd, uint16_t type, const void *request, size_t len, answer_fn answer, struct diag *d, struct err *e)
{
    struct {
        struct nlmsghdr header;
        char body[128];
    } out = {.header = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(len), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    CHECK(len <= sizeof out.body);
    memcpy(out.body, request, len);
    if (send(fd, &out, out.header.nlmsg_len, 0) < 0)
        return err_errno(e, "list sockets");
    AUTO_FREE char *data = xcalloc(1, DIAG_BUFFER_BYTES);
    for (int more = 1; more == 1;) {
        ssize_t n = recv(fd, data, DIAG_BUFFER_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "list sockets");
        more = diag_messages(d, data, (size_t)n, answer, e);
        if (more < 0)
            return -1;
    }
    return 0;
}

static int diag_dump_unix(int fd, struct diag *d, struct err *e)
{
    struct unix_diag_req request = {.sdiag_family = AF_UNIX, .udiag_states = ~0u,
                                    .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
                                                  UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN};
    return diag_dump(fd, SOCK_DIAG_BY_FAMILY, &request, sizeof request, unix_answer, d, e);
}

static void protocol_set(struct diag *d, size_t from, uint16_t protocol)
{
    for (size_t i = from; i < d->inets_count; i++)
        d->inets[i].protocol = protocol;
}

/* Numbers above 255 (MPTCP) go into an attribute. */
static int diag_dump_inet(int fd, uint8_t family, uint16_t protocol, struct diag *d, struct err *e)
{
    struct {
        struct inet_diag_req_v2 body;
        struct rtattr head;
        uint32_t protocol;
    } request = {.body = {.sdiag_family = family, .sdiag_protocol = protocol > UINT8_MAX ? 0 : (uint8_t)protocol, .idiag_states = ~0u,
                          .idiag_ext = 1 << (INET_DIAG_INFO - 1)}, /* keys of TCP_MD5SIG come only with it */
                 .head = {RTA_LENGTH(sizeof request.protocol), INET_DIAG_REQ_PROTOCOL}, .protocol = protocol};
    size_t before = d->inets_count;
    if (diag_dump(fd, SOCK_DIAG_BY_FAMILY, &request, protocol > UINT8_MAX ? sizeof request : sizeof request.body, inet_answer, d, e) < 0)
        return -1;
    protocol_set(d, before, protocol);
    return 0;
}

/* The older question (TCPDIAG_GETSOCK) names no family and is answered for both. */
static int diag_dump_tcp(int fd, struct diag *d, struct err *e)
{
    struct inet_diag_req request = {.idiag_states = ~0u, .idiag_ext = 1 << (INET_DIAG_INFO - 1)}; /* as above */
    size_t before = d->inets_count;
    if (diag_dump(fd, TCPDIAG_GETSOCK, &request, sizeof request, inet_answer, d, e) < 0)
        return -1;
    protocol_set(d, before, IPPROTO_TCP);
    return 0;
}

static int diag_dump_netlink(int fd, struct diag *d, struct err *e)
{
    struct netlink_diag_req request = {.sdiag_family = AF_NETLINK, .sdiag_protocol = NDIAG_PROTO_ALL};
    return diag_dump(fd, SOCK_DIAG_BY_FAMILY, &request, sizeof request, netlink_answer, d, e);
}

/* ---- all of them, sorted */
static int compare_u32(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}
static int compare_unix(const void *a, const void *b)
{
    return compare_u32(((const struct diag_unix *)a)->ino, ((const struct diag_unix *)b)->ino);
}
static int compare_inet(const void *a, const void *b)
{
    return compare_u32(((const struct diag_inet *)a)->ino, ((const struct diag_inet *)b)->ino);
}
static int compare_ino(const void *a, const void *b)
{
    return compare_u32(*(const uint32_t *)a, *(const uint32_t *)b);
}

static void sort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    if (count > 1)
        qsort(items, count, size, compare);
}

/* Is there any socket of that protocol in the namespace? Where not, nothing is asked: of TCP that is long, and of rare ones a kernel without them would look for
 * a module each time. (Of TCP two kinds are not counted: connections that only wait for their time to be over, of which nothing is kept, and sockets that only
 * have an address: diag_add_tcp.) */
static bool is_in_use(const char *protocols, const char *name, const char *name6)
{
    size_t len = strlen(name), len6 = strlen(name6);
    for (const char *line = protocols; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        bool named = (strncmp(line, name, len) == 0 && line[len] == ' ') || (strncmp(line, name6, len6) == 0 && line[len6] == ' ');
        unsigned long sockets;
        if (named && sscanf(line, "%*s %*u %lu", &sockets) == 1 && sockets)
            return true;
    }
    return false;
}

static int diag_dump_both(int fd, uint16_t protocol, struct diag *d, struct err *e)
{
    if (protocol == IPPROTO_TCP)
        return diag_dump_tcp(fd, d, e);
    return diag_dump_inet(fd, AF_INET, protocol, d, e) < 0 ? -1 : diag_dump_inet(fd, AF_INET6, protocol, d, e);
}

static int diag_dump_inets(int fd, pid_t pid, struct diag *d, struct err *e)
{
    static const struct {
        uint16_t number;
        const char *name, *name6; /* in /proc/PID/net/protocols */
    } protocols[] = {{IPPROTO_TCP, "TCP", "TCPv6"}, {IPPROTO_UDP, "UDP", "UDPv6"}, {IPPROTO_UDPLITE, "UDP-Lite", "UDPLITEv6"}, {IPPROTO_MPTCP, "MPTCP", "MPTCPv6"}};
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 1ul << 20, e, "/proc/%d/net/protocols", pid) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(protocols); k++) {
        bool used = is_in_use((const char *)text.data, protocols[k].name, protocols[k].name6);
        if (used && diag_dump_both(fd, protocols[k].number, d, e) < 0)
            return -1;
        d->tcp_left = d->tcp_left || (!used && protocols[k].number == IPPROTO_TCP);
    }
    return 0;
}

static void sort_all(struct diag *d)
{
    sort(d->unixes, d->unixes_count, sizeof *d->unixes, compare_unix);
    sort(d->inets, d->inets_count, sizeof *d->inets, compare_inet);
    sort(d->others, d->others_count, sizeof *d->others, compare_ino);
}

static int diag_dump_all(pid_t pid, struct diag *d, struct err *e)
{
    AUTO_CLOSE int fd = netns_socket(pid, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, e);
    if (fd < 0)
        return -1;
    return diag_dump_unix(fd, d, e) < 0 || diag_dump_netlink(fd, d, e) < 0 ? -1 : diag_dump_inets(fd, pid, d, e);
}

int diag_read(pid_t pid, struct diag *out, struct err *e)
{
    *out = (struct diag){0};
    if (diag_dump_all(pid, out, e) < 0) {
        diag_free(out);
        return err_wrap(e, "sockets of the pod");
    }
    sort_all(out);
    return 0;
}

int diag_add_tcp(pid_t pid, struct diag *d, struct err *e)
{
    if (!d->tcp_left)
        return 0;
    AUTO_CLOSE int fd = netns_socket(pid, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, e);
    if (fd < 0 || diag_dump_tcp(fd, d, e) < 0)
        return err_wrap(e, "sockets of the pod");
    sort(d->inets, d->inets_count, sizeof *d->inets, compare_inet);
    d->tcp_left = false;
    return 0;
}

static void *joined(void *list, size_t count, void *more, size_t more_count, size_t size)
{
    if (!more_count)
        return list;
    list = xrealloc(list, count + more_count, size);
    memcpy((uint8_t *)list + count * size, more, more_count * size);
    free(more);
    return list;
}

/* All of them: bound TCP sockets too. */
int diag_add(pid_t pid, uint64_t net, struct diag *d, struct err *e)
{
    struct diag own = {0};
    if (diag_dump_all(pid, &own, e) < 0 || diag_add_tcp(pid, &own, e) < 0) {
        diag_free(&own);
        return err_wrap(e, "sockets of a network namespace of the job");
    }
    for (size_t k = 0; k < own.inets_count; k++)
        own.inets[k].net = net;
    d->unixes = joined(d->unixes, d->unixes_count, own.unixes, own.unixes_count, sizeof *d->unixes);
    d->inets = joined(d->inets, d->inets_count, own.inets, own.inets_count, sizeof *d->inets);
    d->others = joined(d->others, d->others_count, own.others, own.others_count, sizeof *d->others);
    d->unixes_count += own.unixes_count;
    d->inets_count += own.inets_count;
    d->others_count += own.others_count;
    sort_all(d);
    return 0;
}

/* ---- ending one */
static bool socket_id_fill(const struct bytes *b, __be32 address[4], __be16 *port, uint8_t *family)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t kind = 0;
    memcpy(&kind, b->data, b->len < sizeof kind ? 0 : sizeof kind);
    *family = (uint8_t)kind;
    if (kind == AF_INET && b->len >= sizeof v4) {
        memcpy(&v4, b->data, sizeof v4);
        memcpy(address, &v4.sin_addr, sizeof v4.sin_addr);
        *port = v4.sin_port;
        return true;
    }
    if (kind != AF_INET6 || b->len < sizeof v6)
        return false;
    memcpy(&v6, b->data, sizeof v6);
    memcpy(address, &v6.sin6_addr, sizeof v6.sin6_addr);
    *port = v6.sin6_port;
    return true;
}

int diag_destroy_tcp(const struct bytes *local, const struct bytes *remote, struct err *e)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } out = {.header = {.nlmsg_len = sizeof out, .nlmsg_type = SOCK_DESTROY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
             .body = {.sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u,
                      .id.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}};
    struct {
        struct nlmsghdr header;
        struct nlmsgerr answer;
        char more[256];
    } in;
    if (!socket_id_fill(local, out.body.id.idiag_src, &out.body.id.idiag_sport, &out.body.sdiag_family) ||
        !socket_id_fill(remote, out.body.id.idiag_dst, &out.body.id.idiag_dport, &out.body.sdiag_family))
        return err_set(e, E_BAD_IMAGE, "a TCP connection without addresses");
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0 || send(fd, &out, sizeof out, 0) < 0 || recv(fd, &in, sizeof in, 0) < (ssize_t)(sizeof in.header + sizeof in.answer))
        return err_errno(e, "end a TCP connection");
    errno = -in.answer.error;
    return errno ? err_errno(e, "end a TCP connection") : 0;
}

void diag_free(struct diag *d)
{
    for (size_t i = 0; i < d->unixes_count; i++)
        free(d->unixes[i].pending);
    free(d->unixes);
    free(d->inets);
    free(d->others);
    *d = (struct diag){0};
}

const struct diag_unix *diag_find_unix(const struct diag *d, uint64_t ino)
{
    struct diag_unix key = {.ino = (uint32_t)ino};
    return d->unixes_count ? bsearch(&key, d->unixes, d->unixes_count, sizeof key, compare_unix) : NULL;
}

const struct diag_inet *diag_find_inet(const struct diag *d, uint64_t ino)
{
    struct diag_inet key = {.ino = (uint32_t)ino};
    return d->inets_count ? bsearch(&key, d->inets, d->inets_count, sizeof key, compare_inet) : NULL;
}

bool diag_has_other(const struct diag *d, uint64_t ino)
{
    uint32_t key = (uint32_t)ino;
    return d->others_count && bsearch(&key, d->others, d->others_count, sizeof key, compare_ino);
}
