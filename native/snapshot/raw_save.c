/* Raw and packet sockets in network namespaces that the job made; in the pod's own network nobody has them. Packets that were not read yet are waited for:
 * brought back as packets they would reach others too. */
#include <errno.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../kernel/packetdiag.h"
#include "files_save.h"
#include "nets_reach.h"
#include "spaces.h"

#define LIST_MAX (16ul << 20)

/* ---- packet sockets */
static int packet_save(struct saving *v, struct source *src, struct raw_socket *r, struct err *e)
{
    struct packet_facts f;
    struct sockaddr_ll address = {0};
    socklen_t len = sizeof address;
    if (packet_look(spaces_net_member(v->s->spaces, src->net), src->facts.st.st_ino, &f, e) < 0)
        return -1;
    for (size_t k = 0; k < f.memberships_count; k++) {
        struct sockopt *o = LIST_ADD(r, options);
        *o = (struct sockopt){.level = SOL_PACKET, .name = PACKET_ADD_MEMBERSHIP};
        bytes_set(&o->value, &f.memberships[k], sizeof f.memberships[k]);
    }
    free(f.memberships);
    if (!f.found || f.has_ring || f.has_fanout || f.has_wide)
        return source_refuse(v, src, e, "a packet socket %s", f.has_ring ? "with rings of its own" : f.has_fanout ? "that shares its packets (PACKET_FANOUT)" : "that cannot be looked at");
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of a packet socket");
    if (address.sll_ifindex < 0)
        return source_refuse(v, src, e, "a packet socket of a device that is gone");
    bytes_set(&r->local, &address, sizeof address);
    return 0;
}

/* ---- raw sockets: to whom one is connected only the list tells for certain */
static bool line_parse(const char *line, uint64_t ino, uint64_t family, struct sockaddr_storage *remote)
{
    char address[33] = "";
    unsigned port = 0, state = 0;
    unsigned long found = 0;
    uint32_t words[4] = {0};
    if (sscanf(line, " %*d: %*[0-9A-F]:%*x %32[0-9A-F]:%x %x %*x:%*x %*x:%*x %*x %*u %*u %lu", address, &port, &state, &found) != 4 || found != ino || state != 1)
        return false;
    for (size_t k = 0; k < (family == AF_INET ? 1 : 4); k++) {
        char word[9];
        snprintf(word, sizeof word, "%.8s", address + 8 * k);
        words[k] = (uint32_t)strtoul(word, NULL, 16);
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = words[0]};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    memcpy(&v6.sin6_addr, words, sizeof words);
    memcpy(remote, family == AF_INET ? (const void *)&v4 : (const void *)&v6, family == AF_INET ? sizeof v4 : sizeof v6);
    return true;
}

static int remote_save(const struct saving *v, const struct source *src, struct raw_socket *r, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    struct sockaddr_storage remote = {0};
    if (io_slurpf(&text, LIST_MAX, e, "/proc/%d/net/raw%s", spaces_net_member(v->s->spaces, src->net), r->family == AF_INET6 ? "6" : "") < 0)
        return -1;
    for (const char *line = (const char *)text.data; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (line_parse(line, src->facts.st.st_ino, r->family, &remote))
            bytes_set(&r->remote, &remote, r->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    return 0;
}

static bool is_any(const struct sockaddr_storage *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    memcpy(&v4, address, sizeof v4);
    memcpy(&v6, address, sizeof v6);
    return address->ss_family == AF_INET ? v4.sin_addr.s_addr == 0 : IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

static int names_save(struct saving *v, struct source *src, struct raw_socket *r, struct err *e)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (getsockname(src->fd, (struct sockaddr *)&address, &len) < 0)
        return err_errno(e, "address of a raw socket");
    if (!is_any(&address))
        bytes_set(&r->local, &address, len);
    return remote_save(v, src, r, e) < 0 ? -1 : net_reach_check(v, src, &r->local, &r->remote, e);
}

int raw_save(struct saving *v, struct source *src, struct err *e)
{
    struct pollfd state = {.fd = src->fd, .events = POLLIN};
    bool packet = src->socket.domain == AF_PACKET;
    if (poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a raw socket");
    if (state.revents & POLLERR)
        return source_busy(v, src, e, "a %s socket with an error that was not read yet", packet ? "packet" : "raw");
    if (state.revents & POLLIN)
        return source_busy(v, src, e, "a %s socket with packets that were not read yet", packet ? "packet" : "raw");
    struct raw_socket *r = LIST_ADD(&v->s->image, raw_sockets);
    r->id = src->file->ref = src->file->id;
    r->family = (uint64_t)src->socket.domain;
    r->type = (uint64_t)src->socket.type;
    r->protocol = packet ? 0 : (uint64_t)src->socket.protocol;
    r->net_space = src->net;
    if (sockfilter_save(src->fd, &r->options, &r->options_count, e) < 0)
        return source_refuse(v, src, e, "%s", e->message);
    sockopts_save(src->fd, sockopts_raw(r->family), &r->options, &r->options_count);
    if (sockbufs_save(src->fd, &r->sndbuf, &r->rcvbuf, &r->buf_lock, e) < 0)
        return -1;
    if (packet)
        return packet_save(v, src, r, e);
    return groups_save(v, src, &r->options, &r->options_count, e) < 0 ? -1 : names_save(v, src, r, e);
}
