/* Acts: the keeper runs the engine as `native VERB … --direct`, passes lines to and fro, keeps the last one durably before anybody
 * hears of it, and undoes by the journal what an engine that died left behind. POD/act names the running one. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper_parts.h"
#include "../base/urgent.h"
#include "../snapshot/track.h"
#include "state.h"

#define ACT_ARGS_MAX 64

/* ---- starting */

static void args_note(struct act *a, char **words, size_t count)
{
    a->args_json.len = 0;
    buf_add(&a->args_json, "", 1);
    a->args_json.len = 0;
    for (size_t n = 0; n < count; n++) {
        AUTO_FREE char *quoted = json_quote(words[n]);
        buf_addf(&a->args_json, "%s%s", n ? "," : "", quoted);
        if (strcmp(words[n], "--then") == 0 && n + 1 < count) {
            a->then_kill = strcmp(words[n + 1], "kill") == 0;
            a->then_stop = strcmp(words[n + 1], "stop") == 0;
        }
    }
    buf_add(&a->args_json, "", 1);
}

/* The ends of the socket go on, with their numbers in the environment. */
static void track_pass(const int ends[2])
{
    AUTO_FREE char *words = xasprintf("%d,%d", ends[0], ends[1]);
    setenv(TRACK_ENVIRONMENT, words, 1);
    for (int k = 0; k < 2; k++)
        fcntl(ends[k], F_SETFD, 0);
}

static _Noreturn void engine_exec(const char *verb, char **words, size_t count, int in_fd, int out_fd, const int track[2])
{
    char *argv[ACT_ARGS_MAX + 4] = {"native", xstrdup(verb), "--direct"};
    for (size_t n = 0; n < count; n++)
        argv[3 + n] = words[n];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    dup2(in_fd, 0);
    dup2(out_fd, 1);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    track_pass(track);
    execv("/proc/self/exe", argv);
    _exit(E_OS);
}

/* The engine's stdin opens only after POD/act stands: an engine that nobody knows of could not be undone. */
static int act_note(struct keeper *k, struct err *e)
{
    AUTO_FREE char *line = xasprintf("%d %lu %s %s\n%s\n", k->act.pid, process_start(k->act.pid), k->act.id, k->act.verb, (char *)k->act.args_json.data);
    return io_replace(k->pod.dirfd, "act", line, strlen(line), 0600, e);
}

static int engine_spawn(struct keeper *k, char **words, size_t count, struct err *e)
{
    int in[2], out[2], gate[2];
    char go;
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(gate, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    k->act.pid = fork();
    if (k->act.pid == 0) {
        close(gate[1]);
        if (read(gate[0], &go, 1) != 1)
            _exit(E_ABORTED);
        engine_exec(k->act.verb, words, count, in[0], out[1], k->track);
    }
    close(in[0]);
    close(out[1]);
    close(gate[0]);
    k->act.in_fd = in[1];
    k->act.out_fd = out[0];
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    AUTO_CLOSE int gate_fd = gate[1];
    if (k->act.pid < 0) {
        k->act.pid = 0;
        return err_errno(e, "fork");
    }
    if (act_note(k, e) < 0)
        return -1;
    return io_write_all(gate_fd, "g", 1, e);
}

static void act_reset(struct act *a)
{
    if (a->in_fd >= 0)
        close(a->in_fd);
    if (a->out_fd >= 0)
        close(a->out_fd);
    buf_free(&a->out);
    buf_free(&a->end_line);
    buf_free(&a->args_json);
    *a = (struct act){.in_fd = -1, .out_fd = -1};
}

int act_start(struct keeper *k, char **words, size_t count, struct err *e)
{
    if (count < 1 || count > ACT_ARGS_MAX || strcmp(words[0], "snapshot") != 0)
        return err_set(e, E_USAGE, "the keeper runs snapshots only");
    if (k->act.pid)
        return err_set(e, E_BUSY, "another act works on the pod");
    if (k->init_dead)
        return err_set(e, E_CONFLICT, "the pod has ended");
    snprintf(k->act.verb, sizeof k->act.verb, "%s", words[0]);
    snprintf(k->act.id, sizeof k->act.id, "%s-%lu", words[0], clock_ns(CLOCK_REALTIME));
    args_note(&k->act, words + 1, count - 1);
    if (engine_spawn(k, words + 1, count - 1, e) == 0) {
        urgent_relay();
        return 0;
    }
    pid_t pid = k->act.pid;
    act_reset(&k->act);
    if (pid > 0)
        waitpid(pid, NULL, 0); /* the gate closed: it ends by itself */
    unlinkat(k->pod.dirfd, "act", 0);
    return -1;
}

/* ---- its lines */

static bool is_end_line(const char *line)
{
    static const char *const ends[] = {"{\"event\":\"done\"", "{\"event\":\"failed\""};
    for (size_t n = 0; n < ARRAY_LENGTH(ends); n++)
        if (strncmp(line, ends[n], strlen(ends[n])) == 0)
            return true;
    return false;
}

static void line_pass(struct keeper *k, const char *line, size_t len)
{
    if (!is_end_line(line)) {
        clients_tell_attached(k, line, len);
        return;
    }
    k->act.end_line.len = 0;
    buf_add(&k->act.end_line, line, len - 1); /* without the newline; held back until it is kept */
    buf_add(&k->act.end_line, "", 1);
}

static void lines_take(struct keeper *k)
{
    struct buf *b = &k->act.out;
    size_t from = 0;
    for (uint8_t *end; from < b->len && (end = memchr(b->data + from, '\n', b->len - from)); from = (size_t)(end - b->data) + 1)
        line_pass(k, (char *)b->data + from, (size_t)(end - b->data) + 1 - from);
    memmove(b->data, b->data + from, b->len - from);
    b->len -= from;
    if (b->len > KEEPER_LINE_MAX)
        b->len = 0;
}

void act_readable(struct keeper *k)
{
    char block[16384];
    for (ssize_t n; k->act.out_fd >= 0;) {
        n = read(k->act.out_fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0) { /* its end comes as SIGCHLD */
                close(k->act.out_fd);
                k->act.out_fd = -1;
            }
            return;
        }
        buf_add(&k->act.out, block, (size_t)n);
        lines_take(k);
    }
}

void act_input(struct keeper *k, const void *data, size_t len)
{
    struct err why;
    if (k->act.pid && k->act.in_fd >= 0 && io_write_all(k->act.in_fd, data, len, &why) < 0)
        act_input_close(k);
}

void act_input_close(struct keeper *k)
{
    if (k->act.in_fd >= 0)
        close(k->act.in_fd);
    k->act.in_fd = -1;
}

/* ---- its end */

static char *failed_line(const struct err *why)
{
    AUTO_FREE char *message = json_quote(why->message);
    return xasprintf("{\"event\":\"failed\",\"code\":\"%s\",\"exit\":%d,\"message\":%s}", err_name(why->code), (int)why->code, message);
}

static void journal_undo(struct keeper *k)
{
    struct err why = {0};
    if (k->init_dead)
        unlinkat(k->pod.dirfd, "journal", 0);
    else if (journal_replay_undo(&k->pod, &why) < 0)
        keeper_log("undo: %s", why.message);
}

static void result_store(struct keeper *k, const char *line, int exit_status)
{
    struct err why = {0};
    if (result_keep(k->pod.dirfd, k->act.id, k->act.verb, (char *)k->act.args_json.data, exit_status, line, &why) < 0)
        keeper_log("%s", why.message);
}

static struct err death_of(const struct act *a, int status)
{
    struct err why = a->killed_because;
    if (why.code == E_OK && WIFSIGNALED(status))
        err_set(&why, E_BUG, "the engine was killed by signal %d", WTERMSIG(status));
    else if (why.code == E_OK)
        err_set(&why, E_BUG, "the engine ended with status %d and said nothing", WEXITSTATUS(status));
    return why;
}

static void suspension_keep(struct keeper *k)
{
    struct err why = {0};
    k->pod.suspended = true;
    if (pod_lease_save(&k->pod, &why) < 0)
        keeper_log("%s", why.message);
}

int act_pod_end(struct keeper *k, struct err *e)
{
    if (keeper_end(k, "ended after its snapshot", e) < 0)
        return -1; /* POD/act and the journal stay: it stands frozen and cut, and whoever adopts it tries again */
    unlinkat(k->pod.dirfd, "journal", 0);
    unlinkat(k->pod.dirfd, "act", 0);
    return 0;
}

/* The result is kept. POD/act goes last: a keeper that dies before leaves an adopter the rest to do. */
static void act_consequences(struct keeper *k, bool done)
{
    struct err why = {0};
    bool end = done && k->act.then_kill && !k->over;
    if (done && k->act.then_stop)
        suspension_keep(k);
    act_reset(&k->act);
    urgent_ease();
    if (!end)
        unlinkat(k->pod.dirfd, "act", 0);
    if (end ? act_pod_end(k, &why) < 0 : keeper_settle(k, &why) < 0)
        keeper_log("%s", why.message);
}

void act_reaped(struct keeper *k, int status)
{
    act_readable(k);
    bool spoke = k->act.end_line.len > 0;
    int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : E_BUG;
    bool done = spoke && exit_status == E_OK;
    if (!done || !k->act.then_kill)
        journal_undo(k); /* else nothing of it runs any more */
    if (!spoke) {
        struct err why = death_of(&k->act, status);
        AUTO_FREE char *line = failed_line(&why);
        keeper_log("%s: %s", k->act.id, why.message);
        buf_add(&k->act.end_line, line, strlen(line) + 1);
        exit_status = (int)why.code;
    }
    result_store(k, (char *)k->act.end_line.data, exit_status);
    AUTO_BUF struct buf line = {0};
    buf_add(&line, k->act.end_line.data, k->act.end_line.len);
    line.data[line.len - 1] = '\n';
    act_consequences(k, done);
    clients_tell_attached(k, line.data, line.len);
    clients_release_attached(k, exit_status);
}

void act_kill(struct keeper *k, enum code code, const char *why)
{
    int status;
    if (!k->act.pid)
        return;
    err_set(&k->act.killed_because, code, "%s", why);
    pid_t pid = k->act.pid;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return;
    act_reaped(k, status);
}

/* ---- after the death of a keeper */

static void engine_end(pid_t pid, uint64_t start)
{
    if (pid <= 1 || !start)
        return;
    for (int waited_ms = 0; process_start(pid) == start && waited_ms < 5000; waited_ms += 10) {
        kill(pid, SIGKILL);
        struct timespec tick = {.tv_nsec = 10000000};
        nanosleep(&tick, NULL);
    }
}

/* Did the act that POD/act names end well, and was that kept? */
static bool is_kept_as_done(const struct keeper *k)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *name = xasprintf("results/%s", k->act.id);
    return io_slurp(k->pod.dirfd, name, &text, KEEPER_LINE_MAX, &ignored) == 0 && strstr((char *)text.data, "\"result\":{\"event\":\"done\"");
}

/* Of an act that nobody heard of the end. */
static void act_fail(struct keeper *k)
{
    struct err why = {0};
    err_set(&why, E_ABORTED, "the keeper died while the act ran");
    AUTO_FREE char *line = failed_line(&why);
    AUTO_FREE char *name = xasprintf("results/%s", k->act.id);
    if (faccessat(k->pod.dirfd, name, F_OK, 0) < 0)
        result_store(k, line, E_ABORTED);
}

bool act_recover(struct keeper *k)
{
    struct err why = {0};
    AUTO_BUF struct buf text = {0};
    pid_t pid = 0;
    uint64_t start = 0;
    bool end = false;
    if (io_slurp(k->pod.dirfd, "act", &text, KEEPER_LINE_MAX, &why) == 0 && text.data &&
        sscanf((char *)text.data, "%d %lu %95s %31s", &pid, &start, k->act.id, k->act.verb) == 4) {
        const char *args = strchr((char *)text.data, '\n');
        buf_addf(&k->act.args_json, "%s", args ? args + 1 : "");
        buf_add(&k->act.args_json, "", 1);
        k->act.args_json.data[strcspn((char *)k->act.args_json.data, "\n")] = 0;
        engine_end(pid, start);
        bool done = is_kept_as_done(k);
        end = done && strstr((char *)k->act.args_json.data, "\"--then\",\"kill\"");
        if (done && strstr((char *)k->act.args_json.data, "\"--then\",\"stop\""))
            suspension_keep(k);
        if (!end)
            journal_undo(k);
        act_fail(k);
        act_reset(&k->act);
    }
    if (end)
        return true;
    journal_undo(k);
    unlinkat(k->pod.dirfd, "act", 0);
    return false;
}
