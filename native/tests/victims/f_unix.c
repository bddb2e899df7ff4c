/* A server process on a named Unix socket, clients that send it numbers and get them back, a datagram socket, a pair with waiting
 * messages, a client that connects anew now and then.
 * COVERAGE: Unix stream, datagram and seqpacket socket, named, pair, listener | captured | with data */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "victim.h"

static const struct sockaddr_un place = {AF_UNIX, "/tmp/server"}, log_place = {AF_UNIX, "\0victim-log"};

static void serve(int listener)
{
    struct pollfd all[16] = {{.fd = listener, .events = POLLIN}};
    int count = 1;
    for (;;) {
        MUST(poll(all, (nfds_t)count, -1) > 0 || errno == EINTR);
        if (all[0].revents & POLLIN && count < 16)
            all[count++] = (struct pollfd){.fd = accept(listener, NULL, NULL), .events = POLLIN};
        for (int i = 1; i < count; i++) {
            uint64_t numbers[64];
            ssize_t n = all[i].revents ? recv(all[i].fd, numbers, sizeof numbers, MSG_DONTWAIT) : -1;
            if (n > 0)
                MUST(send(all[i].fd, numbers, (size_t)n, 0) == n);
            if (n == 0) {
                close(all[i].fd);
                all[i--] = all[--count];
            }
        }
    }
}
static int client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(connect(fd, (const void *)&place, sizeof place) == 0);
    return fd;
}
static void take(int fd, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = recv(fd, (char *)data + at, len - at, 0);
        MUST(n > 0 || (n < 0 && errno == EINTR));
        at += n > 0 ? (size_t)n : 0;
    }
}
static void echo(int fd, uint64_t from, int count)
{
    for (uint64_t i = from; i < from + (uint64_t)count; i++)
        MUST(send(fd, &i, sizeof i, 0) == sizeof i);
    for (uint64_t i = from, got; i < from + (uint64_t)count; i++) {
        take(fd, &got, sizeof got);
        MUST(got == i);
    }
}

int main(void)
{
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), log_fd = socket(AF_UNIX, SOCK_DGRAM, 0), say = socket(AF_UNIX, SOCK_DGRAM, 0), pair[2];
    char text[64];
    MUST(bind(listener, (const void *)&place, sizeof place) == 0 && listen(listener, 5) == 0);
    MUST(bind(log_fd, (const void *)&log_place, sizeof log_place) == 0 && connect(say, (const void *)&log_place, sizeof log_place) == 0);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && send(pair[0], "first", 5, 0) == 5 && send(pair[0], "second", 6, 0) == 6);
    MUST(send(say, "to the log", 10, 0) == 10);
    pid_t child = fork();
    if (child == 0)
        serve(listener);
    int first = client(), second = client();
    victim_ready();
    for (uint64_t round = 0; !asked; round += 8) {
        echo(first, round, 8);
        echo(second, round, 3);
        if (round % 64 == 0) {
            int third = client();
            echo(third, round, 1);
            close(third);
        }
    }
    struct sockaddr_un name = {0};
    socklen_t len = sizeof name;
    MUST(getpeername(first, (void *)&name, &len) == 0 && !strcmp(name.sun_path, "/tmp/server"));
    MUST(recv(pair[1], text, 64, 0) == 5 && recv(pair[1], text, 64, 0) == 6 && recv(log_fd, text, 64, 0) == 10);
    MUST(send(say, "more", 4, 0) == 4 && recv(log_fd, text, 64, 0) == 4);
    kill(child, SIGKILL);
    MUST(recv(first, text, 1, 0) == 0);
    return victim_ok();
}
