/* See tcp_kick.h. */
#include "tcp_kick.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/netlink.h"
#include "../kernel/tcpstate.h"
#include "raw_packet.h"

#define OPEN_TRIES 5000       /* of 2 ms: until the lock is lifted */
static const unsigned rounds_ms[] = {0, 3, 10, 30, 100, 300};

/* While it lasts, neighbours are asked for every few milliseconds instead of every second: the first question may meet a pod that is
 * still cut off. */
#define ASK_EVERY_MS 20ul
#define ASK_TIMES 50u
#define ASK_EVERY_MS_USUAL 1000ul
#define ASK_TIMES_USUAL 3u

struct probe {
    struct packet_end from, to;
    uint32_t seq, ack;
    uint16_t window;
};
struct kick {
    struct probe *probes;
    size_t probes_count;
    uint32_t ifindex;        /* of the pod's interface, 0 for none */
    int space;               /* the network namespace of the job that they are in; -1: the pod's */
};

/* ---- neighbours: by netlink, for /proc/sys is sealed by now */
static void asking_set(uint32_t ifindex, const char *table, uint64_t every_ms, uint32_t times)
{
    struct err ignored;
    struct ndtmsg h = {.ndtm_family = AF_UNSPEC};
    AUTO_BUF struct buf b = {0};
    int number;
    AUTO_CLOSE int fd = netlink_open(-1, NETLINK_ROUTE, &ignored);
    size_t at = netlink_begin(&b, RTM_SETNEIGHTBL, NLM_F_ACK, &h, sizeof h);
    netlink_put_str(&b, NDTA_NAME, table);
    size_t nest = netlink_nest(&b, NDTA_PARMS);
    netlink_put_u32(&b, NDTPA_IFINDEX, ifindex);
    netlink_put(&b, NDTPA_RETRANS_TIME, &every_ms, sizeof every_ms);
    netlink_put_u32(&b, NDTPA_MCAST_PROBES, times);
    netlink_nest_end(&b, nest);
    netlink_end(&b, at);
    if (fd >= 0 && netlink_send(fd, &b, &number, &ignored) < 0)
        return; /* no IPv6: nothing to hurry */
}

static void neighbours_set(const struct kick *k, uint64_t every_ms, uint32_t times)
{
    if (!k->ifindex)
        return;
    asking_set(k->ifindex, "arp_cache", every_ms, times);
    asking_set(k->ifindex, "ndisc_cache", every_ms, times);
}

/* ---- probes */

static int probe_send(const struct probe *p)
{
    struct {
        struct tcphdr head;
        uint8_t old_byte;
    } __attribute__((packed)) segment = {.head = {.source = p->from.port, .dest = p->to.port, .seq = htonl(p->seq), .ack_seq = htonl(p->ack),
                                                  .doff = sizeof(struct tcphdr) / 4, .ack = 1, .window = htons(p->window)}};
    segment.head.check = packet_checksum(&p->from, &p->to, IPPROTO_TCP, &segment, sizeof segment);
    return packet_send(&p->from, &p->to, IPPROTO_TCP, &segment, sizeof segment);
}

static bool is_open(const struct kick *k)
{
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        if (probe_send(&k->probes[0]) == 0)
            return true;
        if (errno != EPERM)
            return false;
        usleep(2000);
    }
    return false;
}

/* Its own table of descriptors, empty: the job's sockets must not live on here. */
static void *kick_run(void *argument)
{
    struct kick *k = argument;
    bool alone = unshare(CLONE_FILES) == 0 && (k->space < 0 || setns(k->space, CLONE_NEWNET) == 0) && syscall(SYS_close_range, 0, ~0u, 0) == 0;
    if (alone && is_open(k))
        for (size_t round = 0; round < ARRAY_LENGTH(rounds_ms); round++) {
            usleep(rounds_ms[round] * 1000);
            for (size_t i = 0; i < k->probes_count; i++)
                (void)probe_send(&k->probes[i]);
        }
    neighbours_set(k, ASK_EVERY_MS_USUAL, ASK_TIMES_USUAL);
    free(k->probes);
    free(k);
    return NULL;
}

/* Only who has something to send, or believes that the other side takes nothing. A connection whose other side has ended is left alone. */
static bool is_waiting(const struct tcp_socket *t)
{
    struct tcp_repair_window window = {0};
    if (t->window.len == sizeof window)
        memcpy(&window, t->window.data, sizeof window);
    bool connected = t->state == TCP_ESTABLISHED || t->state == TCP_FIN_WAIT1 || t->state == TCP_FIN_WAIT2;
    return connected && !t->outside && !(t->shutdown & TCP_SHUT_RECEIVE) && (t->send_queue.len || window.snd_wnd < t->mss);
}

static void probe_add(struct kick *k, const struct tcp_socket *t)
{
    struct tcp_repair_window window = {0};
    struct probe p = {.seq = (uint32_t)t->snd_seq - (uint32_t)t->send_queue.len - 1, .ack = (uint32_t)t->rcv_seq};
    if (!packet_end_parse(&t->local, &p.from) || !packet_end_parse(&t->remote, &p.to) || packet_end_is_v4(&p.from) != packet_end_is_v4(&p.to))
        return;
    memcpy(&window, t->window.data, t->window.len == sizeof window ? sizeof window : 0);
    uint32_t shown = window.rcv_wnd >> (t->rcv_wscale & 0xf);
    p.window = (uint16_t)(shown > 0xffff ? 0xffff : shown);
    *LIST_ADD(k, probes) = p;
}

static void kick_start(const struct restore *r, uint64_t net_space)
{
    struct kick *k = xcalloc(1, sizeof *k);
    pthread_t thread;
    for (size_t i = 0; i < r->image->tcp_sockets_count; i++)
        if (r->image->tcp_sockets[i].net_space == net_space && is_waiting(&r->image->tcp_sockets[i]))
            probe_add(k, &r->image->tcp_sockets[i]);
    k->ifindex = r->pod->net.present && !net_space ? if_nametoindex(r->pod->net.ifname) : 0;
    k->space = net_space ? r->other_fds[net_space - 1] : -1;
    if (k->probes_count)
        neighbours_set(k, ASK_EVERY_MS, ASK_TIMES);
    if (k->probes_count && pthread_create(&thread, NULL, kick_run, k) == 0) {
        pthread_detach(thread);
        return;
    }
    neighbours_set(k, ASK_EVERY_MS_USUAL, ASK_TIMES_USUAL);
    free(k->probes);
    free(k);
}

void tcp_kick_start(const struct restore *r)
{
    for (size_t k = 0; k <= r->image->other_spaces_count; k++)
        kick_start(r, k);
}
