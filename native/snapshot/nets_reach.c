/* See nets_reach.h. Asked with a UDP socket of that namespace, which sends nothing. */
#include "nets_reach.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../kernel/tcpstate.h"
#include "spaces.h"

static void option_copy(int from, int to, int level, int name)
{
    char value[IFNAMSIZ] = {0};
    socklen_t len = sizeof value;
    if (getsockopt(from, level, name, value, &len) == 0 && len)
        (void)setsockopt(to, level, name, value, len);
}

static int probe_open(const struct saving *v, const struct source *src, struct err *e)
{
    int fd = netns_socket(spaces_net_member(v->s->spaces, src->net), src->socket.domain, SOCK_DGRAM, 0, e);
    if (fd < 0)
        return -1;
    option_copy(src->fd, fd, IPPROTO_IP, IP_FREEBIND);
    option_copy(src->fd, fd, IPPROTO_IP, IP_TRANSPARENT);
    option_copy(src->fd, fd, SOL_SOCKET, SO_BINDTODEVICE);
    option_copy(src->fd, fd, SOL_SOCKET, SO_BROADCAST);
    return fd;
}

/* With any port that is free. */
static int probe_bind(int fd, const struct bytes *local)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in v4;
    memcpy(&address, local->data, local->len < sizeof address ? local->len : sizeof address);
    memcpy(&v4, &address, sizeof v4); /* the port stands at the same place in both families */
    v4.sin_port = 0;
    memcpy(&address, &v4, sizeof v4);
    return bind(fd, (struct sockaddr *)&address, (socklen_t)local->len);
}

int net_reach_check(const struct saving *v, const struct source *src, const struct bytes *local, const struct bytes *remote, struct err *e)
{
    if (!src->net)
        return 0;
    AUTO_CLOSE int fd = probe_open(v, src, e);
    if (fd < 0)
        return -1;
    if (local->len && tcp_port(local) && probe_bind(fd, local) < 0)
        return source_refuse(v, src, e, "a socket of an address that its network namespace has no more");
    if (remote->len && connect(fd, (const void *)remote->data, (socklen_t)remote->len) < 0)
        return source_refuse(v, src, e, "a socket of a connection to where its network namespace has no way any more");
    return 0;
}
