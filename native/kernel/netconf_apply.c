/* See netconf.h: making it anew. Devices first, down, so that nothing comes by itself; then they go up, and what is there (the kernel brings much of it) is
 * brought to what is wanted: what is too much goes, what is missing comes. */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "netconf.h"
#include "netlink.h"

#define LO_INDEX 1
#define MESSAGES_MAX 20000u
#define FLAGS_SET (IFF_UP | IFF_DEBUG | IFF_NOTRAILERS | IFF_NOARP | IFF_PROMISC | IFF_ALLMULTI | IFF_PORTSEL | IFF_AUTOMEDIA | IFF_DYNAMIC | IFF_MULTICAST)

struct applying {
    const struct net_message *messages;
    size_t count;
    int fd;
};

static int ask(const struct applying *a, const struct buf *b, struct err *e)
{
    int number;
    return netlink_send(a->fd, b, &number, e);
}

/* ---- parts of a message */
static void attributes_copy(struct buf *b, const struct net_message *m, const uint16_t *types, size_t count)
{
    struct attribute a;
    for (size_t k = 0; k < count; k++)
        if (netconf_attribute(m, types[k], &a))
            netlink_put(b, types[k], a.data, a.len);
}

static bool kind_is(const struct net_message *m, const char *wanted)
{
    struct attribute info, kind;
    return netconf_attribute(m, IFLA_LINKINFO, &info) && attribute_find(info.data, info.data + info.len, IFLA_INFO_KIND, &kind) && kind.len == strlen(wanted) + 1 &&
           memcmp(kind.data, wanted, kind.len) == 0;
}

static const struct net_message *link_find(const struct applying *a, uint32_t index)
{
    for (size_t k = 0; k < a->count; k++)
        if (a->messages[k].type == RTM_NEWLINK && netconf_link(&a->messages[k]).ifi_index == (int)index)
            return &a->messages[k];
    return NULL;
}

/* ---- devices */
static const uint16_t at_birth[] = {IFLA_IFNAME, IFLA_ADDRESS, IFLA_MTU, IFLA_TXQLEN, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES};
static const uint16_t at_rest[] = {IFLA_BROADCAST, IFLA_MTU, IFLA_TXQLEN, IFLA_LINKMODE, IFLA_IFALIAS, IFLA_GROUP};

static void peer_put(struct buf *b, const struct net_message *peer)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(peer).ifi_index};
    size_t data = netlink_nest(b, IFLA_INFO_DATA), nest = netlink_nest(b, VETH_INFO_PEER);
    netlink_pad(b, &link, sizeof link);
    attributes_copy(b, peer, at_birth, ARRAY_LENGTH(at_birth));
    netlink_nest_end(b, nest);
    netlink_nest_end(b, data);
}

/* The second end of a pair comes with the first. */
static int link_make(const struct applying *a, const struct net_message *m, struct err *e)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(m).ifi_index};
    struct attribute info, data, other = {0};
    AUTO_BUF struct buf b = {0};
    const struct net_message *peer = kind_is(m, "veth") && netconf_attribute(m, IFLA_LINK, &other) ? link_find(a, attribute_u32(&other)) : NULL;
    if (link.ifi_index == LO_INDEX || (peer && peer < m))
        return 0;
    if (!peer && !kind_is(m, "bridge"))
        return err_set(e, E_BAD_IMAGE, "a network device of an unknown kind");
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &link, sizeof link);
    attributes_copy(&b, m, at_birth, ARRAY_LENGTH(at_birth));
    size_t nest = netlink_nest(&b, IFLA_LINKINFO);
    netlink_put_str(&b, IFLA_INFO_KIND, peer ? "veth" : "bridge");
    if (peer)
        peer_put(&b, peer);
    else if (netconf_attribute(m, IFLA_LINKINFO, &info) && attribute_find(info.data, info.data + info.len, IFLA_INFO_DATA, &data))
        netlink_put(&b, IFLA_INFO_DATA | NLA_F_NESTED, data.data, data.len);
    netlink_nest_end(&b, nest);
    netlink_end(&b, at);
    return ask(a, &b, e);
}

static void generation_put(struct buf *b, const struct net_message *m, bool wanted)
{
    struct attribute families, six, mode;
    uint8_t none = 1; /* IN6_ADDR_GEN_MODE_NONE: no address by itself while it is put together */
    if (!netconf_attribute(m, IFLA_AF_SPEC, &families) || !attribute_find(families.data, families.data + families.len, AF_INET6, &six) ||
        !attribute_find(six.data, six.data + six.len, IFLA_INET6_ADDR_GEN_MODE, &mode) || !mode.len)
        return;
    size_t nest = netlink_nest(b, IFLA_AF_SPEC), below = netlink_nest(b, AF_INET6);
    netlink_put(b, IFLA_INET6_ADDR_GEN_MODE, wanted ? mode.data : &none, 1);
    netlink_nest_end(b, below);
    netlink_nest_end(b, nest);
}

static int link_settle(const struct applying *a, const struct net_message *m, struct err *e)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(m).ifi_index};
    AUTO_BUF struct buf b = {0};
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link);
    attributes_copy(&b, m, at_rest, ARRAY_LENGTH(at_rest));
    generation_put(&b, m, false);
    netlink_end(&b, at);
    return ask(a, &b, e);
}

/* Below the bridge that it is a port of. */
static int link_enslave(const struct applying *a, const struct net_message *m, struct err *e)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(m).ifi_index};
    struct attribute master, info, kind, data;
    AUTO_BUF struct buf b = {0};
    if (!netconf_attribute(m, IFLA_MASTER, &master))
        return 0;
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link);
    netlink_put(&b, IFLA_MASTER, master.data, master.len);
    netlink_end(&b, at);
    if (ask(a, &b, e) < 0)
        return -1;
    if (!netconf_attribute(m, IFLA_LINKINFO, &info) || !attribute_find(info.data, info.data + info.len, IFLA_INFO_SLAVE_KIND, &kind) ||
        !attribute_find(info.data, info.data + info.len, IFLA_INFO_SLAVE_DATA, &data))
        return 0;
    b.len = 0;
    at = netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link);
    size_t nest = netlink_nest(&b, IFLA_LINKINFO);
    netlink_put(&b, IFLA_INFO_SLAVE_KIND, kind.data, kind.len);
    netlink_put(&b, IFLA_INFO_SLAVE_DATA | NLA_F_NESTED, data.data, data.len);
    netlink_nest_end(&b, nest);
    netlink_end(&b, at);
    return ask(a, &b, e);
}

static int link_raise(const struct applying *a, const struct net_message *m, struct err *e)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(m).ifi_index, .ifi_flags = netconf_link(m).ifi_flags & FLAGS_SET, .ifi_change = FLAGS_SET};
    AUTO_BUF struct buf b = {0};
    netlink_end(&b, netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link));
    return ask(a, &b, e);
}

static int link_finish(const struct applying *a, const struct net_message *m, struct err *e)
{
    struct ifinfomsg link = {.ifi_index = netconf_link(m).ifi_index};
    AUTO_BUF struct buf b = {0};
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link);
    generation_put(&b, m, true);
    netlink_end(&b, at);
    return ask(a, &b, e);
}

static int links_each(const struct applying *a, int (*step)(const struct applying *a, const struct net_message *m, struct err *e), struct err *e)
{
    for (size_t k = 0; k < a->count; k++) {
        struct attribute name = {0};
        if (a->messages[k].type != RTM_NEWLINK || step(a, &a->messages[k], e) == 0)
            continue;
        netconf_attribute(&a->messages[k], IFLA_IFNAME, &name);
        return err_wrap(e, "network device %.*s", (int)(name.len < 16 ? name.len : 16), name.len ? (const char *)name.data : "");
    }
    return 0;
}

/* ---- all else */
/* As it is compared, of what was kept of it. */
static int compared_of(const struct net_message *m, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf kept = {0};
    return netattr_filter((uint16_t)m->type, m->body.data, m->body.len, &kept, out, e);
}

static int is_among(const struct net_message *m, const struct net_message *list, size_t count, size_t step, bool *found, struct err *e)
{
    AUTO_BUF struct buf own = {0};
    *found = false;
    if (compared_of(m, &own, e) < 0)
        return -1;
    for (size_t k = 0; k < count && !*found; k++) {
        const struct net_message *other = (const void *)((const uint8_t *)list + k * step);
        AUTO_BUF struct buf its = {0};
        if (other->type != m->type)
            continue;
        if (compared_of(other, &its, e) < 0)
            return -1;
        *found = own.len == its.len && memcmp(own.data, its.data, own.len) == 0;
    }
    return 0;
}

static int one_send(const struct applying *a, const struct net_message *m, uint16_t type, uint16_t flags, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct attribute flags_of;
    struct ifaddrmsg address;
    size_t header = netattr_header((uint16_t)m->type), begin = NLMSG_ALIGN(header);
    size_t at = netlink_begin(&b, type, (uint16_t)(flags | NLM_F_ACK), m->body.data, header);
    buf_add(&b, m->body.data + begin, m->body.len - begin);
    if (header >= sizeof address)
        memcpy(&address, m->body.data, sizeof address);
    if (type == RTM_NEWADDR && address.ifa_family == AF_INET6) /* the last one counts; it was looked for long ago whether somebody else has it */
        netlink_put_u32(&b, IFA_FLAGS, (netconf_attribute(m, IFA_FLAGS, &flags_of) ? attribute_u32(&flags_of) : 0) | IFA_F_NODAD);
    netlink_end(&b, at);
    return ask(a, &b, e);
}

static int surplus_remove(const struct applying *a, uint16_t type, struct err *e)
{
    struct net_conf now;
    int result = netconf_read(&now, e);
    for (size_t k = 0; k < now.count && result == 0; k++) {
        bool wanted;
        struct err gone;
        if (now.items[k].message.type != type)
            continue;
        result = is_among(&now.items[k].message, a->messages, a->count, sizeof *a->messages, &wanted, e);
        if (result == 0 && !wanted && one_send(a, &now.items[k].message, (uint16_t)(type + 1), 0, &gone) < 0)
            continue; /* it went with another; whether all is as wanted shows at the end */
    }
    netconf_free(&now);
    return result;
}

/* A route may need another one: again, as long as one more finds its place. */
static int missing_add(const struct applying *a, uint16_t type, uint16_t flags, struct err *e)
{
    for (size_t before = SIZE_MAX;;) {
        struct net_conf now;
        size_t missing = 0;
        struct err why = {0};
        int result = netconf_read(&now, e);
        for (size_t k = 0; k < a->count && result == 0; k++) {
            bool there;
            if (a->messages[k].type != type)
                continue;
            result = is_among(&a->messages[k], &now.items->message, now.count, sizeof *now.items, &there, e);
            missing += result == 0 && !there && one_send(a, &a->messages[k], type, flags, &why) < 0;
        }
        netconf_free(&now);
        if (result < 0 || !missing)
            return result;
        if (missing >= before)
            return *e = why, -1;
        before = missing;
    }
}

static int rest_make(const struct applying *a, struct err *e)
{
    static const struct {
        uint16_t type, flags;
        const char *words;
    } kinds[] = {{RTM_NEWADDR, NLM_F_CREATE, "an address"}, {RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, "a routing rule"},
                 {RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, "a route"}, {RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "a neighbour"}};
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++)
        if (surplus_remove(a, kinds[k].type, e) < 0 || missing_add(a, kinds[k].type, kinds[k].flags, e) < 0)
            return err_wrap(e, "%s", kinds[k].words);
    return 0;
}

int netconf_apply(const struct net_message *messages, size_t count, struct err *e)
{
    AUTO_CLOSE int fd = netlink_open(-1, NETLINK_ROUTE, e);
    const struct applying a = {messages, count, fd};
    if (fd < 0)
        return -1;
    if (links_each(&a, link_make, e) < 0 || links_each(&a, link_settle, e) < 0 || links_each(&a, link_enslave, e) < 0 || links_each(&a, link_raise, e) < 0)
        return -1;
    return rest_make(&a, e) < 0 ? -1 : links_each(&a, link_finish, e);
}

int netconf_validate(const struct net_message *messages, size_t count, struct err *e)
{
    if (count > MESSAGES_MAX)
        return err_set(e, E_BAD_IMAGE, "a network namespace of the job: too much in it (%zu)", count);
    for (size_t k = 0; k < count; k++)
        if (messages[k].protocol != (messages[k].type >> 8 ? NETLINK_NETFILTER : NETLINK_ROUTE))
            return err_set(e, E_BAD_IMAGE, "a network namespace of the job: a message of protocol %lu", messages[k].protocol);
        else if (netattr_validate(&messages[k], e) < 0)
            return -1;
    return 0;
}
