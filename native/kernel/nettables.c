/* See nettables.h. Elements are kept one by one: a set tells them in an order of its own. */
#include "nettables.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netdump.h"
#include "netlink.h"

#define OF_TABLES(message) ((uint16_t)((NFNL_SUBSYS_NFTABLES << 8) | (message)))
#define BATCH_BYTES (16u << 20)

/* ---- reading */
static int item_add(struct net_conf *c, uint16_t type, const uint8_t *body, size_t len, struct err *e)
{
    AUTO_BUF struct buf kept = {0}, compared = {0};
    if (netattr_filter(type, body, len, &kept, &compared, e) < 0)
        return -1;
    struct net_item *item = list_add((void **)&c->items, &c->count, sizeof *item);
    *item = (struct net_item){.message = {.protocol = NETLINK_NETFILTER, .type = type}};
    bytes_set(&item->message.body, kept.data, kept.len);
    buf_add(&item->compared, compared.data, compared.len);
    return 0;
}

static int whole_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    return (m->nlmsg_type >> 8) == NFNL_SUBSYS_NFTABLES ? item_add(ctx, m->nlmsg_type, NLMSG_DATA(m), m->nlmsg_len - NLMSG_HDRLEN, e) : 0;
}

/* One message for each. */
static int elements_take(void *ctx, const struct nlmsghdr *m, struct err *e)
{
    struct attribute table, set, list, element;
    const uint8_t *body = NLMSG_DATA(m), *at = body + sizeof(struct nfgenmsg), *end = (const uint8_t *)m + m->nlmsg_len;
    if (m->nlmsg_type != OF_TABLES(NFT_MSG_NEWSETELEM) || m->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg)) ||
        !attribute_find(at, end, NFTA_SET_ELEM_LIST_TABLE, &table) || !attribute_find(at, end, NFTA_SET_ELEM_LIST_SET, &set) ||
        !attribute_find(at, end, NFTA_SET_ELEM_LIST_ELEMENTS, &list))
        return 0;
    for (const uint8_t *in = list.data; attribute_next(&in, list.data + list.len, &element);) {
        AUTO_BUF struct buf one = {0};
        netlink_pad(&one, body, sizeof(struct nfgenmsg));
        netlink_put(&one, NFTA_SET_ELEM_LIST_TABLE, table.data, table.len);
        netlink_put(&one, NFTA_SET_ELEM_LIST_SET, set.data, set.len);
        size_t nest = netlink_nest(&one, NFTA_SET_ELEM_LIST_ELEMENTS), below = netlink_nest(&one, NFTA_LIST_ELEM);
        buf_add(&one, element.data, element.len);
        netlink_pad(&one, "", 0);
        netlink_nest_end(&one, below);
        netlink_nest_end(&one, nest);
        if (item_add(ctx, m->nlmsg_type, one.data, one.len, e) < 0)
            return -1;
    }
    return 0;
}

static int dump_take(struct net_conf *c, uint16_t message, const void *header, size_t len, netdump_fn take, struct err *e)
{
    int number;
    if (netdump(NETLINK_NETFILTER, OF_TABLES(message), header, len, take, c, &number, e) < 0 && number != EOPNOTSUPP && number != EINVAL)
        return err_wrap(e, "nftables rules");
    return 0;
}

static int elements_of(struct net_conf *c, size_t set, struct err *e)
{
    AUTO_BUF struct buf ask = {0};
    struct attribute table, name;
    const struct bytes *body = &c->items[set].message.body;
    const uint8_t *at = body->data + sizeof(struct nfgenmsg), *end = body->data + body->len;
    if (!attribute_find(at, end, NFTA_SET_TABLE, &table) || !attribute_find(at, end, NFTA_SET_NAME, &name))
        return 0;
    netlink_pad(&ask, body->data, sizeof(struct nfgenmsg));
    netlink_put(&ask, NFTA_SET_ELEM_LIST_TABLE, table.data, table.len);
    netlink_put(&ask, NFTA_SET_ELEM_LIST_SET, name.data, name.len);
    return dump_take(c, NFT_MSG_GETSETELEM, ask.data, ask.len, elements_take, e);
}

static int is_kept(const struct net_message *m, struct err *e)
{
    struct attribute flags;
    const uint8_t *at = m->body.data + sizeof(struct nfgenmsg), *end = m->body.data + m->body.len;
    const char *strange = netattr_strange_expression(m);
    if (strange)
        return err_set(e, E_UNSUPPORTED, "nftables rules with the expression %.32s", strange);
    if (m->type == OF_TABLES(NFT_MSG_NEWTABLE) && attribute_find(at, end, NFTA_TABLE_FLAGS, &flags) && ntohl(attribute_u32(&flags)) & NFT_TABLE_F_OWNER)
        return err_set(e, E_UNSUPPORTED, "a table of nftables that belongs to a socket");
    return 0;
}

int nettables_read(struct net_conf *c, struct err *e)
{
    static const uint16_t first[] = {NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETOBJ, NFT_MSG_GETSET};
    struct nfgenmsg all = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0};
    size_t begin = c->count;
    for (size_t k = 0; k < ARRAY_LENGTH(first); k++)
        if (dump_take(c, first[k], &all, sizeof all, whole_take, e) < 0)
            return -1;
    for (size_t k = begin, sets_end = c->count; k < sets_end; k++)
        if (c->items[k].message.type == OF_TABLES(NFT_MSG_NEWSET) && elements_of(c, k, e) < 0)
            return -1;
    if (dump_take(c, NFT_MSG_GETRULE, &all, sizeof all, whole_take, e) < 0)
        return -1;
    for (size_t k = begin; k < c->count; k++)
        if (is_kept(&c->items[k].message, e) < 0)
            return -1;
    return 0;
}

/* ---- loading */
static void mark_put(struct buf *b, uint16_t type)
{
    struct nfgenmsg h = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
    netlink_end(b, netlink_begin(b, type, 0, &h, sizeof h));
}

static void message_put(struct buf *b, const struct net_message *m, uint32_t number)
{
    uint16_t flags = m->type == OF_TABLES(NFT_MSG_NEWRULE) ? NLM_F_CREATE | NLM_F_APPEND : NLM_F_CREATE;
    size_t at = netlink_begin(b, (uint16_t)m->type, flags, m->body.data, sizeof(struct nfgenmsg));
    buf_add(b, m->body.data + sizeof(struct nfgenmsg), m->body.len - sizeof(struct nfgenmsg));
    if (m->type == OF_TABLES(NFT_MSG_NEWSET))
        netlink_put_u32(b, NFTA_SET_ID, htonl(number));
    netlink_end(b, at);
}

static int room_make(int fd, size_t bytes, struct err *e)
{
    int room = (int)bytes;
    if (bytes > BATCH_BYTES)
        return err_set(e, E_UNSUPPORTED, "too many rules of nftables");
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0)
        return err_errno(e, "room for rules of nftables");
    return 0;
}

int nettables_apply(const struct net_message *messages, size_t count, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int number;
    uint32_t put = 0;
    mark_put(&b, NFNL_MSG_BATCH_BEGIN);
    for (size_t k = 0; k < count; k++)
        if (messages[k].protocol == NETLINK_NETFILTER)
            message_put(&b, &messages[k], ++put);
    mark_put(&b, NFNL_MSG_BATCH_END);
    if (!put)
        return 0;
    AUTO_CLOSE int fd = netlink_open(-1, NETLINK_NETFILTER, e);
    if (fd < 0 || room_make(fd, b.len + 4096, e) < 0 || netlink_send(fd, &b, &number, e) < 0)
        return err_wrap(e, "nftables rules");
    return 0;
}
