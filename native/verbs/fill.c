/* native fill: by the keeper, for a pod that was restored lazily. */
#include "../restore/filler.h"
#include "simple.h"
#include "verbs.h"

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    if (options_pod(argc, argv, "native fill --pod POD", &dir, e) < 0 || filler_work(dir, e) < 0)
        return -1;
    output_event("done", NULL);
    return 0;
}

int verb_fill(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
