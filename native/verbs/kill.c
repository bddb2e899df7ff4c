/* native kill: end the pod at once, or send a signal to COMMAND (--all: to every process). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/namespaces.h"
#include "../pod/pod.h"
#include "../pod/state.h"
#include "simple.h"
#include "verbs.h"

static int end(const char *dir, struct err *e)
{
    struct pod pod;
    if (pod_state_load(dir, &pod, e) < 0)
        return -1;
    bool over = strcmp(pod.phase, "ended") == 0;
    pod_close(&pod);
    if (over || keeper_ask(dir, NULL, e, "kill") == 0)
        return 0;
    return e->code == E_CONFLICT ? 0 : -1; /* it ended by itself meanwhile */
}

static int one_signal(pid_t pid, int number, struct err *e)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) == 0)
        return 0;
    return errno == ESRCH ? 0 : err_errno(e, "signal %d to process %d", number, pid);
}

static int signal_send(const char *dir, int number, bool all, struct err *e)
{
    struct pod pod;
    size_t count = 0;
    if (pod_open(dir, &pod, e) < 0)
        return -1;
    AUTO_FREE pid_t *pids = NULL;
    int result = pod_pids(&pod, &pids, &count, e);
    for (size_t k = 0; k < count && result == 0; k++)
        if (all || inside_pid(pids[k]) == (pid_t)pod.facts.command_pid)
            result = one_signal(pids[k], number, e);
    pod_close(&pod);
    return result;
}

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    uint64_t number = 0;
    bool all = false;
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"signal", 'u', &number, false, "send this signal to COMMAND instead of ending the pod"},
        {"all", 'b', &all, false, "with --signal: to every process of the pod"},
    };
    if (options_parse(argc, argv, "native kill --pod POD [--signal N [--all]]", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (number >= (uint64_t)NSIG || (all && !number))
        return err_set(e, E_USAGE, "--signal must be between 1 and %d", NSIG - 1);
    if (number ? signal_send(dir, (int)number, all, e) < 0 : end(dir, e) < 0)
        return -1;
    output_event("done", NULL);
    return 0;
}

int verb_kill(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
