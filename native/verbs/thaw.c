/* native thaw: run on after `native freeze` (a pod without a valid lease stays frozen). */
#include "../pod/pod.h"
#include "simple.h"
#include "verbs.h"

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    if (options_pod(argc, argv, "native thaw --pod POD", &dir, e) < 0 || keeper_ask(dir, NULL, e, "thaw") < 0)
        return -1;
    output_event("done", NULL);
    return 0;
}

int verb_thaw(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
