/* Rules of nftables in a network namespace that an ordinary user makes in a user namespace: a table, a chain, a set with elements, counters. What the kernel tells
 * of them is the same before and after (but for handles, which are given anew), they drop what they dropped and count on. A datagram that came before the rule that
 * would have dropped it still waits.
 * COVERAGE: nftables in a network namespace that the job made: tables, chains, sets, maps, elements, rules, counters, quotas | captured | rules of connection tracking and flow tables: refused by name
 * COVERAGE: handles and limits of nftables rules | differs | handles are given anew; a limit begins with its full burst */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "spaces_net.h"

enum { ROOM = 16384, DROPPED = 7777, PASSED = 7778, IN_SET = 8001 };

static char batch[ROOM];
static size_t batch_len;
static int tables_fd;

/* ---- messages */
static void bytes(const void *data, size_t len)
{
    MUST(batch_len + len + 4 < ROOM);
    memset(batch + batch_len, 0, (len + 3) & ~3ul);
    memcpy(batch + batch_len, data, len);
    batch_len += (len + 3) & ~3ul;
}

static size_t begin(int type, int family, int flags)
{
    size_t at = batch_len;
    struct nlmsghdr head = {.nlmsg_type = (unsigned short)type, .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags)};
    struct nfgenmsg of = {.nfgen_family = (unsigned char)family, .res_id = type < 256 ? htons(NFNL_SUBSYS_NFTABLES) : 0};
    bytes(&head, sizeof head);
    bytes(&of, sizeof of);
    return at;
}

static size_t of_tables(int message, int flags)
{
    return begin(NFNL_SUBSYS_NFTABLES << 8 | message, NFPROTO_INET, flags);
}

static void end(size_t at)
{
    unsigned len = (unsigned)(batch_len - at);
    memcpy(batch + at, &len, sizeof len);
}

static void attribute(int type, const void *data, size_t len)
{
    struct nlattr a = {(unsigned short)(sizeof a + len), (unsigned short)type};
    bytes(&a, sizeof a);
    bytes(data, len);
}

static void text(int type, const char *value)
{
    attribute(type, value, strlen(value) + 1);
}

static void number(int type, unsigned value)
{
    value = htonl(value);
    attribute(type, &value, sizeof value);
}

static size_t nest(int type)
{
    size_t at = batch_len;
    attribute(type | NLA_F_NESTED, "", 0);
    return at;
}

static void nest_end(size_t at)
{
    unsigned short len = (unsigned short)(batch_len - at);
    memcpy(batch + at, &len, sizeof len);
}

static size_t expression(const char *name, size_t *data)
{
    size_t item = nest(NFTA_LIST_ELEM);
    text(NFTA_EXPR_NAME, name);
    *data = nest(NFTA_EXPR_DATA);
    return item;
}

static void expression_end(size_t item, size_t data)
{
    nest_end(data);
    nest_end(item);
}

static void value(int type, const void *data, size_t len)
{
    size_t at = nest(type);
    attribute(NFTA_DATA_VALUE, data, len);
    nest_end(at);
}

static void compare(const void *wanted, size_t len)
{
    size_t data, item = expression("cmp", &data);
    number(NFTA_CMP_SREG, NFT_REG_1);
    number(NFTA_CMP_OP, NFT_CMP_EQ);
    value(NFTA_CMP_DATA, wanted, len);
    expression_end(item, data);
}

static void port_of_udp(void)
{
    const unsigned char udp = IPPROTO_UDP;
    size_t data, item = expression("meta", &data);
    number(NFTA_META_DREG, NFT_REG_1);
    number(NFTA_META_KEY, NFT_META_L4PROTO);
    expression_end(item, data);
    compare(&udp, 1);
    item = expression("payload", &data);
    number(NFTA_PAYLOAD_DREG, NFT_REG_1);
    number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
    number(NFTA_PAYLOAD_OFFSET, 2);
    number(NFTA_PAYLOAD_LEN, 2);
    expression_end(item, data);
}

static void count_and_drop(void)
{
    size_t data, item = expression("counter", &data);
    expression_end(item, data);
    item = expression("immediate", &data);
    number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t verdict = nest(NFTA_IMMEDIATE_DATA), code = nest(NFTA_DATA_VERDICT);
    number(NFTA_VERDICT_CODE, NF_DROP);
    nest_end(code);
    nest_end(verdict);
    expression_end(item, data);
}

static void rule(int by_set)
{
    unsigned short port = htons(DROPPED);
    size_t at = of_tables(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND), data;
    text(NFTA_RULE_TABLE, "guard");
    text(NFTA_RULE_CHAIN, "in");
    size_t list = nest(NFTA_RULE_EXPRESSIONS);
    port_of_udp();
    if (by_set) {
        size_t item = expression("lookup", &data);
        text(NFTA_LOOKUP_SET, "ports");
        number(NFTA_LOOKUP_SREG, NFT_REG_1);
        expression_end(item, data);
    } else {
        compare(&port, sizeof port);
    }
    count_and_drop();
    nest_end(list);
    attribute(NFTA_RULE_USERDATA, "\0\6said\0", 7);
    end(at);
}

static void set(void)
{
    size_t at = of_tables(NFT_MSG_NEWSET, NLM_F_CREATE);
    text(NFTA_SET_TABLE, "guard");
    text(NFTA_SET_NAME, "ports");
    number(NFTA_SET_KEY_TYPE, 13);
    number(NFTA_SET_KEY_LEN, 2);
    number(NFTA_SET_ID, 1);
    end(at);
    at = of_tables(NFT_MSG_NEWSETELEM, NLM_F_CREATE);
    text(NFTA_SET_ELEM_LIST_TABLE, "guard");
    text(NFTA_SET_ELEM_LIST_SET, "ports");
    size_t list = nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (unsigned short k = 0; k < 50; k++) {
        unsigned short port = htons((unsigned short)(IN_SET + k));
        size_t item = nest(NFTA_LIST_ELEM);
        value(NFTA_SET_ELEM_KEY, &port, sizeof port);
        nest_end(item);
    }
    nest_end(list);
    end(at);
}

static void load(void)
{
    end(begin(NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, 0));
    size_t at = of_tables(NFT_MSG_NEWTABLE, NLM_F_CREATE);
    text(NFTA_TABLE_NAME, "guard");
    end(at);
    at = of_tables(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    text(NFTA_CHAIN_TABLE, "guard");
    text(NFTA_CHAIN_NAME, "in");
    size_t hook = nest(NFTA_CHAIN_HOOK);
    number(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
    number(NFTA_HOOK_PRIORITY, 0);
    nest_end(hook);
    number(NFTA_CHAIN_POLICY, NF_ACCEPT);
    text(NFTA_CHAIN_TYPE, "filter");
    end(at);
    set();
    rule(0);
    rule(1);
    end(begin(NFNL_MSG_BATCH_END, AF_UNSPEC, 0));
    char answer[8192];
    MUST(send(tables_fd, batch, batch_len, 0) == (ssize_t)batch_len);
    MUST(recv(tables_fd, answer, sizeof answer, MSG_DONTWAIT) < 0 && errno == EAGAIN); /* only errors are answered */
}

/* ---- what is there, without handles; elements in any order are added up */
struct seen {
    size_t len;
    unsigned elements, sum;
    char rules[ROOM];
};

static int is_handle(int type, int attribute_type)
{
    return (type == NFT_MSG_NEWTABLE && (attribute_type == NFTA_TABLE_HANDLE || attribute_type == NFTA_TABLE_USE)) ||
           (type == NFT_MSG_NEWCHAIN && (attribute_type == NFTA_CHAIN_HANDLE || attribute_type == NFTA_CHAIN_USE)) || (type == NFT_MSG_NEWSET && attribute_type == NFTA_SET_HANDLE) ||
           (type == NFT_MSG_NEWRULE && (attribute_type == NFTA_RULE_HANDLE || attribute_type == NFTA_RULE_POSITION));
}

static void message_see(struct seen *s, const struct nlmsghdr *m)
{
    int type = m->nlmsg_type & 0xff;
    size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg));
    for (struct nlattr a; at + sizeof a <= m->nlmsg_len; at += NLA_ALIGN(a.nla_len)) {
        const unsigned char *data = (const unsigned char *)m + at;
        memcpy(&a, data, sizeof a);
        MUST(a.nla_len >= sizeof a);
        if (is_handle(type, a.nla_type & NLA_TYPE_MASK))
            continue;
        if (type == NFT_MSG_NEWSETELEM) {
            s->elements += (a.nla_type & NLA_TYPE_MASK) == NFTA_SET_ELEM_LIST_ELEMENTS;
            for (size_t k = 0; k < a.nla_len; k++)
                s->sum += data[k];
            continue;
        }
        MUST(s->len + a.nla_len < ROOM);
        memcpy(s->rules + s->len, data, a.nla_len);
        s->len += a.nla_len;
    }
}

static void see(struct seen *s, int message)
{
    static char answer[65536];
    batch_len = 0;
    size_t at = of_tables(message, NLM_F_DUMP);
    if (message == NFT_MSG_GETSETELEM) {
        text(NFTA_SET_ELEM_LIST_TABLE, "guard");
        text(NFTA_SET_ELEM_LIST_SET, "ports");
    }
    end(at);
    MUST(send(tables_fd, batch, batch_len, 0) == (ssize_t)batch_len);
    for (;;) {
        ssize_t n = recv(tables_fd, answer, sizeof answer, 0);
        MUST(n > 0);
        size_t left = (size_t)n;
        for (const struct nlmsghdr *m = (void *)answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            MUST(m->nlmsg_type != NLMSG_ERROR);
            if (m->nlmsg_type == NLMSG_DONE)
                return;
            message_see(s, m);
        }
    }
}

static void see_all(struct seen *s)
{
    static const int messages[] = {NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_GETRULE};
    memset(s, 0, sizeof *s);
    for (size_t k = 0; k < sizeof messages / sizeof *messages; k++)
        see(s, messages[k]);
}

static int bound(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(fd >= 0 && bind(fd, (void *)&at, sizeof at) == 0);
    return fd;
}

static int arrives(int from, int to, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char byte;
    MUST(sendto(from, "x", 1, 0, (void *)&at, sizeof at) == 1);
    return recv(to, &byte, 1, MSG_DONTWAIT) == 1;
}

static _Noreturn void boxed(int to, int go)
{
    static struct seen before, after;
    char data[8] = {0};
    become_networked();
    int dropped = bound(DROPPED), passed = bound(PASSED), in_set = bound(IN_SET + 49);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(DROPPED), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    tables_fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    MUST(tables_fd >= 0 && sendto(passed, "early", 5, 0, (void *)&place, sizeof place) == 5);
    load();
    MUST(!arrives(passed, in_set, IN_SET + 49) && !arrives(passed, in_set, IN_SET + 49) && arrives(dropped, passed, PASSED));
    see_all(&before);
    MUST(before.len > 400 && before.elements);
    MUST(write(to, "r", 1) == 1 && read(go, data, 1) == 1);
    see_all(&after);
    MUST(before.len == after.len && memcmp(before.rules, after.rules, before.len) == 0 && before.sum == after.sum);
    MUST(recv(dropped, data, 8, MSG_DONTWAIT) == 5 && memcmp(data, "early", 5) == 0);
    MUST(!arrives(passed, dropped, DROPPED) && !arrives(passed, in_set, IN_SET + 49) && arrives(dropped, passed, PASSED));
    see_all(&after);
    MUST(before.len == after.len && memcmp(before.rules, after.rules, before.len) != 0); /* they have counted */
    _exit(0);
}

int main(void)
{
    int go[2], from[2], status;
    char byte;
    MUST(pipe(go) == 0 && pipe(from) == 0);
    pid_t child = fork();
    if (child == 0)
        boxed(from[1], go[0]);
    MUST(close(from[1]) == 0 && read(from[0], &byte, 1) == 1);
    victim_wait();
    MUST(write(go[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return victim_ok();
}
