/* native pid: translate a pid of the pod into one of the machine, or back (--inside: PID is as the pod sees it). */
#include <stdlib.h>
#include <string.h>

#include "../kernel/namespaces.h"
#include "../pod/pod.h"
#include "simple.h"
#include "verbs.h"

static const char usage[] = "native pid --pod POD PID [--inside]";

static pid_t translate(const struct pod *pod, const pid_t *pids, size_t count, pid_t wanted, bool inside)
{
    if (wanted == (inside ? 1 : pod->init_pid))
        return inside ? pod->init_pid : 1;
    for (size_t k = 0; k < count; k++) {
        pid_t own = inside_pid(pids[k]);
        if (wanted == (inside ? own : pids[k]))
            return inside ? pids[k] : own;
    }
    return 0;
}

static int look_up(const char *dir, pid_t wanted, bool inside, pid_t *out, struct err *e)
{
    struct pod pod;
    size_t count;
    if (pod_open(dir, &pod, e) < 0)
        return -1;
    AUTO_FREE pid_t *pids = NULL;
    int result = pod_pids(&pod, &pids, &count, e);
    *out = result < 0 ? 0 : translate(&pod, pids, count, wanted, inside);
    pod_close(&pod);
    return result < 0 || *out ? result : err_set(e, E_NO_INPUT, "no process %d in the pod", wanted);
}

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    bool inside = false;
    int rest;
    char *end;
    pid_t other;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"inside", 'b', &inside, false, "PID is the pod's number; else the machine's"},
    };
    if (options_parse(argc, argv, usage, options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (rest < argc && rest + 2 == argc && strcmp(argv[rest + 1], "--inside") == 0) {
        inside = true; /* as the design writes it: PID before --inside */
        argc--;
    }
    long wanted = rest + 1 == argc ? strtol(argv[rest], &end, 10) : 0;
    if (wanted <= 0 || *end || wanted > INT32_MAX)
        return err_set(e, E_USAGE, "which PID? (%s)", usage);
    if (look_up(dir, (pid_t)wanted, inside, &other, e) < 0)
        return -1;
    output_event("done", "\"pid\":%d,\"inside\":%d", inside ? other : (pid_t)wanted, inside ? (pid_t)wanted : other);
    return 0;
}

int verb_pid(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
