/* native lease: the pod may run until then; once it has had a lease it stands frozen without one. A newer epoch ends it. */
#include "../pod/pod.h"
#include "simple.h"
#include "verbs.h"

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    uint64_t epoch = 0, until_ns = 0;
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"epoch", 'u', &epoch, true, "of the run; an older one is refused, a newer one ends the pod"},
        {"until-boottime-ns", 'u', &until_ns, true, "CLOCK_BOOTTIME of this machine; never moves back"},
    };
    if (options_parse(argc, argv, "native lease --pod POD --epoch E --until-boottime-ns N", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (keeper_ask(dir, NULL, e, "lease %lu %lu", epoch, until_ns) < 0)
        return -1;
    output_event("done", NULL);
    return 0;
}

int verb_lease(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
