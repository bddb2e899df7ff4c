/* Two processes keep a TCP connection over loopback full in both directions, every byte numbered; beside it a listener, a half-shut
 * connection, options, and an attempt to connect now and then.
 * COVERAGE: TCP connection with both queues full | captured | every byte arrives once
 * COVERAGE: TCP listener, options | captured |
 * COVERAGE: half-shut TCP connection | captured | */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "victim.h"

static const struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = 0x5c1b /* 7004 */, .sin_addr.s_addr = 0x100007f};

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}
/* Send and take until asked; then tell the other side by the end of file and take what is left. */
static void stream(int fd)
{
    static uint8_t data[30000];
    uint64_t sent = 0, got = 0;
    for (int shut = 0;;) {
        struct pollfd state = {.fd = fd, .events = POLLIN | (shut ? 0 : POLLOUT)};
        if (asked && !shut)
            MUST(shutdown(fd, SHUT_WR) == 0 && (shut = 1));
        MUST(poll(&state, 1, 20000) > 0 || errno == EINTR);
        for (size_t i = 0; i < sizeof data && !shut; i++)
            data[i] = pattern(sent + i);
        ssize_t n = shut ? -1 : send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (uint64_t)n : 0;
        n = recv(fd, data, sizeof data, MSG_DONTWAIT);
        for (ssize_t i = 0; i < n; i++)
            MUST(data[i] == pattern(got++));
        MUST(n >= 0 || errno == EAGAIN || errno == EINTR);
        if (n == 0)
            asked = 1;
        if (n == 0 && shut)
            return;
    }
}
static void join(int listener, int *client, int *server)
{
    *client = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(*client, (const void *)&place, sizeof place) == 0 && (*server = accept(listener, NULL, NULL)) >= 0);
}

int main(void)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, c, s, half_c, half_s;
    char text[64];
    MUST(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(listener, (const void *)&place, sizeof place) == 0);
    MUST(listen(listener, 5) == 0);
    join(listener, &c, &s);
    join(listener, &half_c, &half_s);
    MUST(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 && send(half_c, "the end", 7, 0) == 7 && shutdown(half_c, SHUT_WR) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct sigaction a = {.sa_handler = victim_ask};
        sigaction(SIGUSR1, &a, NULL);
        close(c), close(half_c), close(half_s);
        stream(s);
        _exit(0);
    }
    close(s);
    victim_ready();
    stream(c);
    int status, value = 0;
    socklen_t len = sizeof value;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    MUST(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, &len) == 0 && value == 1);
    MUST(recv(half_s, text, 64, MSG_WAITALL) == 7 && send(half_s, "reply", 5, 0) == 5 && close(half_s) == 0);
    MUST(recv(half_c, text, 64, MSG_WAITALL) == 5);
    join(listener, &c, &s);
    MUST(send(c, "new", 3, 0) == 3 && recv(s, text, 64, 0) == 3);
    return victim_ok();
}
