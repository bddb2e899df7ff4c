/* Raw and packet sockets, in the network namespaces of the job that they belong to, and only there: in the pod's own the job could not have made them.
 * They begin to listen when they have their filters. Mirrors snapshot/raw_save.c. */
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../snapshot/files_save.h"
#include "files_load.h"
#include "spaces.h"

static int names_set(int fd, const struct raw_socket *s, struct err *e)
{
    struct sockaddr_ll packet = {0};
    if (s->local.len)
        memcpy(&packet, s->local.data, s->local.len < sizeof packet ? s->local.len : sizeof packet);
    bool nowhere = s->family == AF_PACKET && !packet.sll_protocol && !packet.sll_ifindex;
    if (s->local.len && !nowhere && bind(fd, (const void *)s->local.data, (socklen_t)s->local.len) < 0)
        return err_errno(e, "bind a raw socket");
    if (s->remote.len && connect(fd, (const void *)s->remote.data, (socklen_t)s->remote.len) < 0)
        return err_errno(e, "connect a raw socket");
    return 0;
}

static int inside_load(struct restore *r, const struct raw_socket *s, struct err *e)
{
    size_t index;
    if (file_index(r, s->id, &index, e) < 0)
        return -1;
    int fd = socket((int)s->family, (int)s->type | SOCK_CLOEXEC, (int)s->protocol);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "a raw socket") : -1;
    fd = r->file_fds[index];
    if (sockopts_load(fd, sockopts_raw(s->family), s->options, s->options_count, e) < 0 || names_set(fd, s, e) < 0 ||
        sockbufs_load(fd, s->sndbuf, s->rcvbuf, s->buf_lock, e) < 0)
        return -1;
    return file_flags_set(r, index, e);
}

static int one_load(struct restore *r, const struct raw_socket *s, struct err *e)
{
    if (net_enter_maker(r, s->net_space, e) < 0)
        return -1;
    int result = inside_load(r, s, e);
    net_leave_maker(r, s->net_space);
    return result;
}

int raw_load(struct restore *r, struct err *e)
{
    for (size_t k = 0; k < r->image->raw_sockets_count; k++)
        if (one_load(r, &r->image->raw_sockets[k], e) < 0)
            return err_wrap(e, "raw socket");
    return 0;
}

int raw_validate(const struct raw_socket *s, struct err *e)
{
    bool internet = (s->family == AF_INET || s->family == AF_INET6) && s->type == SOCK_RAW && s->protocol <= UINT8_MAX;
    bool packet = s->family == AF_PACKET && (s->type == SOCK_RAW || s->type == SOCK_DGRAM) && !s->protocol && !s->remote.len;
    size_t name = s->family == AF_INET ? sizeof(struct sockaddr_in) : s->family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_ll);
    if ((!internet && !packet) || !s->net_space || (s->local.len && s->local.len != name) || (s->remote.len && s->remote.len != name))
        return err_set(e, E_BAD_IMAGE, "a raw socket of family %lu, type %lu, protocol %lu in the network namespace %lu", s->family, s->type, s->protocol, s->net_space);
    return 0;
}
