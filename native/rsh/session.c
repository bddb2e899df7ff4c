/* The serving end of one connection: a command under /bin/sh -c in a session of its own, its standard input, output and error
 * over the connection. It ends when the command has ended and nobody holds its output any more, as with rsh and ssh. */
#include "rsh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"

struct session {
    int connection, input, output, error; /* -1 once closed */
    pid_t child;
    bool ended, input_ended;
    int status;
    struct buf from_client, to_client, to_child;
};

static volatile sig_atomic_t child_changed;

static void on_child(int number)
{
    (void)number;
    child_changed = 1;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static _Noreturn void command_exec(const char *line, const int in[2], const int out[2], const int err[2])
{
    sigset_t none;
    setsid();
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(127);
}

static bool command_spawn(struct session *s, const char *line)
{
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        return false;
    s->child = fork();
    if (s->child == 0)
        command_exec(line, in, out, err);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    s->input = in[1];
    s->output = out[0];
    s->error = err[0];
    const int ours[] = {in[1], out[0], err[0]};
    for (size_t k = 0; k < ARRAY_LENGTH(ours); k++)
        fcntl(ours[k], F_SETFL, O_NONBLOCK);
    return s->child > 0;
}

/* ---- frames of the client */

static bool frame_take(struct session *s, enum frame_type type, const uint8_t *data, size_t len)
{
    if (type == FRAME_COMMAND && !s->child) {
        AUTO_BUF struct buf line = {0};
        buf_add(&line, data, len);
        buf_add(&line, "", 1);
        return command_spawn(s, (char *)line.data);
    }
    if (type == FRAME_INPUT && s->child && !s->input_ended)
        return buf_add(&s->to_child, data, len), true;
    if (type == FRAME_INPUT_END && s->child)
        return s->input_ended = true;
    return false;
}

static bool frames_take(struct session *s)
{
    enum frame_type type;
    const uint8_t *data;
    size_t len;
    int whole;
    while ((whole = frame_peek(&s->from_client, &type, &data, &len)) == 1) {
        if (!frame_take(s, type, data, len))
            return false;
        buf_drop(&s->from_client, FRAME_HEAD_BYTES + len);
    }
    return whole == 0;
}

/* ---- moving bytes */

static void child_input(struct session *s)
{
    if (s->input >= 0 && s->to_child.len && buf_flush(&s->to_child, s->input, SIZE_MAX) < 0 && errno != EAGAIN) {
        s->to_child.len = 0; /* it reads no more: what comes is dropped */
        close_one(&s->input);
    }
    if (s->input < 0)
        s->to_child.len = 0;
    if (s->input_ended && !s->to_child.len)
        close_one(&s->input);
}

static void child_output(struct session *s, int *fd, enum frame_type type)
{
    AUTO_BUF struct buf data = {0};
    ssize_t n = buf_fill(&data, *fd, SIZE_MAX);
    if (n > 0)
        frame_add(&s->to_client, type, data.data, data.len);
    else if (n == 0 || errno != EAGAIN)
        close_one(fd);
}

static void child_wait(struct session *s)
{
    child_changed = 0;
    if (s->child > 0 && !s->ended && waitpid(s->child, &s->status, WNOHANG) == s->child)
        s->ended = true;
}

static void turn(struct session *s, bool *lost)
{
    sigset_t open;
    sigemptyset(&open);
    short to = s->to_client.len ? POLLOUT : 0, from = s->to_child.len < FLOW_MAX ? POLLIN : 0;
    bool room = s->to_client.len < FLOW_MAX;
    struct pollfd w[4] = {{.fd = s->connection, .events = (short)(to | from)},
                          {.fd = s->to_child.len ? s->input : -1, .events = POLLOUT},
                          {.fd = room ? s->output : -1, .events = POLLIN},
                          {.fd = room ? s->error : -1, .events = POLLIN}};
    if (ppoll(w, 4, NULL, &open) < 0 && errno != EINTR)
        exit(1);
    child_wait(s);
    if (w[2].revents && s->output >= 0)
        child_output(s, &s->output, FRAME_OUTPUT);
    if (w[3].revents && s->error >= 0)
        child_output(s, &s->error, FRAME_ERROR);
    if (w[0].revents & POLLIN) {
        ssize_t n = buf_fill(&s->from_client, s->connection, SIZE_MAX);
        *lost |= n == 0 || (n < 0 && errno != EAGAIN) || !frames_take(s);
    } else if (w[0].revents & (POLLHUP | POLLERR)) {
        *lost = true;
    }
    child_input(s);
    if (s->to_client.len && buf_flush(&s->to_client, s->connection, SIZE_MAX) < 0 && errno != EAGAIN)
        *lost = true;
}

/* ---- the end */

/* The last frame goes out whole, and then the client closes first: closing with unread input would reset the connection and lose it. */
static void finish(struct session *s)
{
    struct err ignored;
    uint32_t status = htonl((uint32_t)(WIFSIGNALED(s->status) ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status)));
    frame_add(&s->to_client, FRAME_EXIT, &status, sizeof status);
    fcntl(s->connection, F_SETFL, 0);
    if (io_write_all(s->connection, s->to_client.data, s->to_client.len, &ignored) < 0)
        return;
    shutdown(s->connection, SHUT_WR);
    char drop[4096];
    ssize_t n;
    do
        n = read(s->connection, drop, sizeof drop);
    while (n > 0 || (n < 0 && errno == EINTR));
}

_Noreturn void session(int connection)
{
    struct session s = {.connection = connection, .input = -1, .output = -1, .error = -1};
    sigset_t child;
    bool lost = false;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    struct sigaction action = {.sa_handler = on_child};
    sigaction(SIGCHLD, &action, NULL);
    fcntl(connection, F_SETFL, O_NONBLOCK);
    while (!lost && !(s.ended && s.output < 0 && s.error < 0))
        turn(&s, &lost);
    if (!lost)
        finish(&s);
    else if (s.child > 0 && !s.ended)
        kill(-s.child, SIGHUP); /* the caller died: its command hears of it as of a lost line */
    exit(lost);
}
