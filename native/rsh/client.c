/* The asking end: standard input there, output and error back, the exit status as our own. The descriptors that we were started
 * with are shared with others, so they are never made non-blocking: poll first, then at most what a pipe surely takes. */
#include "rsh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "hosts.h"

#define LOST 255
#define WAIT_DEFAULT_S 60
#define RETRY_MS 200
#define ATTEMPT_MS_MAX 4000 /* more than that was not waiting but standing frozen */

struct client {
    int connection;
    bool input_open, closed, told;
    int status;
    struct buf from_server, to_server, out, err;
};

/* A pod of the same job may come up later than we do. */
static int connect_patiently(struct in_addr address)
{
    const char *wait = getenv("CLUSTEROS_RSH_WAIT_S");
    uint64_t left_ms = (wait ? strtoul(wait, NULL, 10) : WAIT_DEFAULT_S) * 1000;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(RSH_PORT), .sin_addr = address};
    for (;;) {
        uint64_t began_ms = clock_ns(CLOCK_MONOTONIC) / 1000000;
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -1;
        if (connect(fd, (struct sockaddr *)&there, sizeof there) == 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            fcntl(fd, F_SETFL, O_NONBLOCK);
            return fd;
        }
        int number = errno;
        close(fd);
        errno = number;
        bool may_come = number == ECONNREFUSED || number == EHOSTUNREACH || number == ENETUNREACH || number == ETIMEDOUT || number == EINTR;
        uint64_t spent_ms = clock_ns(CLOCK_MONOTONIC) / 1000000 - began_ms + RETRY_MS;
        spent_ms = spent_ms < ATTEMPT_MS_MAX ? spent_ms : ATTEMPT_MS_MAX;
        if (!may_come || left_ms < spent_ms)
            return -1;
        left_ms -= spent_ms;
        poll(NULL, 0, RETRY_MS);
    }
}

static void frame_take(struct client *c, enum frame_type type, const uint8_t *data, size_t len)
{
    uint32_t status;
    if (type == FRAME_OUTPUT)
        buf_add(&c->out, data, len);
    else if (type == FRAME_ERROR)
        buf_add(&c->err, data, len);
    else if (type == FRAME_EXIT && len == sizeof status) {
        memcpy(&status, data, sizeof status);
        c->status = (int)ntohl(status);
        c->told = true;
    }
}

static void server_read(struct client *c)
{
    enum frame_type type;
    const uint8_t *data;
    size_t len;
    int whole;
    ssize_t n = buf_fill(&c->from_server, c->connection, SIZE_MAX);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        c->closed = true;
    while ((whole = frame_peek(&c->from_server, &type, &data, &len)) == 1) {
        frame_take(c, type, data, len);
        buf_drop(&c->from_server, FRAME_HEAD_BYTES + len);
    }
    if (whole < 0)
        c->closed = true;
}

static void input_read(struct client *c)
{
    AUTO_BUF struct buf data = {0};
    ssize_t n = buf_fill(&data, STDIN_FILENO, SIZE_MAX);
    if (n > 0)
        frame_add(&c->to_server, FRAME_INPUT, data.data, data.len);
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return;
    c->input_open = false;
    frame_add(&c->to_server, FRAME_INPUT_END, NULL, 0);
}

static void output_write(struct buf *b, int fd)
{
    if (buf_flush(b, fd, PIPE_BUF) < 0 && errno != EAGAIN)
        b->len = 0; /* nobody reads it any more */
}

static void turn(struct client *c)
{
    bool room = c->out.len < FLOW_MAX && c->err.len < FLOW_MAX;
    struct pollfd w[4] = {{.fd = c->closed || c->told ? -1 : c->connection, .events = (short)((room ? POLLIN : 0) | (c->to_server.len ? POLLOUT : 0))},
                          {.fd = c->input_open && c->to_server.len < FLOW_MAX ? STDIN_FILENO : -1, .events = POLLIN},
                          {.fd = c->out.len ? STDOUT_FILENO : -1, .events = POLLOUT},
                          {.fd = c->err.len ? STDERR_FILENO : -1, .events = POLLOUT}};
    if (poll(w, 4, -1) < 0)
        return;
    if (w[1].revents)
        input_read(c);
    if ((w[0].revents & POLLOUT) && c->to_server.len && buf_flush(&c->to_server, c->connection, SIZE_MAX) < 0 && errno != EAGAIN)
        c->to_server.len = 0; /* what the server said last is still to be read */
    if ((w[0].revents & (POLLIN | POLLHUP | POLLERR)) && room)
        server_read(c);
    if (w[2].revents)
        output_write(&c->out, STDOUT_FILENO);
    if (w[3].revents)
        output_write(&c->err, STDERR_FILENO);
}

int client(const char *host, const char *line, bool no_input)
{
    struct client c = {.input_open = !no_input};
    struct in_addr address;
    if (!host_find(host, &address) || (c.connection = connect_patiently(address)) < 0) {
        fprintf(stderr, "clusteros-rsh: no connection to %s: %s\n", host, strerror(errno));
        return LOST;
    }
    signal(SIGPIPE, SIG_IGN);
    frame_add(&c.to_server, FRAME_COMMAND, line, strlen(line));
    if (no_input)
        frame_add(&c.to_server, FRAME_INPUT_END, NULL, 0);
    while (!((c.closed || c.told) && !c.out.len && !c.err.len))
        turn(&c);
    if (!c.told)
        fprintf(stderr, "clusteros-rsh: the connection to %s was lost\n", host);
    struct buf *all[] = {&c.from_server, &c.to_server, &c.out, &c.err};
    for (size_t k = 0; k < ARRAY_LENGTH(all); k++)
        buf_free(all[k]);
    return c.told ? c.status : LOST;
}
