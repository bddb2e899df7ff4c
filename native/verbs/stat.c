/* native stat: how a pod stands, from what is on disk and in the kernel; works without a keeper and after the end. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../pod/pager.h"
#include "../pod/state.h"
#include "simple.h"
#include "verbs.h"

#define SETTLE_TRIES 100
#define SETTLE_NAP_US 10000

static const char *state_of(const struct pod *pod)
{
    if (strcmp(pod->phase, "ended") == 0 || !pod_init_alive(pod))
        return "ended";
    if (strcmp(pod->phase, "making") == 0)
        return "making";
    return pod_is_frozen(pod) ? "frozen" : "running";
}

static void usage_lines(const struct pod *pod, struct buf *b)
{
    struct err ignored;
    struct cgroup_usage use = {0};
    size_t count = 0;
    AUTO_FREE pid_t *pids = NULL;
    cgroups_usage(pod->cgroups, &use);
    if (pod_init_alive(pod) && pod_pids(pod, &pids, &count, &ignored) < 0)
        count = 0;
    buf_addf(b, ",\"processes\":%zu,\"mem_bytes\":%lu,\"cpu_s\":%.3f", count, use.mem_bytes, (double)use.cpu_ns / 1e9);
}

/* Of a pod that was restored lazily. */
static void filling_lines(const struct pod *pod, struct buf *b)
{
    struct err ignored;
    struct pager_status s;
    if (!pod_init_alive(pod) || pager_status_get(pod, &s, &ignored) < 0) {
        buf_addf(b, ",\"filling\":null");
        return;
    }
    AUTO_FREE char *why = json_quote(s.lacking ? s.why : "");
    buf_addf(b, ",\"filling\":{\"left_bytes\":%lu,\"total_bytes\":%lu,\"processes\":%u,\"lacking\":%u,\"why\":%s}", s.left_bytes, s.total_bytes,
             s.processes, s.lacking, why);
}

static void exit_lines(const struct pod *pod, struct buf *b)
{
    int status = pod->exit_wait_status;
    AUTO_FREE char *reason = json_quote(pod->reason);
    if (!pod->has_exit)
        buf_addf(b, ",\"exit_status\":null,\"signal\":null,\"reason\":%s", reason);
    else if (WIFSIGNALED(status))
        buf_addf(b, ",\"exit_status\":%d,\"signal\":%d,\"reason\":%s", 128 + WTERMSIG(status), WTERMSIG(status), reason);
    else
        buf_addf(b, ",\"exit_status\":%d,\"signal\":0,\"reason\":%s", WEXITSTATUS(status), reason);
}

/* podinit has gone and POD/state does not say how it ended: its keeper is about to write that down, or went after it had. What was read before that
 * was seen is not the last word. */
static int settled_load(const char *dir, struct pod *pod, struct err *e)
{
    bool last_look = false;
    for (int tries = 0;; tries++) {
        if (pod_state_load(dir, pod, e) < 0)
            return -1;
        if (last_look || strcmp(pod->phase, "ended") == 0 || pod_init_alive(pod))
            return 0;
        last_look = !keeper_alive(pod->dirfd) || tries == SETTLE_TRIES;
        pod_close(pod);
        if (!last_look)
            usleep(SETTLE_NAP_US);
    }
}

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    struct pod pod;
    AUTO_BUF struct buf b = {0};
    if (options_pod(argc, argv, "native stat --pod POD", &dir, e) < 0 || settled_load(dir, &pod, e) < 0)
        return -1;
    buf_addf(&b, "\"state\":\"%s\"", state_of(&pod));
    exit_lines(&pod, &b);
    usage_lines(&pod, &b);
    filling_lines(&pod, &b);
    buf_addf(&b, ",\"keeper_alive\":%s,\"keeper_pid\":%d,\"init_pid\":%d,\"command_pid\":%lu", keeper_alive(pod.dirfd) ? "true" : "false", pod.keeper_pid,
             pod.init_pid, pod.facts.command_pid);
    buf_addf(&b, ",\"epoch\":%lu,\"lease_until_boottime_ns\":%lu,\"suspended\":%s,\"lease_frozen\":%s", pod.epoch, pod.lease_until_ns,
             pod.suspended ? "true" : "false", pod.lease_frozen ? "true" : "false");
    buf_add(&b, "", 1);
    output_event("done", "%s", (char *)b.data);
    pod_close(&pod);
    return 0;
}

int verb_stat(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
