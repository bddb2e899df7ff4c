/* Probes of the network; see doctor.h. Each in a new network namespace. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../pod/pod.h"
#include "doctor.h"
#include "netdev.h"
#include "netlink.h"

static int space_new(struct err *e)
{
    return unshare(CLONE_NEWNET) < 0 ? err_errno(e, "new network namespace") : 0;
}

static int link_make(const char *kind, const char *name, struct err *e)
{
    int number;
    AUTO_CLOSE int rtnl = netlink_open(-1, NETLINK_ROUTE, e);
    if (rtnl < 0)
        return -1;
    AUTO_BUF struct buf b = {0};
    struct ifinfomsg link = {0};
    size_t at = netlink_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_ACK, &link, sizeof link);
    netlink_put_str(&b, IFLA_IFNAME, name);
    size_t info = netlink_nest(&b, IFLA_LINKINFO);
    netlink_put_str(&b, IFLA_INFO_KIND, kind);
    if (strcmp(kind, "vxlan") == 0) {
        size_t data = netlink_nest(&b, IFLA_INFO_DATA);
        netlink_put_u32(&b, IFLA_VXLAN_ID, 5);
        netlink_nest_end(&b, data);
    }
    netlink_nest_end(&b, info);
    netlink_end(&b, at);
    return netlink_send(rtnl, &b, &number, e) < 0 ? err_wrap(e, "make a %s device", kind) : 0;
}

static int probe_veth(struct err *e)
{
    return space_new(e) < 0 || link_make("bridge", "br0", e) < 0 ? -1 : link_make("veth", "v0", e);
}

static int probe_vxlan(struct err *e)
{
    return space_new(e) < 0 ? -1 : link_make("vxlan", "vx0", e);
}

/* The lock itself, on a pod that is this very process: hub and inside are one namespace. */
static int probe_lock(struct err *e)
{
    struct pod self = {.dirfd = -1, .init_pid = getpid(), .net = {.present = true}, .host_ifname = "v0"};
    snprintf(self.net.hub, sizeof self.net.hub, "/proc/self/ns/net");
    if (space_new(e) < 0 || link_make("veth", "v0", e) < 0 || netlock_set(&self, e) < 0)
        return -1;
    return netlock_clear(&self, e);
}

static int probe_repair(struct err *e)
{
    int on = 1;
    if (space_new(e) < 0)
        return -1;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0 ? err_errno(e, "TCP_REPAIR") : 0;
}

const struct doctor_probe doctor_net_probes[] = {
    {"veth", "virtual network devices and bridges", "jobs of several pods cannot run", DOCTOR_NEEDED, probe_veth},
    {"vxlan", "tunnels between nodes", "the pods of a job must be on one node", DOCTOR_WANTED, probe_vxlan},
    {"netlock", "cutting a pod's network as one thing (nftables: inet, and netdev with egress)", "no snapshots of pods with connections", DOCTOR_NEEDED, probe_lock},
    {"tcp_repair", "taking connections out and putting them back", "no snapshots of pods with TCP connections", DOCTOR_NEEDED, probe_repair},
};
const size_t doctor_net_probe_count = ARRAY_LENGTH(doctor_net_probes);
