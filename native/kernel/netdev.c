/* See netdev.h. Everything by rtnetlink; the pod's end always has interface index NETDEV_POD_INDEX, so that an index that a
 * library remembers stays true after a restore. */
#include "netdev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"

#define NETDEV_POD_INDEX 2
#define NETDEV_LO_INDEX 1

struct address {
    int family;
    uint8_t bytes[16], prefix;
};

/* ---- the spec */

static int name_check(const char *what, const char *name, struct err *e)
{
    size_t len = strlen(name);
    bool bad = len == 0 || len > 15 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    for (const char *c = name; *c && !bad; c++)
        bad = *c <= ' ' || *c == ':' || *c == 0x7f;
    return bad ? err_set(e, E_USAGE, "--net: '%s' is no name of a network device (%s)", name, what) : 0;
}

static int address_parse(const char *text, bool with_prefix, struct address *out, struct err *e)
{
    char copy[64];
    snprintf(copy, sizeof copy, "%s", text);
    char *slash = strchr(copy, '/');
    if (slash)
        *slash++ = 0;
    out->family = strchr(copy, ':') ? AF_INET6 : AF_INET;
    unsigned long most = out->family == AF_INET ? 32 : 128, prefix = most;
    char *end = slash;
    if (slash && *slash)
        prefix = strtoul(slash, &end, 10);
    if (with_prefix != (slash != NULL) || (slash && (*end || end == slash || prefix > most)) || inet_pton(out->family, copy, out->bytes) != 1)
        return err_set(e, E_USAGE, "--net: '%s' is no address%s", text, with_prefix ? " with a prefix length (10.77.0.1/16)" : "");
    out->prefix = (uint8_t)prefix;
    return 0;
}

static int mac_parse(const char *text, uint8_t mac[6], struct err *e)
{
    int used = 0;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &used) != 6 ||
        text[used] || used != 17 || (mac[0] & 1))
        return err_set(e, E_USAGE, "--net: '%s' is no MAC of a device", text);
    return 0;
}

static int mtu_parse(const char *text, uint32_t *mtu, struct err *e)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end || end == text || n < 68 || n > 65535)
        return err_set(e, E_USAGE, "--net: the mtu must lie between 68 and 65535, not '%s'", text);
    *mtu = (uint32_t)n;
    return 0;
}

static int text_put(char *out, size_t size, const char *key, const char *value, struct err *e)
{
    if (strlen(value) >= size)
        return err_set(e, E_USAGE, "--net: %s is too long", key);
    memcpy(out, value, strlen(value) + 1);
    return 0;
}

static int field_take(struct pod_net *net, const char *key, const char *value, struct err *e)
{
    if (strcmp(key, "hub") == 0)
        return text_put(net->hub, sizeof net->hub, key, value, e);
    if (strcmp(key, "bridge") == 0)
        return text_put(net->bridge, sizeof net->bridge, key, value, e);
    if (strcmp(key, "ifname") == 0)
        return text_put(net->ifname, sizeof net->ifname, key, value, e);
    if (strcmp(key, "ip") == 0)
        return text_put(net->ip, sizeof net->ip, key, value, e);
    if (strcmp(key, "gw") == 0)
        return text_put(net->gateway, sizeof net->gateway, key, value, e);
    if (strcmp(key, "mac") == 0)
        return text_put(net->mac, sizeof net->mac, key, value, e);
    if (strcmp(key, "mtu") == 0)
        return mtu_parse(value, &net->mtu, e);
    return err_set(e, E_USAGE, "--net: unknown field '%s' (hub bridge ip gw mac ifname mtu)", key);
}

/* A pod without a MAC of its own gets one made of its address: the same wherever it runs. */
static void mac_default(struct pod_net *net, const struct address *ip)
{
    const uint8_t *b = ip->bytes + (ip->family == AF_INET ? 0 : 12);
    snprintf(net->mac, sizeof net->mac, "02:c1:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]);
}

static int net_check(struct pod_net *net, struct err *e)
{
    struct address ip, gateway;
    uint8_t mac[6];
    if (net->hub[0] != '/')
        return err_set(e, E_USAGE, "--net: hub must be the absolute path of a network namespace");
    if (name_check("bridge", net->bridge, e) < 0 || name_check("ifname", net->ifname, e) < 0 || address_parse(net->ip, true, &ip, e) < 0)
        return -1;
    if (net->gateway[0] && address_parse(net->gateway, false, &gateway, e) < 0)
        return -1;
    if (!net->mac[0])
        mac_default(net, &ip);
    return mac_parse(net->mac, mac, e);
}

int netdev_parse(const char *spec, struct pod_net *out, struct err *e)
{
    *out = (struct pod_net){.bridge = "br0", .ifname = "eth0", .mtu = 1500};
    if (!spec || !*spec)
        return 0;
    AUTO_FREE char *copy = xstrdup(spec);
    char *save = NULL;
    for (char *field = strtok_r(copy, ",", &save); field; field = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(field, '=');
        if (!equals)
            return err_set(e, E_USAGE, "--net: '%s' is not KEY=VALUE", field);
        *equals = 0;
        if (field_take(out, field, equals + 1, e) < 0)
            return -1;
    }
    out->present = true;
    return net_check(out, e);
}

/* ---- rtnetlink */

static int hub_open(const struct pod_net *net, struct err *e)
{
    int fd = open(net->hub, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open the hub %s", net->hub) : fd;
}

static int index_of(int rtnl, const char *name, struct err *e)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (ioctl(rtnl, SIOCGIFINDEX, &request) < 0)
        return err_errno(e, "there is no network device %s", name);
    return request.ifr_ifindex;
}

static void veth_message(struct buf *b, const struct pod_net *net, int pod_nsfd, const char *host_ifname, int bridge, const uint8_t mac[6])
{
    struct ifinfomsg link = {0}, peer = {.ifi_index = NETDEV_POD_INDEX};
    size_t at = netlink_begin(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &link, sizeof link);
    netlink_put_str(b, IFLA_IFNAME, host_ifname);
    netlink_put_u32(b, IFLA_MTU, net->mtu);
    netlink_put_u32(b, IFLA_MASTER, (uint32_t)bridge);
    size_t info = netlink_nest(b, IFLA_LINKINFO);
    netlink_put_str(b, IFLA_INFO_KIND, "veth");
    size_t data = netlink_nest(b, IFLA_INFO_DATA), other = netlink_nest(b, VETH_INFO_PEER);
    buf_add(b, &peer, sizeof peer);
    netlink_put_str(b, IFLA_IFNAME, net->ifname);
    netlink_put_u32(b, IFLA_NET_NS_FD, (uint32_t)pod_nsfd);
    netlink_put_u32(b, IFLA_MTU, net->mtu);
    netlink_put(b, IFLA_ADDRESS, mac, 6);
    netlink_nest_end(b, other);
    netlink_nest_end(b, data);
    netlink_nest_end(b, info);
    netlink_end(b, at);
}

int netdev_create(const struct pod_net *net, int pod_nsfd, const char *host_ifname, struct err *e)
{
    uint8_t mac[6];
    AUTO_CLOSE int hub = hub_open(net, e);
    AUTO_CLOSE int rtnl = hub < 0 ? -1 : netlink_open(hub, NETLINK_ROUTE, e);
    int bridge = rtnl < 0 ? -1 : index_of(rtnl, net->bridge, e);
    if (bridge < 0 || mac_parse(net->mac, mac, e) < 0)
        return -1;
    AUTO_BUF struct buf b = {0};
    veth_message(&b, net, pod_nsfd, host_ifname, bridge, mac);
    int number;
    if (netlink_send(rtnl, &b, &number, e) < 0)
        return err_wrap(e, "make the network device %s", host_ifname);
    return 0;
}

static void up_message(struct buf *b, int index)
{
    struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    netlink_end(b, netlink_begin(b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof link));
}

static void address_message(struct buf *b, int index, const struct address *a)
{
    struct ifaddrmsg m = {.ifa_family = (uint8_t)a->family, .ifa_prefixlen = a->prefix, .ifa_index = (uint32_t)index, .ifa_flags = IFA_F_NODAD};
    size_t len = a->family == AF_INET ? 4 : 16, at = netlink_begin(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, &m, sizeof m);
    netlink_put(b, IFA_LOCAL, a->bytes, len);
    netlink_put(b, IFA_ADDRESS, a->bytes, len);
    if (a->family == AF_INET && a->prefix < 31) {
        uint32_t broadcast;
        memcpy(&broadcast, a->bytes, 4);
        broadcast |= htonl(a->prefix ? UINT32_MAX >> a->prefix : UINT32_MAX);
        netlink_put(b, IFA_BROADCAST, &broadcast, 4);
    }
    netlink_end(b, at);
}

static void route_message(struct buf *b, int index, const struct address *gateway)
{
    struct rtmsg m = {.rtm_family = (uint8_t)gateway->family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    size_t at = netlink_begin(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, &m, sizeof m);
    netlink_put(b, RTA_GATEWAY, gateway->bytes, gateway->family == AF_INET ? 4 : 16);
    netlink_put_u32(b, RTA_OIF, (uint32_t)index);
    netlink_end(b, at);
}

static int hub_port_up(const struct pod_net *net, const char *host_ifname, struct err *e)
{
    int number;
    AUTO_CLOSE int hub = hub_open(net, e);
    AUTO_CLOSE int rtnl = hub < 0 ? -1 : netlink_open(hub, NETLINK_ROUTE, e);
    int index = rtnl < 0 ? -1 : index_of(rtnl, host_ifname, e);
    if (index < 0)
        return -1;
    AUTO_BUF struct buf b = {0};
    up_message(&b, index);
    return netlink_send(rtnl, &b, &number, e);
}

int netdev_configure(const struct pod_net *net, int pod_nsfd, const char *host_ifname, struct err *e)
{
    struct address ip, gateway;
    int number;
    AUTO_BUF struct buf b = {0};
    AUTO_CLOSE int rtnl = netlink_open(pod_nsfd, NETLINK_ROUTE, e);
    if (rtnl < 0)
        return -1;
    up_message(&b, NETDEV_LO_INDEX);
    if (net->present) {
        if (address_parse(net->ip, true, &ip, e) < 0 || hub_port_up(net, host_ifname, e) < 0)
            return -1;
        address_message(&b, NETDEV_POD_INDEX, &ip);
        up_message(&b, NETDEV_POD_INDEX);
    }
    if (net->present && net->gateway[0]) {
        if (address_parse(net->gateway, false, &gateway, e) < 0)
            return -1;
        route_message(&b, NETDEV_POD_INDEX, &gateway);
    }
    if (netlink_send(rtnl, &b, &number, e) < 0)
        return err_wrap(e, "set up the pod's network");
    return 0;
}

int netdev_remove(const struct pod_net *net, const char *host_ifname, struct err *e)
{
    int number;
    if (!net->present || !host_ifname[0])
        return 0;
    AUTO_CLOSE int hub = open(net->hub, O_RDONLY | O_CLOEXEC);
    if (hub < 0 && errno == ENOENT)
        return 0; /* the hub went, and the port with it */
    if (hub < 0)
        return err_errno(e, "open the hub %s", net->hub);
    AUTO_CLOSE int rtnl = netlink_open(hub, NETLINK_ROUTE, e);
    if (rtnl < 0)
        return -1;
    struct ifinfomsg link = {0};
    AUTO_BUF struct buf b = {0};
    size_t at = netlink_begin(&b, RTM_DELLINK, NLM_F_ACK, &link, sizeof link);
    netlink_put_str(&b, IFLA_IFNAME, host_ifname);
    netlink_end(&b, at);
    if (netlink_send(rtnl, &b, &number, e) < 0 && number != ENODEV)
        return err_wrap(e, "remove the network device %s", host_ifname);
    return 0;
}
