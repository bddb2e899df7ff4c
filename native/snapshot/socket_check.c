/* See socket_check.h. */
#include "socket_check.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../image/schema.h"
#include "../kernel/tcpstate.h"

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int option_get(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? 0 : value;
}

static int kind_find(int fd, struct socket_facts *s, struct err *e)
{
    int type = 0;
    socklen_t len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return err_errno(e, "kind of a socket");
    *s = (struct socket_facts){.domain = option_get(fd, SOL_SOCKET, SO_DOMAIN), .type = type, .protocol = option_get(fd, SOL_SOCKET, SO_PROTOCOL)};
    bool internet = s->domain == AF_INET || s->domain == AF_INET6;
    if (s->domain == AF_UNIX)
        s->kind = FILE_UNIX;
    else if (s->domain == AF_NETLINK)
        s->kind = FILE_NETLINK;
    else if (internet && type == SOCK_STREAM && (s->protocol == IPPROTO_TCP || s->protocol == IPPROTO_MPTCP))
        s->kind = FILE_TCP;
    else if (internet && type == SOCK_DGRAM && (s->protocol == IPPROTO_UDP || s->protocol == IPPROTO_UDPLITE))
        s->kind = FILE_UDP;
    else if ((internet && type == SOCK_RAW && s->protocol != IPPROTO_IGMP) || (s->domain == AF_PACKET && (type == SOCK_RAW || type == SOCK_DGRAM)))
        s->kind = FILE_RAW;
    return 0;
}

/* The name of the socket's family or protocol as people know it. */
static const char *family_words(const struct socket_facts *s)
{
    static const struct {
        int domain, type;
        const char *words;
    } known[] = {{AF_PACKET, 0, "a packet socket"}, {AF_INET, SOCK_RAW, "a raw socket"}, {AF_INET6, SOCK_RAW, "a raw socket"},
                 {AF_VSOCK, 0, "a socket to the virtual machine's host (vsock)"}, {AF_ALG, 0, "a socket of the kernel's ciphers (AF_ALG)"},
                 {AF_XDP, 0, "an XDP socket"}, {AF_BLUETOOTH, 0, "a Bluetooth socket"}, {AF_CAN, 0, "a CAN socket"}};
    for (size_t k = 0; k < ARRAY_LENGTH(known); k++)
        if (known[k].domain == s->domain && (!known[k].type || known[k].type == s->type))
            return known[k].words;
    return (s->domain == AF_INET || s->domain == AF_INET6) && (s->protocol == IPPROTO_ICMP || s->protocol == IPPROTO_ICMPV6) ? "an ICMP socket" : "a socket";
}

/* ---- TCP */
static const char *tcp_words(int fd, const struct socket_facts *s)
{
    char upper[16] = "";
    struct tcp_info info = {0};
    socklen_t len = sizeof upper, info_len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) < 0)
        return NULL;
    bool quiet = info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LISTEN;
    if (s->protocol == IPPROTO_MPTCP)
        return quiet ? NULL : "a connection of Multipath TCP";
    if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, upper, &len) == 0 && len > 0 && upper[0])
        return "a TCP socket with an upper layer in the kernel (TLS)";
    return !quiet && info.tcpi_options & TCPI_OPT_ECN ? "a TCP connection that negotiated ECN" : NULL;
}

static bool has_foreign_filter(int fd)
{
    socklen_t instructions = 0;
    return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &instructions) < 0 && errno == EACCES;
}

int socket_look(int fd, struct socket_facts *out, char words[256], struct err *e)
{
    if (kind_find(fd, out, e) < 0)
        return -1;
    if (!out->kind) {
        snprintf(words, 256, "%s of family %d, type %d, protocol %d", family_words(out), out->domain, out->type, out->protocol);
        return 1;
    }
    const char *why = out->kind == FILE_TCP ? tcp_words(fd, out) : NULL;
    if (!why && has_foreign_filter(fd))
        why = "a socket with an eBPF filter";
    snprintf(words, 256, "%s", why ? why : "");
    return why != NULL;
}

/* In its own network the job may let a socket speak for any address. */
static bool is_transparent(int fd, const struct socket_facts *s)
{
    return (s->domain == AF_INET && option_get(fd, IPPROTO_IP, IP_TRANSPARENT)) || (s->domain == AF_INET6 && option_get(fd, IPPROTO_IPV6, IPV6_TRANSPARENT));
}

const char *socket_trouble_there(int fd, const struct socket_facts *s, bool own)
{
    if (s->kind == FILE_RAW && !own)
        return family_words(s);
    return own && is_transparent(fd, s) ? "a socket that speaks for any address (IP_TRANSPARENT)" : NULL;
}

/* ---- what passes */
const char *socket_passing(int fd, const struct socket_facts *s)
{
    struct pollfd state = {.fd = fd, .events = POLLPRI};
    int queued = 0;
    if (poll(&state, 1, 0) > 0 && state.revents & POLLPRI && s->kind != FILE_NETLINK)
        return "a socket with urgent data that was not read yet";
    if (s->kind == FILE_UDP && ioctl(fd, SIOCOUTQ, &queued) == 0 && queued > 0)
        return "a UDP socket with data that was not sent yet (corked)";
    return NULL;
}

bool socket_is_elsewhere(pid_t pid, int fd)
{
    struct stat theirs, own;
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/net", pid);
    AUTO_CLOSE int space = ioctl(fd, SIOCGSKNS);
    return space >= 0 && fstat(space, &theirs) == 0 && stat(path, &own) == 0 && theirs.st_ino != own.st_ino;
}
