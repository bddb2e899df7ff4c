/* Asking the keeper, from any verb. A pod whose keeper died gets a new one first. See keeper.h for the lines. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper_parts.h"
#include "state.h"

#define ADOPT_TIMEOUT_MS 10000
#define NO_KEEPER_MS 1000
#define CONNECT_TIMEOUT_MS 2000
#define REQUEST_TRIES 5
#define NO_ACT_EXIT (-2)
#define DONE_LINE "{\"event\":\"done\""

/* ---- reaching it */

static int socket_connect(int dirfd)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d/keeper.sock", dirfd);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool pod_is_over(const char *dir)
{
    struct pod pod;
    struct err ignored;
    if (pod_state_load(dir, &pod, &ignored) < 0)
        return true;
    bool over = strcmp(pod.phase, "ended") == 0;
    pod_close(&pod);
    return over;
}

int keeper_await(const char *dir, struct err *e)
{
    AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int waited_ms = 0; dirfd >= 0 && waited_ms < ADOPT_TIMEOUT_MS; waited_ms++) {
        AUTO_CLOSE int fd = socket_connect(dirfd);
        if (fd >= 0 || pod_is_over(dir))
            return 0;
        if (waited_ms > NO_KEEPER_MS && !keeper_alive(dirfd))
            break;
        poll(NULL, 0, 1);
    }
    return err_set(e, E_BUSY, "the keeper of %s does not answer (see its log/keeper.log)", dir);
}

int keeper_adopt(const char *dir, struct err *e)
{
    AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pid_t between = dirfd < 0 ? -1 : fork();
    if (between == 0) {
        if (fork())
            _exit(0);
        setsid();
        keeper_exec(dir);
    }
    if (between < 0)
        return err_errno(e, "start a keeper for %s", dir);
    while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    return keeper_await(dir, e);
}

static int over_error(const struct pod *pod, struct err *e)
{
    return err_set(e, E_CONFLICT, "pod %s has ended%s%s", pod->dir, pod->reason[0] ? ": " : "", pod->reason);
}

/* -1 with E_OK in *e: not now, but soon (it is starting, or dying). */
static int connect_once(const char *dir, struct err *e)
{
    struct pod pod;
    *e = (struct err){0};
    if (pod_state_load(dir, &pod, e) < 0)
        return -1;
    int fd = socket_connect(pod.dirfd);
    bool over = strcmp(pod.phase, "ended") == 0;
    if (fd < 0 && over)
        over_error(&pod, e);
    else if (fd < 0 && !keeper_alive(pod.dirfd) && keeper_adopt(pod.dir, e) == 0)
        fd = socket_connect(pod.dirfd);
    pod_close(&pod);
    return fd;
}

static int keeper_connect(const char *dir, struct err *e)
{
    for (int waited_ms = 0; waited_ms < CONNECT_TIMEOUT_MS; waited_ms += 20) {
        int fd = connect_once(dir, e);
        if (fd >= 0 || e->code != E_OK)
            return fd;
        poll(NULL, 0, 20);
    }
    return err_set(e, E_BUSY, "the keeper of %s does not answer yet", dir);
}

/* ---- its answers */

static enum code code_named(const char *name, size_t len)
{
#define CODE(symbol, exit_status, http, retry, words) \
    if (strlen(#symbol) == len && memcmp(#symbol, name, len) == 0) \
        return E_##symbol;
#include "../codes.def"
#undef CODE
    return E_PROTOCOL;
}

static int error_take(const char *line, struct err *e)
{
    const char *code = line + strlen("error "), *blank = strchr(code, ' ');
    size_t len = blank ? (size_t)(blank - code) : strlen(code);
    return err_set(e, code_named(code, len), "%s", blank ? blank + 1 : "the keeper refused");
}

/* A line at the front of b, NUL instead of its newline; NULL if it is not whole. */
static char *line_of(const struct buf *b)
{
    uint8_t *end = b->len ? memchr(b->data, '\n', b->len) : NULL;
    if (!end)
        return NULL;
    *end = 0;
    return (char *)b->data;
}

static void line_drop(struct buf *b)
{
    size_t len = strlen((char *)b->data) + 1;
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

static int socket_more(int fd, struct buf *in, struct err *e)
{
    char block[16384];
    ssize_t n;
    do
        n = recv(fd, block, sizeof block, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(e, E_ABORTED, "the keeper went away; `native result` tells what became of it");
    buf_add(in, block, (size_t)n);
    return 0;
}

static int answer_await(int fd, struct buf *in, struct buf *reply, struct err *e)
{
    char *line;
    while (!(line = line_of(in)))
        if (socket_more(fd, in, e) < 0)
            return -1;
    if (strncmp(line, "ok", 2) != 0)
        return strncmp(line, "error ", 6) == 0 ? error_take(line, e) : err_set(e, E_PROTOCOL, "the keeper said: %s", line);
    if (reply)
        buf_addf(reply, "%s", line[2] ? line + 3 : "");
    line_drop(in);
    return 0;
}

static int ask_once(const char *dir, const char *request, size_t len, struct buf *reply, struct err *e)
{
    AUTO_BUF struct buf in = {0};
    AUTO_CLOSE int fd = keeper_connect(dir, e);
    if (fd < 0)
        return -1;
    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
        return err_set(e, E_ABORTED, "the keeper went away");
    return answer_await(fd, &in, reply, e);
}

int keeper_ask(const char *dir, struct buf *reply, struct err *e, const char *format, ...)
{
    char request[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(request, sizeof request - 1, format, args);
    va_end(args);
    CHECK(len > 0 && (size_t)len < sizeof request - 1);
    request[len++] = '\n';
    int result = ask_once(dir, request, (size_t)len, reply, e);
    return result < 0 && e->code == E_ABORTED ? ask_once(dir, request, (size_t)len, reply, e) : result; /* it died: the next one does it */
}

/* ---- acts */

static int act_request(int fd, const char *verb, int argc, char **argv, struct err *e)
{
    AUTO_BUF struct buf line = {0};
    buf_addf(&line, "act ");
    word_escape(&line, verb);
    for (int k = 0; k < argc; k++) {
        buf_addf(&line, " ");
        word_escape(&line, argv[k]);
    }
    buf_addf(&line, "\n");
    return io_write_all(fd, line.data, line.len, e);
}

/* Connected, and the request is said. A keeper that goes away before it has heard all of it does nothing: whoever is there now is asked (its pod may
 * have ended). */
static int act_begin(const char *dir, const char *verb, int argc, char **argv, struct err *e)
{
    for (int tries = 0;; tries++) {
        int fd = keeper_connect(dir, e);
        if (fd < 0 || act_request(fd, verb, argc, argv, e) == 0)
            return fd;
        close(fd);
        if (tries == REQUEST_TRIES)
            return err_set(e, E_ABORTED, "the keeper went away");
    }
}

/* Lines of the act to our stdout; the exit status once it is told, else NO_ACT_EXIT. */
static int lines_print(struct buf *in, bool *done, struct err *e)
{
    for (char *line; (line = line_of(in)); line_drop(in)) {
        if (strncmp(line, "exit ", 5) == 0)
            return atoi(line + 5);
        *done = *done || strncmp(line, DONE_LINE, strlen(DONE_LINE)) == 0;
        AUTO_FREE char *whole = xasprintf("%s\n", line);
        if (io_write_all(STDOUT_FILENO, whole, strlen(whole), e) < 0)
            return -1;
    }
    return NO_ACT_EXIT;
}

static void input_pass(int fd, bool *open)
{
    struct err ignored;
    char block[4096];
    ssize_t n = read(STDIN_FILENO, block, sizeof block);
    if (n > 0 && io_write_all(fd, block, (size_t)n, &ignored) == 0)
        return;
    *open = false;
    shutdown(fd, SHUT_WR);
}

/* A keeper that goes away with its pod: that is what to say then. */
static int ended_say(const char *dir, struct err *e)
{
    struct pod pod;
    struct err other = {0};
    if (e->code != E_ABORTED || pod_state_load(dir, &pod, &other) < 0)
        return -1;
    if (strcmp(pod.phase, "ended") == 0) {
        over_error(&pod, &other);
        err_set(e, other.code, "%s; `native result` tells what became of what was asked", other.message);
    }
    pod_close(&pod);
    return -1;
}

/* Lines of the act until its end. What said that it was done is done, also when the keeper ends with its pod before it can add the status. */
static int act_follow(int fd, struct err *e)
{
    AUTO_BUF struct buf in = {0};
    bool done = false;
    if (answer_await(fd, &in, NULL, e) < 0)
        return -1;
    for (bool input = true;;) {
        int exit_status = lines_print(&in, &done, e);
        if (exit_status != NO_ACT_EXIT)
            return exit_status;
        struct pollfd watched[2] = {{.fd = fd, .events = POLLIN}, {.fd = input ? STDIN_FILENO : -1, .events = POLLIN}};
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return err_errno(e, "poll");
        if (watched[1].revents)
            input_pass(fd, &input);
        if (watched[0].revents && socket_more(fd, &in, e) < 0)
            return done ? 0 : -1;
    }
}

int keeper_act(const char *dir, const char *verb, int argc, char **argv, struct err *e)
{
    signal(SIGPIPE, SIG_IGN);
    AUTO_CLOSE int fd = act_begin(dir, verb, argc, argv, e);
    if (fd < 0)
        return -1;
    int exit_status = act_follow(fd, e);
    return exit_status < 0 ? ended_say(dir, e) : exit_status;
}
