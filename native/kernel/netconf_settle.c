/* See netconf.h: addresses of IPv6 on devices that are up, and are not usable yet. */
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netconf.h"
#include "netdump.h"

#define PATIENCE_MS 2000
#define LINK_LOWER_UP 0x10000u

struct pending {
    uint32_t *up;                /* devices */
    size_t up_count, addresses;
};

static int link_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    struct pending *p = ctx;
    struct ifinfomsg link;
    (void)e;
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof link))
        return 0;
    memcpy(&link, NLMSG_DATA(m), sizeof link);
    if (link.ifi_flags & IFF_UP && link.ifi_flags & LINK_LOWER_UP)
        *(uint32_t *)list_add((void **)&p->up, &p->up_count, sizeof *p->up) = (uint32_t)link.ifi_index;
    return 0;
}

static int address_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    struct pending *p = ctx;
    struct ifaddrmsg address;
    (void)e;
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof address))
        return 0;
    memcpy(&address, NLMSG_DATA(m), sizeof address);
    for (size_t k = 0; k < p->up_count; k++)
        p->addresses += p->up[k] == address.ifa_index && address.ifa_flags & IFA_F_TENTATIVE;
    return 0;
}

static bool is_pending(void)
{
    struct pending p = {0};
    struct ifinfomsg link = {0};
    struct ifaddrmsg address = {.ifa_family = AF_INET6};
    struct err ignored;
    int number;
    bool asked = netdump(NETLINK_ROUTE, RTM_GETLINK, &link, sizeof link, link_take, &p, &number, &ignored) == 0 &&
                 netdump(NETLINK_ROUTE, RTM_GETADDR, &address, sizeof address, address_take, &p, &number, &ignored) == 0;
    free(p.up);
    return asked ? p.addresses > 0 : ignored.code == E_BUSY;
}

void netconf_settle(void)
{
    for (int waited_ms = 0; waited_ms < PATIENCE_MS && is_pending(); waited_ms++)
        usleep(1000);
}
