/* TCP over loopback in every state that stays: fin-wait both, close-wait, last-ack, closing, shut with data behind it; IPv6 and mapped
 * addresses; a connection that failed and whose error nobody has read; a listener of Multipath TCP; a segment size and
 * other options.
 * COVERAGE: TCP close-wait, fin-wait 1 and 2, closing, last-ack | captured | sent and received ends of file stay what they were
 * COVERAGE: TCP over IPv6 and IPv4-mapped addresses | captured | with queues and options
 * COVERAGE: TCP connection with an error that was not read | differs | it comes back as ECONNABORTED
 * COVERAGE: Multipath TCP listener | captured | its plain TCP connections too
 * COVERAGE: socket options | captured | those of native/snapshot/files_sockopt.c; reuseport programs (SO_ATTACH_REUSEPORT_*) cannot be read */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "victim.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct sockaddr_in6 place = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

static int state(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    return info.tcpi_state;
}
static void state_await(int fd, int wanted)
{
    for (int tries = 0; state(fd) != wanted; tries++) {
        MUST(tries < 5000);
        usleep(1000);
    }
}
static void join(int listener, int family, int pair[2])
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = place.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pair[0] = socket(family, SOCK_STREAM, 0);
    MUST(connect(pair[0], family == AF_INET ? (void *)&v4 : (void *)&place, family == AF_INET ? sizeof v4 : sizeof place) == 0);
    MUST((pair[1] = accept(listener, NULL, NULL)) >= 0);
}
static int number(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    MUST(getsockopt(fd, level, name, &value, &len) == 0);
    return value;
}
static int listener_make(int protocol)
{
    int off = 0, fd = socket(AF_INET6, SOCK_STREAM, protocol);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    socklen_t len = sizeof place;
    MUST(fd >= 0 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 && bind(fd, (void *)&any, sizeof any) == 0);
    MUST(listen(fd, 7) == 0 && getsockname(fd, (void *)&any, &len) == 0);
    place.sin6_port = any.sin6_port;
    return fd;
}
static void take(int fd, const char *text)
{
    char got[64] = "";
    MUST(recv(fd, got, strlen(text), MSG_WAITALL) == (ssize_t)strlen(text) && !strcmp(got, text));
}
static void say(int fd, const char *text)
{
    MUST(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* As much as goes in; what the other side does not take holds the end of file back. */
static size_t fill(int fd)
{
    static char block[4096];
    size_t total = 0;
    memset(block, 'f', sizeof block);
    for (ssize_t n; (n = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
        total += (size_t)n;
    return total;
}
static void drain(int fd, size_t expected)
{
    static char block[4096];
    size_t total = 0;
    for (ssize_t n; (n = recv(fd, block, sizeof block, 0)) > 0; total += (size_t)n)
        MUST(block[0] == 'f' && block[n - 1] == 'f');
    MUST(total == expected);
}

static int first[2], closing[2], last[2];
static size_t first_bytes, closing_bytes, last_bytes;

/* fin-wait 1, closing and last-ack last as long as the data before the end of file is not taken. */
static void ends_set_up(int listener)
{
    join(listener, AF_INET, first);
    join(listener, AF_INET6, closing);
    join(listener, AF_INET, last);
    first_bytes = fill(first[0]);
    MUST(shutdown(first[0], SHUT_WR) == 0 && state(first[0]) == TCP_FIN_WAIT1);
    closing_bytes = fill(closing[0]);
    MUST(shutdown(closing[0], SHUT_WR) == 0 && shutdown(closing[1], SHUT_WR) == 0);
    state_await(closing[0], TCP_CLOSING);
    MUST(shutdown(last[1], SHUT_WR) == 0);
    state_await(last[0], TCP_CLOSE_WAIT);
    last_bytes = fill(last[0]);
    MUST(shutdown(last[0], SHUT_WR) == 0 && state(last[0]) == TCP_LAST_ACK);
}
static void ends_check(void)
{
    char c;
    drain(first[1], first_bytes);
    drain(closing[1], closing_bytes);
    drain(last[1], last_bytes);
    MUST(recv(closing[0], &c, 1, 0) == 0 && recv(last[0], &c, 1, 0) == 0);
    state_await(first[0], TCP_FIN_WAIT2), state_await(last[0], TCP_CLOSE), state_await(closing[0], TCP_CLOSE);
}

static int plain, half[2], mapped[2], waiting[2], failed[2], multi, multi_pair[2], bare;
static in_port_t multi_port;

static void set_up(void)
{
    int mss = 900, tos = 0x10, window = 1;
    struct linger none = {1, 0};
    plain = listener_make(0);
    join(plain, AF_INET6, half);
    join(plain, AF_INET, mapped);
    join(plain, AF_INET6, waiting);
    join(plain, AF_INET, failed);
    say(half[0], "before the end");
    MUST(shutdown(half[0], SHUT_WR) == 0);
    state_await(half[1], TCP_CLOSE_WAIT), state_await(half[0], TCP_FIN_WAIT2);
    MUST(setsockopt(mapped[1], IPPROTO_IP, IP_TOS, &tos, sizeof tos) == 0 && setsockopt(mapped[1], IPPROTO_TCP, TCP_QUICKACK, &window, 4) == 0);
    say(mapped[0], "to the server");
    say(mapped[1], "to the client");
    say(waiting[0], "both");
    MUST(shutdown(waiting[0], SHUT_WR) == 0 && shutdown(waiting[1], SHUT_WR) == 0);
    say(failed[1], "last words");
    MUST(setsockopt(failed[1], SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0 && close(failed[1]) == 0);
    state_await(failed[0], TCP_CLOSE);
    ends_set_up(plain);
    bare = socket(AF_INET, SOCK_STREAM, 0);
    MUST(setsockopt(bare, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss) == 0);
    in_port_t port = place.sin6_port;
    multi = listener_make(IPPROTO_MPTCP);
    join(multi, AF_INET, multi_pair);
    multi_port = place.sin6_port;
    place.sin6_port = port;
}

static void check_failed(void)
{
    struct pollfd p = {.fd = failed[0]};
    char got[64];
    MUST(poll(&p, 1, 0) == 1 && p.revents & POLLERR && state(failed[0]) == TCP_CLOSE);
    take(failed[0], "last words");
    MUST(recv(failed[0], got, sizeof got, 0) < 0 && (errno == ECONNRESET || errno == ECONNABORTED));
    MUST(recv(failed[0], got, sizeof got, 0) == 0);
}

static void check(void)
{
    int pair[2];
    char c;
    state_await(half[1], TCP_CLOSE_WAIT); /* after a restore the end of file comes again */
    take(half[1], "before the end");
    MUST(recv(half[1], &c, 1, 0) == 0);
    say(half[1], "answer");
    take(half[0], "answer");
    MUST(close(half[1]) == 0 && recv(half[0], &c, 1, 0) == 0);
    MUST(number(mapped[1], IPPROTO_IP, IP_TOS) == 0x10 && number(bare, IPPROTO_TCP, TCP_MAXSEG) == 900);
    take(mapped[1], "to the server");
    take(mapped[0], "to the client");
    take(waiting[1], "both");
    MUST(recv(waiting[1], &c, 1, 0) == 0 && recv(waiting[0], &c, 1, 0) == 0);
    check_failed();
    ends_check();
    join(plain, AF_INET6, pair);
    say(pair[0], "new");
    take(pair[1], "new");
    say(multi_pair[0], "through");
    take(multi_pair[1], "through");
    MUST(number(multi, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_MPTCP);
    place.sin6_port = multi_port;
    join(multi, AF_INET, pair);
    say(pair[1], "again");
    take(pair[0], "again");
}

int main(void)
{
    return victim_main(set_up, check);
}
