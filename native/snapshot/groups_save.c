/* Multicast groups of a socket. Which it has joined the kernel tells only when it is asked group by group (MCAST_MSFILTER, EADDRNOTAVAIL for
 * others): so each socket is asked for every group that anybody in its network is in. Loaded again by files_sockopt.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "files_save.h"
#include "spaces.h"

#define SOURCES_MAX 1024u
#define LISTS_MAX (4ul << 20)

static void group_add(struct saving *v, uint64_t net, int family, uint32_t interface, const void *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct joined_group *g = LIST_ADD(v, groups);
    *g = (struct joined_group){.net = net, .family = family, .interface = interface};
    if (family == AF_INET) {
        memcpy(&v4.sin_addr, address, sizeof v4.sin_addr);
        memcpy(&g->address, &v4, sizeof v4);
        return;
    }
    memcpy(&v6.sin6_addr, address, sizeof v6.sin6_addr);
    memcpy(&g->address, &v6, sizeof v6);
}

/* "1\tlo        :     1      V3" and below it "\t\t\t\t010000E0     1 0:00000000\t\t0": the address as a number of this machine. */
static void line4_parse(struct saving *v, uint64_t net, const char *line, uint32_t *interface)
{
    uint32_t address, number;
    if (line[0] != '\t' && line[0] != ' ' && sscanf(line, "%u", &number) == 1)
        *interface = number;
    else if (sscanf(line, " %8x %*u", &address) == 1 && *interface)
        group_add(v, net, AF_INET, *interface, &address);
}

/* "2    eth0            ff020000000000000000000000000001     1 0000000C 0" */
static void line6_parse(struct saving *v, uint64_t net, const char *line)
{
    uint32_t interface;
    char text[33] = "";
    uint8_t address[16];
    if (sscanf(line, "%u %*s %32s", &interface, text) != 2 || strlen(text) != 32)
        return;
    for (size_t i = 0; i < sizeof address; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], 0};
        address[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    group_add(v, net, AF_INET6, interface, address);
}

static int groups_of(struct saving *v, pid_t pid, uint64_t net, struct err *e)
{
    for (int six = 0; six < 2; six++) {
        AUTO_BUF struct buf text = {0};
        uint32_t interface = 0;
        if (io_slurpf(&text, LISTS_MAX, e, "/proc/%d/net/igmp%s", pid, six ? "6" : "") < 0) {
            if (e->code == E_NO_INPUT)
                continue; /* a kernel without IPv6 */
            return err_wrap(e, "multicast groups of the pod");
        }
        for (const char *line = (const char *)text.data; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
            six ? line6_parse(v, net, line) : line4_parse(v, net, line, &interface);
    }
    return 0;
}

int groups_read(struct saving *v, struct err *e)
{
    const struct spaces *spaces = v->s->spaces;
    if (groups_of(v, v->s->pod->init_pid, 0, e) < 0)
        return -1;
    for (size_t k = 0; spaces && k < spaces->others_count; k++) {
        pid_t pid = spaces_net_member(spaces, k + 1);
        if (pid && groups_of(v, pid, k + 1, e) < 0)
            return -1;
    }
    return 0;
}

static int membership_save(int fd, const struct joined_group *g, struct sockopt **options, size_t *count, struct err *e)
{
    AUTO_FREE struct group_filter *f = xrealloc(NULL, 1, GROUP_FILTER_SIZE(SOURCES_MAX));
    socklen_t len = GROUP_FILTER_SIZE(SOURCES_MAX);
    int level = g->family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    memset(f, 0, GROUP_FILTER_SIZE(0));
    f->gf_interface = g->interface;
    f->gf_group = g->address;
    f->gf_numsrc = SOURCES_MAX;
    if (getsockopt(fd, level, MCAST_MSFILTER, f, &len) < 0)
        return errno == EADDRNOTAVAIL || errno == ENODEV || errno == EOPNOTSUPP || errno == ENOPROTOOPT ? 0 : err_errno(e, "multicast groups of a socket");
    if (f->gf_numsrc > SOURCES_MAX)
        return err_set(e, E_UNSUPPORTED, "a multicast group with %u sources", f->gf_numsrc);
    struct sockopt *o = list_add((void **)options, count, sizeof *o);
    *o = (struct sockopt){.level = (uint64_t)level, .name = MCAST_MSFILTER};
    bytes_set(&o->value, f, GROUP_FILTER_SIZE(f->gf_numsrc));
    return 0;
}

int groups_save(const struct saving *v, const struct source *src, struct sockopt **options, size_t *count, struct err *e)
{
    for (size_t i = 0; i < v->groups_count; i++) {
        const struct joined_group *g = &v->groups[i];
        if (g->net == src->net && (g->family == AF_INET || src->socket.domain == AF_INET6) && membership_save(src->fd, g, options, count, e) < 0)
            return -1;
    }
    return 0;
}
