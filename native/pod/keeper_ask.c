/* The keeper's clients: who may ask, and what. See keeper.h for the lines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper_parts.h"
#include "state.h"

#define WORDS_MAX 80

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_free(&c->in);
    *c = (struct client){.fd = -1};
}

static bool client_may_ask(int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && (who.uid == 0 || who.uid == geteuid());
}

void clients_accept(struct keeper *k)
{
    int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX && client_may_ask(fd); n++) {
        if (k->clients[n].fd >= 0)
            continue;
        k->clients[n].fd = fd;
        return;
    }
    static const char busy[] = "error BUSY the keeper has too many clients, or you may not ask it\n";
    if (send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL) < 0)
        keeper_log("a client was turned away: %s", strerror(errno));
    close(fd);
}

static void client_tell(struct client *c, const void *data, size_t len)
{
    if (c->fd >= 0 && send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
        client_close(c); /* it does not read: the result is kept for it */
}

void clients_tell_attached(struct keeper *k, const void *data, size_t len)
{
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX; n++)
        if (k->clients[n].attached)
            client_tell(&k->clients[n], data, len);
}

void clients_release_attached(struct keeper *k, int exit_status)
{
    char line[32];
    int len = snprintf(line, sizeof line, "exit %d\n", exit_status);
    clients_tell_attached(k, line, (size_t)len);
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX; n++)
        if (k->clients[n].attached)
            client_close(&k->clients[n]);
}

/* ---- requests */

static int suspend_set(struct keeper *k, bool suspended, struct err *e)
{
    if (k->act.pid)
        return err_set(e, E_BUSY, "an act works on the pod");
    bool before = k->pod.suspended;
    k->pod.suspended = suspended;
    if (keeper_settle(k, e) < 0) {
        k->pod.suspended = before;
        return -1;
    }
    return pod_lease_save(&k->pod, e);
}

static int lease_ask(struct keeper *k, char **words, size_t count, struct err *e)
{
    char *ends[2];
    if (count != 3)
        return err_set(e, E_PROTOCOL, "lease EPOCH UNTIL_NS");
    uint64_t epoch = strtoull(words[1], &ends[0], 10), until_ns = strtoull(words[2], &ends[1], 10);
    if (*ends[0] || *ends[1] || !epoch)
        return err_set(e, E_USAGE, "epoch and time of a lease must be positive numbers");
    return keeper_lease(k, epoch, until_ns, e);
}

static int request_run(struct keeper *k, struct client *c, char **words, size_t count, struct err *e)
{
    if (strcmp(words[0], "ping") == 0)
        return 0;
    if (strcmp(words[0], "freeze") == 0 || strcmp(words[0], "thaw") == 0)
        return suspend_set(k, words[0][0] == 'f', e);
    if (strcmp(words[0], "kill") == 0)
        return keeper_end(k, "ended on request", e);
    if (strcmp(words[0], "lease") == 0)
        return lease_ask(k, words, count, e);
    if (strcmp(words[0], "act") != 0)
        return err_set(e, E_PROTOCOL, "the keeper does not know '%s'", words[0]);
    if (act_start(k, words + 1, count - 1, e) < 0)
        return -1;
    c->attached = true;
    return 0;
}

static void request_answer(struct keeper *k, struct client *c, char *line)
{
    struct err why = {0};
    char *words[WORDS_MAX];
    size_t count = words_split(line, words, WORDS_MAX);
    int failed = count == 0 ? err_set(&why, E_PROTOCOL, "an empty request") : request_run(k, c, words, count, &why);
    AUTO_FREE char *text = failed ? xasprintf("error %s %s\n", err_name(why.code), why.message) : xasprintf("ok %s\n", c->attached ? k->act.id : "");
    client_tell(c, text, strlen(text));
}

void client_readable(struct keeper *k, struct client *c)
{
    char block[16384];
    ssize_t n = recv(c->fd, block, sizeof block, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && c->attached && !c->said_all) {
        c->said_all = true;
        act_input_close(k);
        return;
    }
    if (n <= 0 || c->in.len + (size_t)n > KEEPER_LINE_MAX) {
        if (c->attached)
            act_input_close(k);
        client_close(c);
        return;
    }
    if (c->attached) {
        act_input(k, block, (size_t)n);
        return;
    }
    buf_add(&c->in, block, (size_t)n);
    uint8_t *end = memchr(c->in.data, '\n', c->in.len);
    if (!end)
        return;
    *end = 0;
    request_answer(k, c, (char *)c->in.data);
    c->in.len = 0;
}
