/* pod_create: the caller forks the keeper, the keeper makes everything in a fixed order and tells the caller how it went.
 *   keeper: control groups, tmpfs, podinit in new namespaces, its network, fill; podinit: the root; then in_pod and act side by side.
 * podinit is born in its control groups; where that cannot be it is put there, for which the kernel takes some 10 ms (it waits for all processors), beside
 * the rest, until anything else runs.
 * What is about to be made stands in POD/state before it is made, so that whoever comes later can take it away. On success the
 * keeper executes itself anew as `adopt --keeper`: the long-lived keeper is always a fresh program, whoever started it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../kernel/mounts.h"
#include "../kernel/namespaces.h"
#include "../kernel/netdev.h"
#include "init.h"
#include "keeper.h"
#include "pager.h"
#include "prepare.h"
#include "state.h"

struct making {
    struct pod *pod;
    const struct pod_spec *spec;
    const struct pod_program *program;
    void *ctx;
    struct pod_root root;
    int lock, status_fd;         /* keeper.lock; to the caller */
    int channel, init_channel;   /* keeper's and podinit's ends */
    int act_ends[2];             /* act's and in_pod's ends */
    int report, act_report;      /* keeper's and act's ends */
    struct attaching {
        pthread_t thread;
        unsigned done; /* groups that it is in already */
        bool begun;
        int result;
        struct err error;
    } attaching;                 /* podinit into its control groups */
    pid_t act_pid;
};

/* ---- steps of the keeper */

static int channels_make(struct making *m, struct err *e)
{
    int a[2], b[2];
    m->act_ends[0] = m->act_ends[1] = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, a) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b) < 0 ||
        (m->program->act && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m->act_ends) < 0))
        return err_errno(e, "socketpair");
    m->channel = a[0];
    m->init_channel = a[1];
    m->report = b[0];
    m->act_report = b[1];
    return 0;
}

static int trees_make(struct pod *pod, struct err *e)
{
    static const char *const modes[] = {"1777", "1777", "755"};
    for (size_t k = 0; k < ARRAY_LENGTH(modes); k++)
        if ((pod->tree_fds[k] = mount_tmpfs_detached(modes[k], e)) < 0)
            return -1;
    return 0;
}

static int groups_make(struct making *m, struct err *e)
{
    AUTO_BUF struct buf missing = {0};
    if (pod_state_put(m->pod, e) < 0 || pod_lease_save(m->pod, e) < 0)
        return -1;
    cgroups_make(m->pod->cgroups, m->spec->mem_bytes, &missing);
    if (missing.len) {
        AUTO_FREE char *words = json_quote_bytes((char *)missing.data, missing.len - 2);
        output_event("warn", "\"message\":%s", words);
    }
    return 0;
}

static void *attach(void *opaque)
{
    struct making *m = opaque;
    m->attaching.result = cgroups_attach_rest(m->pod->cgroups, m->attaching.done, m->pod->init_pid, &m->attaching.error);
    return NULL;
}

static int attach_begin(struct making *m, struct err *e)
{
    if (m->attaching.done == CGROUPS_ALL)
        return 0;
    errno = pthread_create(&m->attaching.thread, NULL, attach, m);
    m->attaching.begun = errno == 0;
    return m->attaching.begun ? 0 : err_errno(e, "begin a thread");
}

static int attach_await(struct making *m, struct err *e)
{
    if (!m->attaching.begun)
        return 0;
    m->attaching.begun = false;
    pthread_join(m->attaching.thread, NULL);
    *e = m->attaching.error;
    return m->attaching.result;
}

static int init_start(struct making *m, struct err *e)
{
    bool named = ids_are_mapped(m->pod->facts.uid, m->pod->facts.gid); /* else: an ordinary user's pod, in which our own user has that name */
    const struct namespaces_new spaces = {
        .flags = (named ? 0 : CLONE_NEWUSER) | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME,
        .monotonic_offset_ns = m->spec->monotonic_offset_ns,
        .boottime_offset_ns = m->spec->boottime_offset_ns,
        .uid = m->pod->facts.uid,
        .gid = m->pod->facts.gid,
        .groups = m->pod->cgroups,
    };
    const int keepers[] = {m->lock, m->status_fd, m->channel, m->report, m->act_report, m->act_ends[0], -1, -1};
    int close_fds[ARRAY_LENGTH(keepers)], count = 0;
    for (size_t k = 0; k < ARRAY_LENGTH(keepers); k++)
        if (keepers[k] >= 0)
            close_fds[count++] = keepers[k];
    close_fds[count] = -1;
    struct pod_init init = {m->pod, &m->root, m->program, m->ctx, m->init_channel, m->act_ends[1], close_fds};
    if (namespaces_spawn(&spaces, init_main, &init, &m->pod->init_pid, &m->attaching.done, e) < 0)
        return -1;
    close(m->init_channel);
    if (m->act_ends[1] >= 0)
        close(m->act_ends[1]);
    m->pod->init_start = process_start(m->pod->init_pid);
    if (pod_state_put(m->pod, e) < 0)
        return -1;
    return attach_begin(m, e);
}

static int network_make(struct making *m, struct err *e)
{
    struct pod *pod = m->pod;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pod->init_pid);
    AUTO_CLOSE int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0)
        return err_errno(e, "open the pod's network namespace");
    if (pod->net.present && netdev_create(&pod->net, space, pod->host_ifname, e) < 0)
        return -1;
    if (m->spec->network_locked && netlock_set(pod, e) < 0)
        return -1;
    return netdev_configure(&pod->net, space, pod->host_ifname, e);
}

static int root_make(struct making *m, struct err *e)
{
    struct pod_message message;
    if (m->program->fill && m->program->fill(m->pod, m->ctx, e) < 0)
        return -1;
    if (message_send(m->channel, STEP_BUILD, 0, NULL, e) < 0 || message_expect(m->channel, STEP_BUILT, &message, e) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(m->pod->tree_fds); k++) {
        close(m->pod->tree_fds[k]);
        m->pod->tree_fds[k] = -1;
    }
    return 0;
}

static _Noreturn void act_main(struct making *m)
{
    struct err error = {0}, ignored;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(m->status_fd);
    close(m->channel);
    close(m->report);
    int failed = m->program->act(m->pod, m->ctx, m->act_ends[0], &error);
    if (message_send(m->act_report, failed < 0 ? STEP_FAILED : STEP_ACT_DONE, 0, &error, &ignored) < 0)
        _exit(E_PROTOCOL);
    _exit(failed < 0 ? (int)error.code : E_OK);
}

static int act_start(struct making *m, struct err *e)
{
    if (m->program->act) {
        m->act_pid = fork();
        if (m->act_pid == 0)
            act_main(m);
        if (m->act_pid < 0)
            return err_errno(e, "fork");
        close(m->act_ends[0]);
        m->act_ends[0] = -1;
    }
    close(m->act_report);
    return 0;
}

/* in_pod and act must both succeed, in either order; the first failure is the whole's. */
static int both_await(struct making *m, struct err *e)
{
    struct pod_message message;
    bool running = false, acted = !m->program->act;
    while (!running || !acted) {
        struct pollfd watched[2] = {{.fd = running ? -1 : m->channel, .events = POLLIN}, {.fd = acted ? -1 : m->report, .events = POLLIN}};
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return err_errno(e, "poll");
        if (watched[1].revents) {
            if (message_expect(m->report, STEP_ACT_DONE, &message, e) < 0)
                return e->code == E_PROTOCOL ? err_wrap(e, "the restoring process died") : -1;
            acted = true;
        }
        if (watched[0].revents) {
            if (message_expect(m->channel, STEP_RUNNING, &message, e) < 0)
                return e->code == E_PROTOCOL ? err_wrap(e, "podinit died") : -1;
            running = true;
            m->pod->facts.command_pid = message.command_pid;
        }
    }
    return 0;
}

static int everything_make(struct making *m, struct err *e)
{
    if (channels_make(m, e) < 0 || trees_make(m->pod, e) < 0 || groups_make(m, e) < 0 || init_start(m, e) < 0 || network_make(m, e) < 0)
        return -1;
    if (root_make(m, e) < 0 || attach_await(m, e) < 0 || act_start(m, e) < 0)
        return -1;
    struct err gone;
    if (message_send(m->channel, STEP_RUN, 0, NULL, &gone) < 0 && !m->program->act)
        return *e = gone, err_wrap(e, "podinit died");
    if (both_await(m, e) < 0)
        return -1;
    snprintf(m->pod->phase, sizeof m->pod->phase, "running");
    return pod_state_put(m->pod, e);
}

/* ---- the keeper while it makes the pod */

static void act_end(struct making *m)
{
    if (m->act_pid <= 0)
        return;
    kill(m->act_pid, SIGKILL);
    while (waitpid(m->act_pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void everything_undo(struct making *m)
{
    struct err why = {0};
    act_end(m);
    if (attach_await(m, &why) < 0)
        why = (struct err){0}; /* it goes anyway */
    if (pod_destroy(m->pod, "its making failed", &why) < 0) {
        fprintf(stderr, "keeper: %s\n", why.message);
        return; /* the state stays: `native kill` tries again */
    }
    unlinkat(m->pod->dirfd, "state", 0);
    unlinkat(m->pod->dirfd, "lease", 0);
    unlinkat(m->pod->dirfd, "exit", 0);
    unlinkat(m->pod->dirfd, "filling", 0);
    unlinkat(m->pod->dirfd, PAGER_SOCKET, 0);
}

static void keeper_daemonize(struct making *m)
{
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    prctl(PR_SET_NAME, "keeper");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    int log = openat(m->pod->dirfd, "log/keeper.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log >= 0) {
        dup2(log, 2);
        close(log);
    }
    m->pod->keeper_pid = getpid();
}

static _Noreturn void keeper_make(struct making *m)
{
    struct err error = {0}, ignored;
    keeper_daemonize(m);
    int lock = m->lock = keeper_lock(m->pod->dirfd, &error);
    bool failed = lock < 0 || everything_make(m, &error) < 0;
    if (failed && lock >= 0)
        everything_undo(m);
    if (!failed)
        error = (struct err){0};
    if (io_write_all(m->status_fd, &error, sizeof error, &ignored) < 0 && failed)
        _exit((int)error.code); /* the caller is gone: what was made runs on, the state file tells of it */
    if (failed)
        _exit((int)error.code);
    keeper_exec(m->pod->dir);
}

static int keeper_fork(struct making *m, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t between = fork();
    if (between == 0) {
        pid_t keeper = fork();
        if (keeper)
            _exit(keeper < 0);
        close(ends[0]);
        m->status_fd = ends[1];
        keeper_make(m);
    }
    close(ends[1]);
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (between > 0)
        return ends[0];
    close(ends[0]);
    return err_errno(e, "fork");
}

/* The keeper died in the middle: the caller clears away what it left. */
static void leftovers_clear(const char *dir)
{
    struct pod left;
    struct err ignored;
    if (pod_state_load(dir, &left, &ignored) < 0)
        return;
    struct making m = {.pod = &left};
    everything_undo(&m);
    pod_close(&left);
}

int pod_create(const struct pod_spec *spec, const struct pod_program *program, void *ctx, struct pod *out, struct err *e)
{
    struct pod pod;
    struct err outcome;
    struct making m = {.pod = &pod, .spec = spec, .program = program, .ctx = ctx, .root = {.rsh_fd = -1}};
    int result = -1;
    if (pod_prepare(spec, &pod, e) == 0 && root_plan(spec, &m.root, e) == 0) {
        AUTO_CLOSE int status = keeper_fork(&m, e);
        if (status >= 0 && io_read_all(status, &outcome, sizeof outcome, e) < 0) {
            leftovers_clear(pod.dir);
            err_set(e, E_ABORTED, "the keeper died while it made the pod");
        } else if (status >= 0) {
            *e = outcome;
            struct err later; /* a keeper that dies now is replaced by whoever asks next: the pod runs */
            if (outcome.code == E_OK && keeper_await(pod.dir, &later) < 0)
                output_event("warn", "\"message\":\"the keeper does not answer yet\"");
            result = outcome.code == E_OK ? pod_state_load(pod.dir, out, e) : -1;
        }
    }
    root_plan_free(&m.root);
    pod_close(&pod);
    return result;
}
