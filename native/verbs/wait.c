/* native wait: until the pod has ended; gives COMMAND's exit status, also when the pod came from a restore. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../pod/state.h"
#include "simple.h"
#include "verbs.h"

#define TICK_MS 20

/* Sleeps until podinit is gone, or the timeout; then until the keeper has cleared the pod away (POD/state says so). */
static int ended_await(const char *dir, uint64_t deadline_ns, struct pod *pod, struct err *e)
{
    for (;;) {
        if (pod_state_load(dir, pod, e) < 0)
            return -1;
        bool alive = pod_init_alive(pod);
        if (!alive && strcmp(pod->phase, "ended") == 0)
            return 0;
        if (!alive && !keeper_alive(pod->dirfd)) { /* its last words may be younger than what was read above */
            pod_close(pod);
            return pod_state_load(dir, pod, e);
        }
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        AUTO_CLOSE int pidfd = alive ? (int)syscall(SYS_pidfd_open, pod->init_pid, 0) : -1;
        pod_close(pod);
        if (now >= deadline_ns)
            return err_set(e, E_BUSY, "the pod still runs");
        uint64_t left_ms = (deadline_ns - now) / 1000000 + 1;
        struct pollfd watched = {.fd = pidfd, .events = POLLIN};
        poll(&watched, 1, pidfd < 0 ? TICK_MS : left_ms > 3600000 ? 3600000 : (int)left_ms);
    }
}

static int run_wait(int argc, char **argv, int *status_out, struct err *e)
{
    const char *dir;
    uint64_t timeout_s = 0;
    bool pass = false;
    int rest;
    struct pod pod;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"timeout", 'u', &timeout_s, false, "seconds; then exit status 75 (for ever)"},
        {"exit-status", 'b', &pass, false, "end with COMMAND's exit status (128 + N after signal N) instead of 0"},
    };
    if (options_parse(argc, argv, "native wait --pod POD [--timeout S] [--exit-status]", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    uint64_t deadline = timeout_s ? clock_ns(CLOCK_MONOTONIC) + timeout_s * 1000000000u : UINT64_MAX;
    if (ended_await(dir, deadline, &pod, e) < 0)
        return -1;
    bool known = pod.has_exit;
    int status = pod.exit_wait_status, killed = WIFSIGNALED(status) ? WTERMSIG(status) : 0, code = killed ? 128 + killed : WEXITSTATUS(status);
    AUTO_FREE char *reason = json_quote(pod.reason);
    pod_close(&pod);
    if (known)
        output_event("done", "\"exit_status\":%d,\"signal\":%d,\"reason\":%s", code, killed, reason);
    else
        output_event("done", "\"exit_status\":null,\"signal\":null,\"reason\":%s", reason);
    *status_out = pass ? (known ? code : 255) : 0;
    return 0;
}

int verb_wait(int argc, char **argv)
{
    struct err e = {0};
    int status = 0;
    output_open(STDOUT_FILENO);
    if (run_wait(argc, argv, &status, &e) == 0)
        return status;
    output_failed(&e);
    return (int)e.code;
}
