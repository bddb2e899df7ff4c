/* TCP connections over loopback with megabytes in their queues, in buffers that grew by themselves: more than an ordinary user may ask a new
 * socket to hold. Nobody reads while it is captured; at the end every byte must come out.
 * COVERAGE: TCP connection with megabytes in its queues | captured | also where the node allows an ordinary user less */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

#include "victim.h"

#define WARM_BYTES (8u << 20)
static uint8_t data[65536];
static uint64_t sent, got;

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}
static ssize_t put(int fd)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = pattern(sent + i);
    ssize_t n = send(fd, data, sizeof data, MSG_DONTWAIT);
    MUST(n >= 0 || errno == EAGAIN || errno == EINTR);
    sent += n > 0 ? (uint64_t)n : 0;
    return n;
}
static ssize_t take(int fd, int flags)
{
    ssize_t n = recv(fd, data, sizeof data, flags);
    for (ssize_t i = 0; i < n; i++)
        MUST(data[i] == pattern(got++));
    MUST(n >= 0 || errno == EAGAIN || errno == EINTR);
    return n;
}
static void join(int *writer, int *reader)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(listener, (void *)&place, len) == 0 && listen(listener, 1) == 0 && getsockname(listener, (void *)&place, &len) == 0);
    *writer = socket(AF_INET, SOCK_STREAM, 0);
    MUST(connect(*writer, (void *)&place, len) == 0 && (*reader = accept(listener, NULL, NULL)) >= 0);
    close(listener);
}

int main(void)
{
    int writer, reader;
    join(&writer, &reader);
    while (got < WARM_BYTES) { /* the kernel widens what is read in time */
        put(writer);
        take(reader, MSG_DONTWAIT);
    }
    for (int idle = 0; idle < 100; usleep(1000))
        idle = put(writer) > 0 ? 0 : idle + 1;
    uint64_t waiting = sent - got;
    printf("# %lu bytes wait\n", waiting);
    MUST(waiting > 1 << 20);
    victim_wait();
    MUST(shutdown(writer, SHUT_WR) == 0);
    while (take(reader, 0) != 0)
        continue;
    MUST(got == sent);
    return victim_ok();
}
