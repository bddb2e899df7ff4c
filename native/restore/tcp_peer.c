/* See tcp_parts.h. */
#include <stdlib.h>
#include <string.h>

#include "../kernel/tcpstate.h"
#include "tcp_parts.h"

struct tcp_peer {
    uint8_t ends[2 * TCP_KEY_BYTES]; /* its own address, then the other's */
    size_t index;                    /* in the image */
};

static bool ends_of(const struct bytes *own, const struct bytes *other, uint8_t ends[2 * TCP_KEY_BYTES])
{
    return tcp_address_key(own, ends) && tcp_address_key(other, ends + TCP_KEY_BYTES);
}

static int by_ends(const void *a, const void *b)
{
    const struct tcp_peer *x = a, *y = b;
    int order = memcmp(x->ends, y->ends, sizeof x->ends);
    return order ? order : x->index < y->index ? -1 : 1;
}

void tcp_peers_make(struct restore *r)
{
    r->tcp_peers = xcalloc(r->image->tcp_sockets_count + 1, sizeof *r->tcp_peers);
    for (size_t i = 0; i < r->image->tcp_sockets_count; i++) {
        const struct tcp_socket *t = &r->image->tcp_sockets[i];
        struct tcp_peer *p = &r->tcp_peers[r->tcp_peers_count];
        p->index = i;
        r->tcp_peers_count += tcp_is_connection(t) && ends_of(&t->local, &t->remote, p->ends);
    }
    qsort(r->tcp_peers, r->tcp_peers_count, sizeof *r->tcp_peers, by_ends);
}

void tcp_peers_free(struct restore *r)
{
    free(r->tcp_peers);
    r->tcp_peers = NULL;
    r->tcp_peers_count = 0;
}

/* Between namespaces of the job, but not with the pod's; loopback addresses mean another place in each. */
static bool may_talk(const struct tcp_socket *a, const struct tcp_socket *b)
{
    return a->net_space == b->net_space || (a->net_space && b->net_space && !tcp_address_is_loopback(&a->local) && !tcp_address_is_loopback(&b->local));
}

/* Of those whose ends are these, the other way round, the first, and if there are some in its own network the first of them. */
static const struct tcp_socket *peer_find(const struct restore *r, const struct tcp_socket *t, const struct tcp_socket *but)
{
    const struct tcp_socket *found = NULL;
    uint8_t ends[2 * TCP_KEY_BYTES];
    if (!ends_of(&t->remote, &t->local, ends))
        return NULL;
    size_t k = FIRST_NOT(r->tcp_peers_count, n, memcmp(r->tcp_peers[n].ends, ends, sizeof ends) < 0);
    for (; k < r->tcp_peers_count && memcmp(r->tcp_peers[k].ends, ends, sizeof ends) == 0; k++) {
        const struct tcp_socket *p = &r->image->tcp_sockets[r->tcp_peers[k].index];
        if (p == but || !may_talk(t, p))
            continue;
        if (p->net_space == t->net_space)
            return p;
        found = found ? found : p;
    }
    return found;
}

bool tcp_peer_is_here(const struct restore *r, const struct tcp_socket *t)
{
    return peer_find(r, t, NULL) != NULL;
}

size_t tcp_peer_arrived(const struct restore *r, const struct tcp_socket *t)
{
    const struct tcp_socket *peer = peer_find(r, t, t);
    if (!peer)
        return 0;
    uint32_t first = (uint32_t)t->snd_seq - (uint32_t)t->send_queue.len, arrived = (uint32_t)peer->rcv_seq - first;
    return arrived <= t->send_queue.len ? arrived : 0;
}
