/* native adopt: a new keeper for a pod whose keeper died. With --keeper (by the engine itself): be that keeper. */
#include "../pod/keeper.h"
#include "../pod/state.h"
#include "simple.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>

static int adopt(const char *dir, struct err *e)
{
    struct pod pod;
    if (pod_state_load(dir, &pod, e) < 0)
        return -1;
    bool over = strcmp(pod.phase, "ended") == 0, kept = keeper_alive(pod.dirfd);
    int result = over || kept ? 0 : keeper_adopt(pod.dir, e);
    pod_close(&pod);
    if (result < 0)
        return -1;
    output_event("done", "\"state\":\"%s\",\"adopted\":%s", over ? "ended" : "running", over || kept ? "false" : "true");
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    const char *dir;
    bool keeper = false;
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"keeper", 'b', &keeper, false, "for the engine itself: be the keeper, do not return"},
    };
    if (options_parse(argc, argv, "native adopt --pod POD", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    if (keeper)
        exit(keeper_main(dir));
    return adopt(dir, e);
}

int verb_adopt(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
