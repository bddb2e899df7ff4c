/* See netconf.h: reading and comparing. */
#include "netconf.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netdump.h"
#include "nettables.h"

#define LO_INDEX 1
#define READ_TRIES 100

static const char *const kinds[] = {"veth", "bridge"};

/* ---- parts of a message */
struct ifinfomsg netconf_link(const struct net_message *m)
{
    struct ifinfomsg link = {0};
    if (m->body.len >= sizeof link)
        memcpy(&link, m->body.data, sizeof link);
    return link;
}

bool netconf_attribute(const struct net_message *m, uint16_t type, struct attribute *out)
{
    size_t begin = NLMSG_ALIGN(netattr_header((uint16_t)m->type));
    return begin < m->body.len && attribute_find(m->body.data + begin, m->body.data + m->body.len, type, out);
}

/* ---- reading */
static bool is_wanted(uint16_t type, const void *header)
{
    struct rtmsg route;
    struct ndmsg neighbour;
    if (type == RTM_NEWROUTE) {
        memcpy(&route, header, sizeof route);
        if (route.rtm_family == AF_INET6 && route.rtm_table == RT_TABLE_LOCAL && route.rtm_protocol == RTPROT_KERNEL)
            return false; /* they follow their addresses, which take a while to become theirs */
        return !(route.rtm_flags & RTM_F_CLONED) && (route.rtm_family == AF_INET || route.rtm_family == AF_INET6);
    }
    if (type != RTM_NEWNEIGH)
        return true;
    memcpy(&neighbour, header, sizeof neighbour);
    if (neighbour.ndm_family == AF_BRIDGE) /* what belongs to a device's own filter comes with its groups */
        return neighbour.ndm_flags & NTF_MASTER && neighbour.ndm_state & (NUD_PERMANENT | NUD_NOARP);
    return neighbour.ndm_state & NUD_PERMANENT || neighbour.ndm_flags & NTF_PROXY;
}

static int item_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    struct net_conf *c = ctx;
    AUTO_BUF struct buf kept = {0}, compared = {0};
    size_t len = m->nlmsg_len - NLMSG_HDRLEN;
    if (len < netattr_header(m->nlmsg_type) || !is_wanted(m->nlmsg_type, NLMSG_DATA(m)))
        return 0;
    if (netattr_filter(m->nlmsg_type, NLMSG_DATA(m), len, &kept, &compared, e) < 0)
        return -1;
    struct net_item *item = list_add((void **)&c->items, &c->count, sizeof *item);
    *item = (struct net_item){.message = {.protocol = NETLINK_ROUTE, .type = m->nlmsg_type}};
    bytes_set(&item->message.body, kept.data, kept.len);
    buf_add(&item->compared, compared.data, compared.len);
    return 0;
}

/* A kernel without bridges or IPv6 has nothing to tell. */
static int dump_take(struct net_conf *c, uint16_t type, const void *header, size_t len, const char *what, struct err *e)
{
    int number;
    if (netdump(NETLINK_ROUTE, type, header, len, item_take, c, &number, e) < 0 && number != EOPNOTSUPP && number != EAFNOSUPPORT)
        return err_wrap(e, "%s", what);
    return 0;
}

static int items_read(struct net_conf *c, struct err *e)
{
    struct ifinfomsg link = {0};
    struct ifaddrmsg address = {0};
    struct rtmsg route = {0};
    struct fib_rule_hdr rule = {0};
    struct ndmsg neighbour = {0}, proxy = {.ndm_flags = NTF_PROXY}, forward = {.ndm_family = AF_BRIDGE};
    return dump_take(c, RTM_GETLINK, &link, sizeof link, "network devices", e) < 0 || dump_take(c, RTM_GETADDR, &address, sizeof address, "addresses", e) < 0 ||
                   dump_take(c, RTM_GETRULE, &rule, sizeof rule, "rules", e) < 0 || dump_take(c, RTM_GETROUTE, &route, sizeof route, "routes", e) < 0 ||
                   dump_take(c, RTM_GETNEIGH, &neighbour, sizeof neighbour, "neighbours", e) < 0 ||
                   dump_take(c, RTM_GETNEIGH, &proxy, sizeof proxy, "neighbours", e) < 0 || dump_take(c, RTM_GETNEIGH, &forward, sizeof forward, "neighbours", e) < 0
               ? -1
               : 0;
}

/* ---- what is only counted */
static void count_note(struct net_conf *c, const char *what, int protocol, uint16_t type, const void *header, size_t len)
{
    buf_addf(&c->counts, "%s %d\n", what, netdump_count(protocol, type, header, len));
}

static void names_note(struct net_conf *c, const char *file)
{
    AUTO_BUF struct buf text = {0};
    struct err ignored;
    AUTO_FREE char *path = xasprintf("/proc/thread-self/net/%s", file);
    bool there = io_slurpf(&text, 1 << 16, &ignored, "%s", path) == 0 && text.len;
    buf_addf(&c->counts, "%s %s\n", file, there ? (const char *)text.data : "");
}

static int queue_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    struct tcmsg queue;
    (void)e;
    memcpy(&queue, NLMSG_DATA(m), m->nlmsg_len < NLMSG_LENGTH(sizeof queue) ? 0 : sizeof queue);
    *(int *)ctx += m->nlmsg_len >= NLMSG_LENGTH(sizeof queue) && queue.tcm_handle != 0;
    return 0;
}

/* Those that somebody chose have a number. */
static void queues_note(struct net_conf *c)
{
    struct tcmsg queue = {0};
    struct err ignored;
    int count = 0, number;
    int result = netdump(NETLINK_ROUTE, RTM_GETQDISC, &queue, sizeof queue, queue_take, &count, &number, &ignored);
    buf_addf(&c->counts, "queueing disciplines %d\n", result < 0 ? -number : count);
}

static void counts_read(struct net_conf *c)
{
    static const char *const tables[] = {"ip_tables_names", "ip6_tables_names", "arp_tables_names", "ip_mr_vif", "ip6_mr_vif"};
    struct nhmsg nexthop = {0};
    struct nfgenmsg sets = {.nfgen_family = AF_INET}, all = {.nfgen_family = AF_UNSPEC};
    struct xfrm_usersa_id state = {0};
    struct xfrm_userpolicy_id policy = {0};
    uint8_t ipset_protocol[] = {5, 0, 1 /* IPSET_ATTR_PROTOCOL */, 0, IPSET_PROTOCOL, 0, 0, 0};
    AUTO_BUF struct buf ipset = {0};
    buf_add(&ipset, &sets, sizeof sets);
    buf_add(&ipset, ipset_protocol, sizeof ipset_protocol);
    queues_note(c);
    count_note(c, "nexthop objects", NETLINK_ROUTE, RTM_GETNEXTHOP, &nexthop, sizeof nexthop);
    count_note(c, "IPsec states", NETLINK_XFRM, XFRM_MSG_GETSA, &state, sizeof state);
    count_note(c, "IPsec policies", NETLINK_XFRM, XFRM_MSG_GETPOLICY, &policy, sizeof policy);
    count_note(c, "sets of addresses (ipset)", NETLINK_NETFILTER, NFNL_SUBSYS_IPSET << 8 | 7 /* IPSET_CMD_LIST */, ipset.data, ipset.len);
    count_note(c, "flow tables of nftables", NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETFLOWTABLE, &all, sizeof all);
    for (size_t k = 0; k < ARRAY_LENGTH(tables); k++)
        names_note(c, tables[k]);
}

/* ---- can it be made anew? */
static bool link_is_there(const struct net_conf *c, uint32_t index)
{
    for (size_t k = 0; k < c->count; k++)
        if (c->items[k].message.type == RTM_NEWLINK && netconf_link(&c->items[k].message).ifi_index == (int)index)
            return true;
    return false;
}

static int link_check(const struct net_conf *c, const struct net_item *item, struct err *e)
{
    const struct net_message *m = &item->message;
    struct attribute name = {0}, info, kind, other;
    if (netconf_link(m).ifi_index == LO_INDEX)
        return 0;
    netconf_attribute(m, IFLA_IFNAME, &name);
    const char *words = name.len ? (const char *)name.data : "?";
    if (!netconf_attribute(m, IFLA_LINKINFO, &info) || !attribute_find(info.data, info.data + info.len, IFLA_INFO_KIND, &kind))
        return err_set(e, E_UNSUPPORTED, "the network device %s, which nobody can make", words);
    bool known = false;
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++)
        known |= strncmp((const char *)kind.data, kinds[k], kind.len) == 0;
    if (!known)
        return err_set(e, E_UNSUPPORTED, "the network device %s of kind %.16s", words, (const char *)kind.data);
    bool far = attribute_find(item->compared.data + NLMSG_ALIGN(sizeof(struct ifinfomsg)), item->compared.data + item->compared.len, IFLA_LINK_NETNSID, &other);
    bool pair = strncmp((const char *)kind.data, "veth", kind.len) == 0;
    if (far || (pair && (!netconf_attribute(m, IFLA_LINK, &other) || !link_is_there(c, attribute_u32(&other)))))
        return err_set(e, E_UNSUPPORTED, "the network device %s, whose other end is in another network namespace", words);
    return 0;
}

/* Devices that just went up change by themselves for a moment. */
static int items_read_whole(struct net_conf *out, struct err *e)
{
    for (int tries = 0; tries < READ_TRIES; tries++) {
        *out = (struct net_conf){0};
        if (items_read(out, e) == 0 && nettables_read(out, e) == 0)
            return 0;
        netconf_free(out);
        if (e->code != E_BUSY)
            return -1;
        usleep(1000);
    }
    return -1;
}

int netconf_read(struct net_conf *out, struct err *e)
{
    if (items_read_whole(out, e) < 0)
        return -1;
    for (size_t k = 0; k < out->count; k++)
        if (out->items[k].message.type == RTM_NEWLINK && link_check(out, &out->items[k], e) < 0)
            return -1;
    counts_read(out);
    return 0;
}

void netconf_free(struct net_conf *c)
{
    for (size_t k = 0; k < c->count; k++) {
        net_message_free(&c->items[k].message);
        buf_free(&c->items[k].compared);
    }
    free(c->items);
    buf_free(&c->counts);
    *c = (struct net_conf){0};
}

/* ---- comparing: as sets */
static bool is_same(const struct net_item *a, const struct net_item *b)
{
    return a->message.type == b->message.type && a->compared.len == b->compared.len && memcmp(a->compared.data, b->compared.data, a->compared.len) == 0;
}

static bool has(const struct net_conf *c, const struct net_item *item)
{
    for (size_t k = 0; k < c->count; k++)
        if (is_same(&c->items[k], item))
            return true;
    return false;
}

/* The first that differs, and which one in it: "18.5.6". */
static void difference_words(const uint8_t *at, const uint8_t *end, const uint8_t *other, const uint8_t *other_end, unsigned depth, char *words, size_t room)
{
    for (struct attribute a, b; attribute_next(&at, end, &a);) {
        bool there = attribute_find(other, other_end, a.type, &b);
        if (there && a.len == b.len && memcmp(a.data, b.data, a.len) == 0)
            continue;
        int n = snprintf(words, room, "%s%u", depth ? "." : "", a.type);
        if (there && depth < 3 && (depth || a.type == IFLA_LINKINFO || a.type == IFLA_AF_SPEC) && n > 0 && (size_t)n < room)
            difference_words(a.data, a.data + a.len, b.data, b.data + b.len, depth + 1, words + n, room - (size_t)n);
        return;
    }
}

static void link_words(const struct net_item *item, const struct net_conf *other, char *words, size_t room)
{
    int index = netconf_link(&item->message).ifi_index;
    size_t begin = NLMSG_ALIGN(sizeof(struct ifinfomsg));
    for (size_t k = 0; k < other->count; k++) {
        const struct net_item *o = &other->items[k];
        if (o->message.type == RTM_NEWLINK && netconf_link(&o->message).ifi_index == index)
            difference_words(item->compared.data + begin, item->compared.data + item->compared.len, o->compared.data + begin, o->compared.data + o->compared.len, 0,
                             words, room);
    }
}

static void item_words(const struct net_item *item, const struct net_conf *other, char words[128])
{
    static const struct {
        uint64_t type;
        const char *words;
    } known[] = {{RTM_NEWADDR, "an address"}, {RTM_NEWROUTE, "a route"}, {RTM_NEWRULE, "a routing rule"}, {RTM_NEWNEIGH, "a neighbour"}};
    struct attribute name = {0};
    snprintf(words, 128, item->message.protocol == NETLINK_NETFILTER ? "a part of the nftables rules" : "something");
    for (size_t k = 0; k < ARRAY_LENGTH(known); k++)
        if (known[k].type == item->message.type)
            snprintf(words, 128, "%s", known[k].words);
    if (item->message.type == RTM_NEWLINK && netconf_attribute(&item->message, IFLA_IFNAME, &name)) {
        char number[40] = "something";
        link_words(item, other, number, sizeof number);
        snprintf(words, 128, "attribute %s of the network device %.16s", number, (const char *)name.data);
    }
}

/* The first line of `a` that `b` has not. */
static void counts_words(const struct net_conf *a, const struct net_conf *b, char words[128])
{
    const char *text = (const char *)a->counts.data, *other = (const char *)b->counts.data;
    for (size_t len; text && *text; text += len + (text[len] == '\n'), other = other ? strchr(other, '\n') : NULL, other = other ? other + 1 : NULL) {
        len = strcspn(text, "\n");
        if (other && strncmp(text, other, len + 1) == 0)
            continue;
        size_t name = strcspn(text, "0123456789\n-");
        snprintf(words, 128, "%.*s", (int)(name < 60 ? name : 60), text);
        for (size_t end = strlen(words); end && words[end - 1] == ' ';)
            words[--end] = 0;
        return;
    }
    snprintf(words, 128, "something");
}

bool netconf_same(const struct net_conf *a, const struct net_conf *b, char words[128])
{
    for (size_t k = 0; k < a->count; k++)
        if (!has(b, &a->items[k]))
            return item_words(&a->items[k], b, words), false;
    for (size_t k = 0; k < b->count; k++)
        if (!has(a, &b->items[k]))
            return item_words(&b->items[k], a, words), false;
    bool same = a->counts.len == b->counts.len && (!a->counts.len || memcmp(a->counts.data, b->counts.data, a->counts.len) == 0);
    if (!same)
        counts_words(a, b, words);
    return same;
}
