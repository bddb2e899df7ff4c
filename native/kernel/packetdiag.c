/* See packetdiag.h. */
#include "packetdiag.h"

#include <linux/packet_diag.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netattr.h"
#include "netdump.h"
#include "sockdiag.h"

#define MEMBERSHIPS_MAX 4096u

struct looking {
    uint64_t ino;
    struct packet_facts *out;
};

static void membership_add(struct packet_facts *out, const struct packet_diag_mclist *m)
{
    struct packet_mreq request = {.mr_ifindex = (int)m->pdmc_index, .mr_type = m->pdmc_type, .mr_alen = m->pdmc_alen};
    if (m->pdmc_alen > sizeof request.mr_address) {
        out->has_wide = true;
        return;
    }
    memcpy(request.mr_address, m->pdmc_addr, m->pdmc_alen);
    for (uint32_t k = 0; k < m->pdmc_count && out->memberships_count < MEMBERSHIPS_MAX; k++)
        *(struct packet_mreq *)list_add((void **)&out->memberships, &out->memberships_count, sizeof request) = request;
}

static int answer_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    const struct looking *l = ctx;
    struct packet_diag_msg answer;
    (void)e;
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof answer))
        return 0;
    memcpy(&answer, NLMSG_DATA(m), sizeof answer);
    if (answer.pdiag_ino != l->ino)
        return 0;
    l->out->found = true;
    const uint8_t *at = (const uint8_t *)NLMSG_DATA(m) + NLMSG_ALIGN(sizeof answer), *end = (const uint8_t *)m + m->nlmsg_len;
    for (struct attribute a; attribute_next(&at, end, &a);) {
        l->out->has_ring |= a.type == PACKET_DIAG_RX_RING || a.type == PACKET_DIAG_TX_RING;
        l->out->has_fanout |= a.type == PACKET_DIAG_FANOUT;
        for (size_t k = 0; a.type == PACKET_DIAG_MCLIST && k + sizeof(struct packet_diag_mclist) <= a.len; k += sizeof(struct packet_diag_mclist)) {
            struct packet_diag_mclist item;
            memcpy(&item, a.data + k, sizeof item);
            membership_add(l->out, &item);
        }
    }
    return 0;
}

int packet_look(pid_t pid, uint64_t ino, struct packet_facts *out, struct err *e)
{
    struct packet_diag_req ask = {.sdiag_family = AF_PACKET, .pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_MCLIST | PACKET_SHOW_RING_CFG | PACKET_SHOW_FANOUT};
    struct looking l = {ino, out};
    int number;
    *out = (struct packet_facts){0};
    AUTO_CLOSE int fd = netns_socket(pid, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, e);
    return fd < 0 || netdump_on(fd, SOCK_DIAG_BY_FAMILY, &ask, sizeof ask, answer_take, &l, &number, e) < 0 ? -1 : 0;
}
