/* See netattr.h. */
#include "netattr.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "netlink.h"

#define BYTES_MAX 4096u
#define LINK_FLAGS_PASSING (IFF_RUNNING | 0x10000u | 0x20000u | 0x40000u) /* LOWER_UP, DORMANT, ECHO */
#define ADDRESS_FLAGS_PASSING (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC | IFA_F_DADFAILED | IFA_F_NODAD)
#define ROUTE_FLAGS_PASSING (RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_OFFLOAD | RTNH_F_TRAP)

enum fate { KEPT = 1, LOOSE, LEFT, BELOW };
struct rule {
    uint16_t type;
    uint8_t fate;
    uint16_t least, most;        /* bytes */
    const struct rules *below;
};
struct rules {
    const struct rule *items;
    size_t count;
};
#define RULES(name) static const struct rules name = {name##_items, ARRAY_LENGTH(name##_items)}

/* ---- links */
static const struct rule bridge_data_items[] = {
    {IFLA_BR_FORWARD_DELAY, KEPT, 4, 4, NULL}, {IFLA_BR_HELLO_TIME, KEPT, 4, 4, NULL}, {IFLA_BR_MAX_AGE, KEPT, 4, 4, NULL},
    {IFLA_BR_AGEING_TIME, KEPT, 4, 4, NULL}, {IFLA_BR_STP_STATE, KEPT, 4, 4, NULL}, {IFLA_BR_PRIORITY, KEPT, 2, 2, NULL},
    {IFLA_BR_VLAN_PROTOCOL, KEPT, 2, 2, NULL}, {IFLA_BR_GROUP_FWD_MASK, KEPT, 2, 2, NULL}, {IFLA_BR_MCAST_ROUTER, KEPT, 1, 1, NULL},
    {IFLA_BR_MCAST_SNOOPING, KEPT, 1, 1, NULL}, {IFLA_BR_MCAST_QUERY_USE_IFADDR, KEPT, 1, 1, NULL}, {IFLA_BR_MCAST_QUERIER, KEPT, 1, 1, NULL},
    {IFLA_BR_MCAST_HASH_MAX, KEPT, 4, 4, NULL}, {IFLA_BR_MCAST_LAST_MEMBER_CNT, KEPT, 4, 4, NULL}, {IFLA_BR_MCAST_STARTUP_QUERY_CNT, KEPT, 4, 4, NULL},
    {IFLA_BR_MCAST_LAST_MEMBER_INTVL, KEPT, 8, 8, NULL}, {IFLA_BR_MCAST_MEMBERSHIP_INTVL, KEPT, 8, 8, NULL},
    {IFLA_BR_MCAST_QUERIER_INTVL, KEPT, 8, 8, NULL}, {IFLA_BR_MCAST_QUERY_INTVL, KEPT, 8, 8, NULL}, {IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, KEPT, 8, 8, NULL},
    {IFLA_BR_MCAST_STARTUP_QUERY_INTVL, KEPT, 8, 8, NULL}, {IFLA_BR_NF_CALL_IPTABLES, KEPT, 1, 1, NULL}, {IFLA_BR_NF_CALL_IP6TABLES, KEPT, 1, 1, NULL},
    {IFLA_BR_NF_CALL_ARPTABLES, KEPT, 1, 1, NULL}, {IFLA_BR_VLAN_STATS_ENABLED, KEPT, 1, 1, NULL}, {IFLA_BR_MCAST_STATS_ENABLED, KEPT, 1, 1, NULL},
    {IFLA_BR_MCAST_IGMP_VERSION, KEPT, 1, 1, NULL}, {IFLA_BR_MCAST_MLD_VERSION, KEPT, 1, 1, NULL},
    {IFLA_BR_ROOT_ID, LEFT, 0, 0, NULL}, {IFLA_BR_BRIDGE_ID, LEFT, 0, 0, NULL}, {IFLA_BR_ROOT_PORT, LEFT, 0, 0, NULL}, {IFLA_BR_ROOT_PATH_COST, LEFT, 0, 0, NULL},
    {IFLA_BR_TOPOLOGY_CHANGE, LEFT, 0, 0, NULL}, {IFLA_BR_TOPOLOGY_CHANGE_DETECTED, LEFT, 0, 0, NULL}, {IFLA_BR_HELLO_TIMER, LEFT, 0, 0, NULL},
    {IFLA_BR_TCN_TIMER, LEFT, 0, 0, NULL}, {IFLA_BR_TOPOLOGY_CHANGE_TIMER, LEFT, 0, 0, NULL}, {IFLA_BR_GC_TIMER, LEFT, 0, 0, NULL},
    {IFLA_BR_PAD, LEFT, 0, 0, NULL}, {IFLA_BR_MCAST_QUERIER_STATE, LEFT, 0, 0, NULL}, {48 /* IFLA_BR_FDB_N_LEARNED */, LEFT, 0, 0, NULL},
};
RULES(bridge_data);
static const struct rule port_data_items[] = {
    {IFLA_BRPORT_PRIORITY, KEPT, 2, 2, NULL}, {IFLA_BRPORT_COST, KEPT, 4, 4, NULL}, {IFLA_BRPORT_MODE, KEPT, 1, 1, NULL},
    {IFLA_BRPORT_GUARD, KEPT, 1, 1, NULL}, {IFLA_BRPORT_PROTECT, KEPT, 1, 1, NULL}, {IFLA_BRPORT_FAST_LEAVE, KEPT, 1, 1, NULL},
    {IFLA_BRPORT_LEARNING, KEPT, 1, 1, NULL}, {IFLA_BRPORT_UNICAST_FLOOD, KEPT, 1, 1, NULL}, {IFLA_BRPORT_PROXYARP, KEPT, 1, 1, NULL},
    {IFLA_BRPORT_PROXYARP_WIFI, KEPT, 1, 1, NULL}, {IFLA_BRPORT_MULTICAST_ROUTER, KEPT, 1, 1, NULL}, {IFLA_BRPORT_MCAST_FLOOD, KEPT, 1, 1, NULL},
    {IFLA_BRPORT_MCAST_TO_UCAST, KEPT, 1, 1, NULL}, {IFLA_BRPORT_BCAST_FLOOD, KEPT, 1, 1, NULL}, {IFLA_BRPORT_GROUP_FWD_MASK, KEPT, 2, 2, NULL},
    {IFLA_BRPORT_NEIGH_SUPPRESS, KEPT, 1, 1, NULL}, {IFLA_BRPORT_ISOLATED, KEPT, 1, 1, NULL}, {IFLA_BRPORT_LOCKED, KEPT, 1, 1, NULL},
    {IFLA_BRPORT_STATE, LEFT, 0, 0, NULL}, {IFLA_BRPORT_ROOT_ID, LEFT, 0, 0, NULL}, {IFLA_BRPORT_BRIDGE_ID, LEFT, 0, 0, NULL},
    {IFLA_BRPORT_DESIGNATED_PORT, LEFT, 0, 0, NULL}, {IFLA_BRPORT_DESIGNATED_COST, LEFT, 0, 0, NULL}, {IFLA_BRPORT_ID, LEFT, 0, 0, NULL},
    {IFLA_BRPORT_NO, LEFT, 0, 0, NULL}, {IFLA_BRPORT_TOPOLOGY_CHANGE_ACK, LEFT, 0, 0, NULL}, {IFLA_BRPORT_CONFIG_PENDING, LEFT, 0, 0, NULL},
    {IFLA_BRPORT_MESSAGE_AGE_TIMER, LEFT, 0, 0, NULL}, {IFLA_BRPORT_FORWARD_DELAY_TIMER, LEFT, 0, 0, NULL}, {IFLA_BRPORT_HOLD_TIMER, LEFT, 0, 0, NULL},
    {IFLA_BRPORT_PAD, LEFT, 0, 0, NULL}, {IFLA_BRPORT_MCAST_EHT_HOSTS_CNT, LEFT, 0, 0, NULL}, {41 /* IFLA_BRPORT_MCAST_N_GROUPS */, LEFT, 0, 0, NULL},
};
RULES(port_data);
static const struct rule info_items[] = {
    {IFLA_INFO_KIND, KEPT, 2, 16, NULL}, {IFLA_INFO_DATA, BELOW, 0, BYTES_MAX, &bridge_data}, {IFLA_INFO_SLAVE_KIND, KEPT, 2, 16, NULL},
    {IFLA_INFO_SLAVE_DATA, BELOW, 0, BYTES_MAX, &port_data}, {IFLA_INFO_XSTATS, LEFT, 0, 0, NULL},
};
RULES(info);
static const struct rule inet6_items[] = {
    {IFLA_INET6_ADDR_GEN_MODE, KEPT, 1, 1, NULL}, {IFLA_INET6_FLAGS, LEFT, 0, 0, NULL}, {IFLA_INET6_STATS, LEFT, 0, 0, NULL},
    {IFLA_INET6_ICMP6STATS, LEFT, 0, 0, NULL}, {IFLA_INET6_CACHEINFO, LEFT, 0, 0, NULL},
};
RULES(inet6);
static const struct rule families_items[] = {{AF_INET6, BELOW, 0, BYTES_MAX, &inet6}};
RULES(families);
static const struct rule links_items[] = {
    {IFLA_IFNAME, KEPT, 2, IFNAMSIZ, NULL}, {IFLA_ADDRESS, KEPT, 0, 32, NULL}, {IFLA_BROADCAST, KEPT, 0, 32, NULL}, {IFLA_MTU, KEPT, 4, 4, NULL},
    {IFLA_LINK, KEPT, 4, 4, NULL}, {IFLA_MASTER, KEPT, 4, 4, NULL}, {IFLA_TXQLEN, KEPT, 4, 4, NULL}, {IFLA_LINKMODE, KEPT, 1, 1, NULL},
    {IFLA_IFALIAS, KEPT, 1, 256, NULL}, {IFLA_GROUP, KEPT, 4, 4, NULL}, {IFLA_NUM_TX_QUEUES, KEPT, 4, 4, NULL}, {IFLA_NUM_RX_QUEUES, KEPT, 4, 4, NULL},
    {IFLA_LINKINFO, BELOW, 0, BYTES_MAX, &info}, {IFLA_AF_SPEC, BELOW, 0, BYTES_MAX, &families},
    {IFLA_STATS, LEFT, 0, 0, NULL}, {IFLA_STATS64, LEFT, 0, 0, NULL}, {IFLA_OPERSTATE, LEFT, 0, 0, NULL}, {IFLA_CARRIER, LEFT, 0, 0, NULL},
    {IFLA_CARRIER_CHANGES, LEFT, 0, 0, NULL}, {IFLA_CARRIER_UP_COUNT, LEFT, 0, 0, NULL}, {IFLA_CARRIER_DOWN_COUNT, LEFT, 0, 0, NULL},
    {IFLA_PROMISCUITY, LEFT, 0, 0, NULL}, {61 /* IFLA_ALLMULTI */, LEFT, 0, 0, NULL}, {IFLA_PERM_ADDRESS, LEFT, 0, 0, NULL},
    {IFLA_EVENT, LEFT, 0, 0, NULL}, {IFLA_PAD, LEFT, 0, 0, NULL},
};
RULES(links);

/* ---- addresses, routes, rules, neighbours */
static const struct rule addresses_items[] = {
    {IFA_ADDRESS, KEPT, 4, 16, NULL}, {IFA_LOCAL, KEPT, 4, 16, NULL}, {IFA_LABEL, KEPT, 2, IFNAMSIZ, NULL}, {IFA_BROADCAST, KEPT, 4, 4, NULL},
    {IFA_FLAGS, KEPT, 4, 4, NULL}, {IFA_RT_PRIORITY, KEPT, 4, 4, NULL}, {IFA_PROTO, KEPT, 1, 1, NULL}, {IFA_CACHEINFO, LOOSE, 16, 16, NULL},
};
RULES(addresses);
static const struct rule routes_items[] = {
    {RTA_DST, KEPT, 4, 16, NULL}, {RTA_SRC, KEPT, 4, 16, NULL}, {RTA_OIF, KEPT, 4, 4, NULL}, {RTA_GATEWAY, KEPT, 4, 16, NULL}, {RTA_PRIORITY, KEPT, 4, 4, NULL},
    {RTA_PREFSRC, KEPT, 4, 16, NULL}, {RTA_METRICS, KEPT, 4, 256, NULL}, {RTA_MULTIPATH, KEPT, 8, BYTES_MAX, NULL}, {RTA_FLOW, KEPT, 4, 4, NULL},
    {RTA_TABLE, KEPT, 4, 4, NULL}, {RTA_VIA, KEPT, 6, 18, NULL}, {RTA_PREF, KEPT, 1, 1, NULL}, {RTA_EXPIRES, LOOSE, 4, 8, NULL}, {RTA_CACHEINFO, LEFT, 0, 0, NULL},
};
RULES(routes);
static const struct rule policies_items[] = {
    {FRA_DST, KEPT, 4, 16, NULL}, {FRA_SRC, KEPT, 4, 16, NULL}, {FRA_IIFNAME, KEPT, 2, IFNAMSIZ, NULL}, {FRA_OIFNAME, KEPT, 2, IFNAMSIZ, NULL},
    {FRA_GOTO, KEPT, 4, 4, NULL}, {FRA_PRIORITY, KEPT, 4, 4, NULL}, {FRA_FWMARK, KEPT, 4, 4, NULL}, {FRA_FWMASK, KEPT, 4, 4, NULL}, {FRA_FLOW, KEPT, 4, 4, NULL},
    {FRA_TABLE, KEPT, 4, 4, NULL}, {FRA_SUPPRESS_PREFIXLEN, KEPT, 4, 4, NULL}, {FRA_SUPPRESS_IFGROUP, KEPT, 4, 4, NULL}, {FRA_PROTOCOL, KEPT, 1, 1, NULL},
    {FRA_IP_PROTO, KEPT, 1, 1, NULL}, {FRA_SPORT_RANGE, KEPT, 4, 4, NULL}, {FRA_DPORT_RANGE, KEPT, 4, 4, NULL}, {FRA_PAD, LEFT, 0, 0, NULL},
};
RULES(policies);
static const struct rule neighbours_items[] = {
    {NDA_DST, KEPT, 4, 16, NULL}, {NDA_LLADDR, KEPT, 1, 32, NULL}, {NDA_MASTER, KEPT, 4, 4, NULL}, {NDA_VLAN, KEPT, 2, 2, NULL}, {NDA_PROTOCOL, KEPT, 1, 1, NULL},
    {NDA_PROBES, LEFT, 0, 0, NULL}, {NDA_CACHEINFO, LEFT, 0, 0, NULL},
};
RULES(neighbours);

/* ---- nftables: handles are given anew; what is counted comes back, and is not compared */
#define OF_TABLES(message) ((NFNL_SUBSYS_NFTABLES << 8) | (message))
static const struct rule tables_items[] = {
    {NFTA_TABLE_NAME, KEPT, 2, 256, NULL}, {NFTA_TABLE_FLAGS, KEPT, 4, 4, NULL}, {NFTA_TABLE_USERDATA, KEPT, 0, 256, NULL}, {NFTA_TABLE_USE, LEFT, 0, 0, NULL},
    {NFTA_TABLE_HANDLE, LEFT, 0, 0, NULL}, {NFTA_TABLE_PAD, LEFT, 0, 0, NULL},
};
RULES(tables);
static const struct rule chains_items[] = {
    {NFTA_CHAIN_TABLE, KEPT, 2, 256, NULL}, {NFTA_CHAIN_NAME, KEPT, 2, 256, NULL}, {NFTA_CHAIN_HOOK, KEPT, 0, 512, NULL}, {NFTA_CHAIN_POLICY, KEPT, 4, 4, NULL},
    {NFTA_CHAIN_TYPE, KEPT, 2, 64, NULL}, {NFTA_CHAIN_FLAGS, KEPT, 4, 4, NULL}, {NFTA_CHAIN_USERDATA, KEPT, 0, 256, NULL},
    {NFTA_CHAIN_COUNTERS, LOOSE, 0, 64, NULL}, {NFTA_CHAIN_USE, LEFT, 0, 0, NULL}, {NFTA_CHAIN_HANDLE, LEFT, 0, 0, NULL}, {NFTA_CHAIN_PAD, LEFT, 0, 0, NULL},
};
RULES(chains);
static const struct rule expression_items[] = {{NFTA_EXPR_NAME, KEPT, 2, 32, NULL}, {NFTA_EXPR_DATA, KEPT, 0, BYTES_MAX, NULL}};
RULES(expression);
static const struct rule expressions_items[] = {{NFTA_LIST_ELEM, BELOW, 0, BYTES_MAX, &expression}};
RULES(expressions);
static const struct rule filters_items[] = {
    {NFTA_RULE_TABLE, KEPT, 2, 256, NULL}, {NFTA_RULE_CHAIN, KEPT, 2, 256, NULL}, {NFTA_RULE_EXPRESSIONS, BELOW, 0, BYTES_MAX * 4, &expressions},
    {NFTA_RULE_USERDATA, KEPT, 0, 256, NULL}, {NFTA_RULE_HANDLE, LEFT, 0, 0, NULL}, {NFTA_RULE_POSITION, LEFT, 0, 0, NULL}, {NFTA_RULE_PAD, LEFT, 0, 0, NULL},
};
RULES(filters);
static const struct rule sets_items[] = {
    {NFTA_SET_TABLE, KEPT, 2, 256, NULL}, {NFTA_SET_NAME, KEPT, 2, 256, NULL}, {NFTA_SET_FLAGS, KEPT, 4, 4, NULL}, {NFTA_SET_KEY_TYPE, KEPT, 4, 4, NULL},
    {NFTA_SET_KEY_LEN, KEPT, 4, 4, NULL}, {NFTA_SET_DATA_TYPE, KEPT, 4, 4, NULL}, {NFTA_SET_DATA_LEN, KEPT, 4, 4, NULL}, {NFTA_SET_POLICY, KEPT, 4, 4, NULL},
    {NFTA_SET_DESC, KEPT, 0, 512, NULL}, {NFTA_SET_TIMEOUT, KEPT, 8, 8, NULL}, {NFTA_SET_GC_INTERVAL, KEPT, 4, 4, NULL}, {NFTA_SET_USERDATA, KEPT, 0, 256, NULL},
    {NFTA_SET_OBJ_TYPE, KEPT, 4, 4, NULL}, {NFTA_SET_HANDLE, LEFT, 0, 0, NULL}, {NFTA_SET_PAD, LEFT, 0, 0, NULL}, {19 /* NFTA_SET_TYPE */, LEFT, 0, 0, NULL},
    {20 /* NFTA_SET_COUNT */, LEFT, 0, 0, NULL},
};
RULES(sets);
static const struct rule element_items[] = {
    {NFTA_SET_ELEM_KEY, KEPT, 0, 256, NULL}, {NFTA_SET_ELEM_KEY_END, KEPT, 0, 256, NULL}, {NFTA_SET_ELEM_DATA, KEPT, 0, 512, NULL}, {NFTA_SET_ELEM_FLAGS, KEPT, 4, 4, NULL},
    {NFTA_SET_ELEM_TIMEOUT, KEPT, 8, 8, NULL}, {NFTA_SET_ELEM_EXPIRATION, LOOSE, 8, 8, NULL}, {NFTA_SET_ELEM_USERDATA, KEPT, 0, 256, NULL},
    {NFTA_SET_ELEM_OBJREF, KEPT, 2, 256, NULL}, {NFTA_SET_ELEM_PAD, LEFT, 0, 0, NULL},
};
RULES(element);
static const struct rule elements_items[] = {{NFTA_LIST_ELEM, BELOW, 0, BYTES_MAX, &element}};
RULES(elements);
static const struct rule members_items[] = {
    {NFTA_SET_ELEM_LIST_TABLE, KEPT, 2, 256, NULL}, {NFTA_SET_ELEM_LIST_SET, KEPT, 2, 256, NULL}, {NFTA_SET_ELEM_LIST_ELEMENTS, BELOW, 0, BYTES_MAX * 4, &elements},
};
RULES(members);
static const struct rule objects_items[] = {
    {NFTA_OBJ_TABLE, KEPT, 2, 256, NULL}, {NFTA_OBJ_NAME, KEPT, 2, 256, NULL}, {NFTA_OBJ_TYPE, KEPT, 4, 4, NULL}, {NFTA_OBJ_DATA, LOOSE, 0, 512, NULL},
    {NFTA_OBJ_USERDATA, KEPT, 0, 256, NULL}, {NFTA_OBJ_USE, LEFT, 0, 0, NULL}, {NFTA_OBJ_HANDLE, LEFT, 0, 0, NULL}, {NFTA_OBJ_PAD, LEFT, 0, 0, NULL},
};
RULES(objects);

static const struct kind {
    uint16_t type;
    size_t header;
    const struct rules *rules;
} kinds[] = {
    {RTM_NEWLINK, sizeof(struct ifinfomsg), &links}, {RTM_NEWADDR, sizeof(struct ifaddrmsg), &addresses}, {RTM_NEWROUTE, sizeof(struct rtmsg), &routes},
    {RTM_NEWRULE, sizeof(struct fib_rule_hdr), &policies}, {RTM_NEWNEIGH, sizeof(struct ndmsg), &neighbours},
    {OF_TABLES(NFT_MSG_NEWTABLE), sizeof(struct nfgenmsg), &tables}, {OF_TABLES(NFT_MSG_NEWCHAIN), sizeof(struct nfgenmsg), &chains},
    {OF_TABLES(NFT_MSG_NEWOBJ), sizeof(struct nfgenmsg), &objects}, {OF_TABLES(NFT_MSG_NEWSET), sizeof(struct nfgenmsg), &sets},
    {OF_TABLES(NFT_MSG_NEWSETELEM), sizeof(struct nfgenmsg), &members}, {OF_TABLES(NFT_MSG_NEWRULE), sizeof(struct nfgenmsg), &filters},
};

static const struct kind *kind_of(uint64_t type)
{
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++)
        if (kinds[k].type == type)
            return &kinds[k];
    return NULL;
}

size_t netattr_header(uint16_t type)
{
    const struct kind *kind = kind_of(type);
    return kind ? kind->header : 0;
}

/* ---- walking */
bool attribute_next(const uint8_t **at, const uint8_t *end, struct attribute *out)
{
    struct nlattr a;
    if ((size_t)(end - *at) < sizeof a)
        return false;
    memcpy(&a, *at, sizeof a);
    if (a.nla_len < sizeof a || a.nla_len > (size_t)(end - *at))
        return false;
    *out = (struct attribute){(uint16_t)(a.nla_type & (uint16_t)NLA_TYPE_MASK), a.nla_len - sizeof a, *at + sizeof a};
    size_t step = NLA_ALIGN(a.nla_len);
    *at += step < (size_t)(end - *at) ? step : (size_t)(end - *at);
    return true;
}

bool attribute_find(const uint8_t *at, const uint8_t *end, uint16_t type, struct attribute *out)
{
    while (attribute_next(&at, end, out))
        if (out->type == type)
            return true;
    return false;
}

uint32_t attribute_u32(const struct attribute *a)
{
    uint32_t value = 0;
    memcpy(&value, a->data, a->len < sizeof value ? a->len : sizeof value);
    return value;
}

static const struct rule *rule_find(const struct rules *rules, uint16_t type)
{
    for (size_t k = 0; k < rules->count; k++)
        if (rules->items[k].type == type)
            return &rules->items[k];
    return NULL;
}

/* What only a bridge has is left to be compared elsewhere. */
static const struct rules *below_of(const struct rules *rules, const struct rule *rule, const char *kind)
{
    return rules == &info && rule->below && strcmp(kind, "bridge") != 0 ? NULL : rule->below;
}

/* ---- from the kernel */
static void value_put(struct buf *b, const struct attribute *a, const struct rules *rules)
{
    uint32_t value = attribute_u32(a);
    if (rules == &addresses && a->type == IFA_FLAGS)
        netlink_put_u32(b, a->type, value & ~(uint32_t)ADDRESS_FLAGS_PASSING);
    else if (rules == &links && a->type == IFLA_QDISC && a->len == 5 && memcmp(a->data, "noop", 5) == 0) /* of a device that was never up */
        netlink_put_str(b, a->type, "noqueue");
    else
        netlink_put(b, a->type, a->data, a->len);
}

static void filter(const struct rules *rules, const uint8_t *at, const uint8_t *end, struct buf *kept, struct buf *compared)
{
    struct attribute a;
    char kind[17] = "";
    while (attribute_next(&at, end, &a)) {
        const struct rule *rule = rule_find(rules, a.type);
        if (rules == &info && (a.type == IFLA_INFO_KIND || a.type == IFLA_INFO_SLAVE_KIND))
            snprintf(kind, sizeof kind, "%.*s", (int)(a.len < 16 ? a.len : 16), (const char *)a.data);
        const struct rules *below = rule && rule->fate == BELOW ? below_of(rules, rule, kind) : NULL;
        if (below) {
            size_t in_kept = netlink_nest(kept, a.type), in_compared = netlink_nest(compared, a.type);
            filter(below, a.data, a.data + a.len, kept, compared);
            netlink_nest_end(kept, in_kept);
            netlink_nest_end(compared, in_compared);
            continue;
        }
        if (rules == &expression && a.type == NFTA_EXPR_NAME)
            snprintf(kind, sizeof kind, "%.*s", (int)(a.len < 16 ? a.len : 16), (const char *)a.data);
        bool counted = rules == &expression && a.type == NFTA_EXPR_DATA && (!strcmp(kind, "counter") || !strcmp(kind, "quota"));
        if (rule && (rule->fate == KEPT || rule->fate == LOOSE))
            value_put(kept, &a, rules);
        if (!rule || (rule->fate == KEPT && !counted) || rule->fate == BELOW)
            value_put(compared, &a, rules);
    }
}

static void header_clean(uint16_t type, uint8_t *header)
{
    struct ifinfomsg link;
    struct ifaddrmsg address;
    struct rtmsg route;
    switch (type) {
    case RTM_NEWLINK:
        memcpy(&link, header, sizeof link);
        link.ifi_flags &= ~LINK_FLAGS_PASSING;
        link.ifi_change = 0;
        memcpy(header, &link, sizeof link);
        break;
    case RTM_NEWADDR:
        memcpy(&address, header, sizeof address);
        address.ifa_flags &= (uint8_t)~ADDRESS_FLAGS_PASSING;
        memcpy(header, &address, sizeof address);
        break;
    case OF_TABLES(NFT_MSG_NEWTABLE): case OF_TABLES(NFT_MSG_NEWCHAIN): case OF_TABLES(NFT_MSG_NEWOBJ): case OF_TABLES(NFT_MSG_NEWSET):
    case OF_TABLES(NFT_MSG_NEWSETELEM): case OF_TABLES(NFT_MSG_NEWRULE):
        memset(header + 2, 0, 2); /* which generation of rules it was told from */
        break;
    case RTM_NEWROUTE:
        memcpy(&route, header, sizeof route);
        route.rtm_flags &= ~(unsigned)ROUTE_FLAGS_PASSING;
        memcpy(header, &route, sizeof route);
        break;
    default:
        break;
    }
}

int netattr_filter(uint16_t type, const uint8_t *body, size_t len, struct buf *kept, struct buf *compared, struct err *e)
{
    const struct kind *kind = kind_of(type);
    uint8_t header[32];
    if (!kind || len < kind->header)
        return err_set(e, E_UNSUPPORTED, "a message of netlink that is not known (%u)", type);
    memcpy(header, body, kind->header);
    header_clean(type, header);
    for (int k = 0; k < 2; k++)
        netlink_pad(k ? compared : kept, header, kind->header);
    size_t begin = NLMSG_ALIGN(kind->header);
    if (begin < len)
        filter(kind->rules, body + begin, body + len, kept, compared);
    return 0;
}

/* ---- from an image */
static int bad(struct err *e, const char *words, unsigned number)
{
    return err_set(e, E_BAD_IMAGE, "a network namespace of the job: %s (%u)", words, number);
}

static bool is_text(const struct attribute *a)
{
    return a->len && a->data[a->len - 1] == 0 && strlen((const char *)a->data) == a->len - 1;
}

/* Those without a memory of connections. */
static bool expression_is_kept(const struct attribute *name)
{
    static const char *const known[] = {"immediate", "cmp", "payload", "meta", "lookup", "bitwise", "byteorder", "counter", "limit", "log", "reject", "range", "numgen",
                                        "hash", "fib", "rt", "exthdr", "quota", "objref", "socket"};
    for (size_t k = 0; k < ARRAY_LENGTH(known); k++)
        if (name->len == strlen(known[k]) + 1 && memcmp(name->data, known[k], name->len) == 0)
            return true;
    return false;
}

const char *netattr_strange_expression(const struct net_message *m)
{
    struct attribute list, item, name;
    const uint8_t *end = m->body.data + m->body.len;
    if (m->type != OF_TABLES(NFT_MSG_NEWRULE) || m->body.len < sizeof(struct nfgenmsg) ||
        !attribute_find(m->body.data + sizeof(struct nfgenmsg), end, NFTA_RULE_EXPRESSIONS, &list))
        return NULL;
    for (const uint8_t *at = list.data; attribute_next(&at, list.data + list.len, &item);)
        if (!attribute_find(item.data, item.data + item.len, NFTA_EXPR_NAME, &name) || !expression_is_kept(&name))
            return name.len && is_text(&name) ? (const char *)name.data : "?";
    return NULL;
}

static int attributes_validate(const struct rules *rules, const uint8_t *at, const uint8_t *end, struct err *e)
{
    struct attribute a;
    while (attribute_next(&at, end, &a)) {
        const struct rule *rule = rule_find(rules, a.type);
        if (!rule || rule->fate == LEFT)
            return bad(e, "an attribute that none has", a.type);
        if (a.len < rule->least || a.len > rule->most)
            return bad(e, "an attribute of an impossible length", a.type);
        if (rules == &expression && a.type == NFTA_EXPR_NAME && !expression_is_kept(&a))
            return bad(e, "an expression of nftables that none has", a.type);
        bool text = (rules == &links && (a.type == IFLA_IFNAME || a.type == IFLA_IFALIAS)) || (rules == &info && rule->fate == KEPT);
        if (text && a.type != IFLA_IFALIAS && !is_text(&a))
            return bad(e, "a name without an end", a.type);
        if (rule->fate == BELOW && attributes_validate(rule->below, a.data, a.data + a.len, e) < 0)
            return -1;
    }
    return at == end ? 0 : bad(e, "half an attribute", (unsigned)(end - at));
}

int netattr_validate(const struct net_message *m, struct err *e)
{
    const struct kind *kind = kind_of(m->type);
    size_t begin = kind ? NLMSG_ALIGN(kind->header) : 0;
    if (!kind || m->body.len < begin || m->body.len > BYTES_MAX * 4)
        return bad(e, "a message of an unknown kind", (unsigned)m->type);
    return attributes_validate(kind->rules, m->body.data + begin, m->body.data + m->body.len, e);
}
