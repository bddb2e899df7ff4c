/* See init.h. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pager.h"
#include "spare.h"

#define TERM_GRACE_MS 2000

/* ---- talk with the keeper */

int message_send(int channel, enum pod_step step, uint64_t command_pid, const struct err *error, struct err *e)
{
    struct pod_message m = {.step = step, .command_pid = command_pid};
    if (error)
        m.error = *error;
    if (send(channel, &m, sizeof m, MSG_NOSIGNAL) != (ssize_t)sizeof m)
        return err_errno(e, "tell the other side of the pod");
    return 0;
}

int message_expect(int channel, enum pod_step step, struct pod_message *out, struct err *e)
{
    ssize_t n;
    do
        n = recv(channel, out, sizeof *out, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *out)
        return err_set(e, E_PROTOCOL, "the other process of the pod's making died");
    if (out->step == STEP_FAILED) {
        *e = out->error;
        return -1;
    }
    return out->step == step ? 0 : err_set(e, E_PROTOCOL, "step %d came instead of %d", out->step, step);
}

/* ---- setting up */

int cpu_list_parse(const char *list, cpu_set_t *out, struct err *e)
{
    CPU_ZERO(out);
    for (const char *at = list; *at;) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        bool bad = end == at;
        if (*end == '-') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            bad |= end == at;
        }
        if (bad || (*end && *end != ',') || first > last || last >= CPU_SETSIZE)
            return err_set(e, E_USAGE, "'%s' is no list of processors (0-3,7)", list);
        for (unsigned long cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, out);
        at = end + (*end == ',');
    }
    return CPU_COUNT(out) ? 0 : err_set(e, E_USAGE, "the list of processors is empty");
}

static int affinity_set(const char *cpus, struct err *e)
{
    cpu_set_t set;
    if (!*cpus)
        return 0;
    if (cpu_list_parse(cpus, &set, e) < 0)
        return -1;
    return sched_setaffinity(0, sizeof set, &set) < 0 ? err_errno(e, "run on the processors %s", cpus) : 0;
}

static void signals_plain(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);
}

static void keeper_things_close(const struct pod_init *init)
{
    for (const int *fd = init->close_fds; *fd >= 0; fd++)
        close(*fd);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(null, 1);
    close(null);
}

/* POD as a mount of its own: from our descriptor of it no path leads up into the machine's tree. Where that is not allowed, there is
 * still the care that everybody takes with paths (kernel/inside.h). */
static void directory_detach(const struct pod *pod)
{
    int own = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (own < 0)
        return;
    CHECK(dup3(own, pod->dirfd, O_CLOEXEC) == pod->dirfd);
    close(own);
}

/* Root's groups would open files of the machine to a job of another user. An ordinary user may not drop groups, and has only its own. */
static int groups_drop(struct err *e)
{
    return setgroups(0, NULL) < 0 && errno != EPERM ? err_errno(e, "drop the supplementary groups") : 0;
}

static void building_things_close(const struct pod_init *init)
{
    for (size_t k = 0; k < ARRAY_LENGTH(init->pod->tree_fds); k++) {
        close(init->pod->tree_fds[k]);
        init->pod->tree_fds[k] = -1;
    }
    if (init->root->rsh_fd >= 0)
        close(init->root->rsh_fd);
}

static int world_make(const struct pod_init *init, struct err *e)
{
    const struct pod *pod = init->pod;
    if (sethostname(pod->facts.hostname, strlen(pod->facts.hostname)) < 0)
        return err_errno(e, "set the host name");
    if (affinity_set(pod->facts.cpus, e) < 0)
        return -1;
    if (chdir(pod->dir) < 0) /* by path: the descriptor leads into the mount namespace that we left */
        return err_errno(e, "enter %s", pod->dir);
    directory_detach(pod);
    if (groups_drop(e) < 0 || root_build(pod, init->root, e) < 0)
        return -1;
    building_things_close(init);
    return 0;
}

/* The groups in which it is now are the roots that the pod sees. */
static int cgroups_hide(struct err *e)
{
    return unshare(CLONE_NEWCGROUP) < 0 ? err_errno(e, "make the pod's cgroup namespace") : 0;
}

/* The reaper keeps POD's directory; everything else that was inherited goes. */
static void all_else_close(const int *keep, size_t count)
{
    unsigned from = 3;
    for (;;) {
        unsigned next = ~0u;
        for (size_t k = 0; k < count; k++)
            if (keep[k] >= 0 && (unsigned)keep[k] >= from && (unsigned)keep[k] < next)
                next = (unsigned)keep[k];
        if (next > from)
            close_range(from, next - (next != ~0u), 0);
        if (next == ~0u)
            return;
        from = next + 1;
    }
}

static int pager_begin(const struct pod_init *init, struct err *e)
{
    const struct pager *p = init->pod->pager;
    const int keep[] = {init->pod->dirfd, init->channel, p ? p->queue[0] : -1, p ? p->listening : -1};
    all_else_close(keep, ARRAY_LENGTH(keep));
    return p ? pager_start(init->pod->pager, init->pod->dirfd, e) : 0;
}

/* ---- reaping, and the end */

static void exit_write(int dirfd, int status)
{
    struct err error;
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", status);
    if (spare_replace(dirfd, "exit", "exit.spare", text, (size_t)n, &error) < 0)
        fprintf(stderr, "podinit: the exit status %d cannot be kept: %s\n", status, error.message); /* the keeper takes it from our own */
}

static void rest_end(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    kill(-1, SIGTERM);
    kill(-1, SIGCONT);
    uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + TERM_GRACE_MS * 1000000ull;
    while (clock_ns(CLOCK_MONOTONIC) < deadline) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        if (kill(-1, 0) < 0 && errno == ESRCH)
            return;
        struct timespec tick = {.tv_nsec = 20000000};
        sigtimedwait(&child, NULL, &tick);
    }
    kill(-1, SIGKILL);
}

static int shell_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int reap(int dirfd, pid_t command)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0 && errno == ECHILD) {
            fprintf(stderr, "podinit: COMMAND (pid %d) is not there\n", command);
            return E_BUG;
        }
        if (pid != command)
            continue;
        exit_write(dirfd, status);
        rest_end();
        return shell_status(status);
    }
}

/* What a restore needed is given back, and memory that runs out in the pod shall not cost the pod its first process (where that may be asked for). */
static void slim_down(void)
{
    struct err ignored;
    malloc_trim(0);
    if (io_putf(&ignored, "/proc/self/oom_score_adj", "-1000") < 0)
        return;
}

int init_main(void *opaque)
{
    struct pod_init *init = opaque;
    struct err error = {0}, ignored;
    struct pod_message m;
    prctl(PR_SET_NAME, "podinit");
    signals_plain();
    signal(SIGPIPE, SIG_IGN);
    keeper_things_close(init);
    if (message_expect(init->channel, STEP_BUILD, &m, &error) < 0)
        return E_ABORTED;
    if (world_make(init, &error) < 0 || message_send(init->channel, STEP_BUILT, 0, NULL, &error) < 0 || message_expect(init->channel, STEP_RUN, &m, &error) < 0 ||
        cgroups_hide(&error) < 0 || init->program->in_pod(init->pod, init->ctx, init->act_channel, &error) < 0 || root_seal(&error) < 0 ||
        pager_begin(init, &error) < 0) {
        if (message_send(init->channel, STEP_FAILED, 0, &error, &ignored) < 0)
            return E_PROTOCOL;
        return (int)error.code;
    }
    pid_t command = (pid_t)init->pod->facts.command_pid;
    int dirfd = init->pod->dirfd;
    if (message_send(init->channel, STEP_RUNNING, (uint64_t)command, NULL, &ignored) < 0)
        return E_PROTOCOL;
    close(init->channel);
    slim_down();
    return reap(dirfd, command);
}
