/* The network lock (pod/pod.h): the pod's network is cut as one thing while its sockets are looked at or made anew.
 * At the hub: a `netdev` table with an ingress and an egress chain on the pod's port, policy drop: nothing from or to the pod
 * passes, be it for another pod, the bridge itself or the world. Inside: an `inet` table with input and output, policy drop:
 * loopback too. One transaction each; the link stays up, and no table of the job's own is touched. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netlink.h"
#include "netlock_hub.h"

#define LOCK_PRIORITY_INSIDE (-450) /* before conntrack and every table of the job's own */

struct hook {
    const char *chain;
    uint32_t hook;
};

static size_t nft_begin(struct buf *b, uint8_t family, uint16_t type, uint16_t flags)
{
    struct nfgenmsg h = {.nfgen_family = family, .version = NFNETLINK_V0};
    return netlink_begin(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &h, sizeof h);
}

static void batch_mark(struct buf *b, uint16_t type)
{
    struct nfgenmsg h = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
    netlink_end(b, netlink_begin(b, type, 0, &h, sizeof h));
}

static void table_message(struct buf *b, uint8_t family, const char *table, uint16_t type, uint16_t flags)
{
    size_t at = nft_begin(b, family, type, (uint16_t)(flags | NLM_F_ACK));
    netlink_put_str(b, NFTA_TABLE_NAME, table);
    netlink_end(b, at);
}

static void chain_message(struct buf *b, uint8_t family, const char *table, const struct hook *hook, int priority, const char *device)
{
    size_t at = nft_begin(b, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK);
    netlink_put_str(b, NFTA_CHAIN_TABLE, table);
    netlink_put_str(b, NFTA_CHAIN_NAME, hook->chain);
    size_t nest = netlink_nest(b, NFTA_CHAIN_HOOK);
    netlink_put_u32(b, NFTA_HOOK_HOOKNUM, htonl(hook->hook));
    netlink_put_u32(b, NFTA_HOOK_PRIORITY, htonl((uint32_t)priority));
    if (device)
        netlink_put_str(b, NFTA_HOOK_DEV, device);
    netlink_nest_end(b, nest);
    netlink_put_u32(b, NFTA_CHAIN_POLICY, htonl(NF_DROP));
    netlink_put_str(b, NFTA_CHAIN_TYPE, "filter");
    netlink_end(b, at);
}

/* One table with its drops, in one transaction; what is there already stays. */
static int drops_set(int nsfd, uint8_t family, const char *table, const struct hook hooks[2], int priority, const char *device, struct err *e)
{
    int number;
    AUTO_CLOSE int fd = netlink_open(nsfd, NETLINK_NETFILTER, e);
    if (fd < 0)
        return -1;
    AUTO_BUF struct buf b = {0};
    batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
    table_message(&b, family, table, NFT_MSG_NEWTABLE, NLM_F_CREATE);
    for (int k = 0; k < 2; k++)
        chain_message(&b, family, table, &hooks[k], priority, device);
    batch_mark(&b, NFNL_MSG_BATCH_END);
    return netlink_send(fd, &b, &number, e);
}

/* Closing the socket that removed a table waits until no processor can still be in it (10 ms): that is done when nobody waits for it. */
static int late_fds[2] = {-1, -1};

void netlock_rest(void)
{
    for (size_t k = 0; k < ARRAY_LENGTH(late_fds); k++) {
        if (late_fds[k] >= 0)
            close(late_fds[k]);
        late_fds[k] = -1;
    }
}

static void *fds_close(void *argument)
{
    int *fds = argument;
    for (size_t k = 0; k < ARRAY_LENGTH(late_fds); k++)
        if (fds[k] >= 0)
            close(fds[k]);
    free(fds);
    return NULL;
}

void netlock_rest_aside(void)
{
    pthread_t thread;
    sigset_t all, before;
    int *fds = xcalloc(1, sizeof late_fds);
    memcpy(fds, late_fds, sizeof late_fds);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, fds_close, fds) != 0) {
        free(fds);
        netlock_rest();
    } else {
        pthread_detach(thread);
        memset(late_fds, -1, sizeof late_fds);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void close_late(int fd)
{
    if (late_fds[0] >= 0 && late_fds[1] >= 0)
        netlock_rest();
    late_fds[late_fds[0] >= 0] = fd;
}

static int drops_clear(int nsfd, uint8_t family, const char *table, struct err *e)
{
    int number, fd = netlink_open(nsfd, NETLINK_NETFILTER, e);
    if (fd < 0)
        return -1;
    close_late(fd);
    AUTO_BUF struct buf b = {0};
    batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
    table_message(&b, family, table, NFT_MSG_DELTABLE, 0);
    batch_mark(&b, NFNL_MSG_BATCH_END);
    struct err why = {0};
    if (netlink_send(fd, &b, &number, &why) == 0 || number == ENOENT)
        return 0;
    *e = why;
    return -1;
}

static int pod_namespace(const struct pod *pod, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pod->init_pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open the pod's network namespace") : fd;
}

static void table_name(const struct pod *pod, char out[64])
{
    snprintf(out, 64, "clusteros-lock-%s", pod->host_ifname);
}

static int hub_set(const struct pod *pod, struct err *e)
{
    static const struct hook hooks[2] = {{"from-pod", NF_NETDEV_INGRESS}, {"to-pod", NF_NETDEV_EGRESS}};
    char table[64];
    table_name(pod, table);
    AUTO_CLOSE int hub = open(pod->net.hub, O_RDONLY | O_CLOEXEC);
    if (hub < 0)
        return err_errno(e, "open the hub %s", pod->net.hub);
    return drops_set(hub, NFPROTO_NETDEV, table, hooks, 0, pod->host_ifname, e);
}

static int hub_clear(const struct pod *pod, struct err *e)
{
    char table[64];
    table_name(pod, table);
    AUTO_CLOSE int hub = open(pod->net.hub, O_RDONLY | O_CLOEXEC);
    if (hub < 0 && errno == ENOENT)
        return 0;
    if (hub < 0)
        return err_errno(e, "open the hub %s", pod->net.hub);
    return drops_clear(hub, NFPROTO_NETDEV, table, e);
}

int netlock_at_hub(const struct pod *pod, bool cut, struct err *e)
{
    return cut ? hub_set(pod, e) : hub_clear(pod, e);
}

int netlock_inside(int nsfd, bool cut, struct err *e)
{
    static const struct hook hooks[2] = {{"in", NF_INET_LOCAL_IN}, {"out", NF_INET_LOCAL_OUT}};
    return cut ? drops_set(nsfd, NFPROTO_INET, NETLOCK_TABLE, hooks, LOCK_PRIORITY_INSIDE, NULL, e) : drops_clear(nsfd, NFPROTO_INET, NETLOCK_TABLE, e);
}

int netlock_set(const struct pod *pod, struct err *e)
{
    if (pod->net.present && netlock_ask_hub(pod, true, e) < 0)
        return err_wrap(e, "cut the pod's network at the hub");
    AUTO_CLOSE int inside = pod_namespace(pod, e);
    if (inside < 0 || netlock_inside(inside, true, e) < 0)
        return err_wrap(e, "cut the pod's network inside");
    return 0;
}

int netlock_forget(const struct pod *pod, struct err *e)
{
    return pod->net.present ? netlock_ask_hub(pod, false, e) : 0;
}

int netlock_clear(const struct pod *pod, struct err *e)
{
    struct err first = {0};
    AUTO_CLOSE int inside = pod_namespace(pod, &first);
    bool failed = inside < 0 || netlock_inside(inside, false, &first) < 0;
    if (failed)
        *e = first;
    if (netlock_forget(pod, e) < 0)
        failed = true; /* tried in any case: a half-cut pod must not stay because its other half is gone */
    return failed ? err_wrap(e, "give the pod its network back") : 0;
}
