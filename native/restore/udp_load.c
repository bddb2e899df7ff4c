/* UDP sockets. Datagrams that waited come back through udp_inject.c. Mirrors snapshot/udp_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../kernel/tcpstate.h"
#include "../snapshot/files_save.h"
#include "files_load.h"
#include "spaces.h"
#include "udp_inject.h"

static int names_set(int fd, const struct udp_socket *u, struct err *e)
{
    if (u->bound && bind(fd, (const void *)u->local.data, (socklen_t)u->local.len) < 0)
        return err_errno(e, "bind UDP port %u", tcp_port(&u->local));
    if (udp_inject(fd, u, e) < 0) /* before it is connected, which would refuse what others had sent earlier */
        return -1;
    if (u->connected && connect(fd, (const void *)u->remote.data, (socklen_t)u->remote.len) < 0)
        return err_errno(e, "connect UDP to port %u", tcp_port(&u->remote));
    if (u->connected && u->error && udp_refuse(fd, u, e) < 0)
        return -1;
    if (u->shutdown & 3 && shutdown(fd, u->shutdown == TCP_SHUT_RECEIVE ? SHUT_RD : u->shutdown == TCP_SHUT_SEND ? SHUT_WR : SHUT_RDWR) < 0 &&
        errno != ENOTCONN)
        return err_errno(e, "shut a UDP socket");
    return 0;
}

static int inside_load(struct restore *r, const struct udp_socket *u, struct err *e)
{
    size_t index;
    if ((u->family != AF_INET && u->family != AF_INET6) || (u->protocol != IPPROTO_UDP && u->protocol != IPPROTO_UDPLITE) || u->local.len > sizeof(struct sockaddr_storage) ||
        u->remote.len > sizeof(struct sockaddr_storage))
        return err_set(e, E_BAD_IMAGE, "a UDP socket of family %lu", u->family);
    if (file_index(r, u->id, &index, e) < 0)
        return -1;
    int fd = socket((int)u->family, SOCK_DGRAM | SOCK_CLOEXEC, (int)u->protocol);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "a UDP socket") : -1;
    fd = r->file_fds[index];
    if (sockopts_load(fd, sockopts_internet(true, u->family), u->options, u->options_count, e) < 0 ||
        sockbufs_widen(fd, u->sndbuf, u->rcvbuf, e) < 0 || names_set(fd, u, e) < 0 ||
        sockbufs_load(fd, u->sndbuf, u->rcvbuf, u->buf_lock, e) < 0)
        return -1;
    return file_flags_set(r, index, e);
}

static int one_load(struct restore *r, const struct udp_socket *u, struct err *e)
{
    if (net_enter_maker(r, u->net_space, e) < 0)
        return -1;
    int result = inside_load(r, u, e);
    net_leave_maker(r, u->net_space);
    return result;
}

/* The lock inside of the pod would drop what is put back. No TCP socket is there yet and nothing runs: take it off for the moment; the
 * one at the hub stays. */
static bool needs_packets(const struct image *image)
{
    for (size_t i = 0; i < image->udp_sockets_count; i++)
        if (!image->udp_sockets[i].net_space && (image->udp_sockets[i].queue_count || image->udp_sockets[i].error))
            return true;
    return false;
}

static int all_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->udp_sockets_count; i++)
        if (one_load(r, &r->image->udp_sockets[i], e) < 0)
            return err_wrap(e, "UDP socket of port %u", tcp_port(&r->image->udp_sockets[i].local));
    return 0;
}

int udp_load(struct restore *r, struct err *e)
{
    struct err on_locking;
    struct pod inside = *r->pod;
    inside.net.present = false;
    inside.init_pid = getpid();
    bool open_up = needs_packets(r->image);
    if (open_up && netlock_clear(&inside, e) < 0)
        return -1;
    int result = all_load(r, e);
    if (open_up && netlock_set(&inside, &on_locking) < 0) {
        *e = on_locking;
        return -1;
    }
    return result < 0 ? -1 : nets_rules_load(r, e);
}
