/* See simple.h. */
#include "simple.h"

#include <unistd.h>

int verb_outcome(int argc, char **argv, int (*run)(int argc, char **argv, struct err *e))
{
    struct err e = {0};
    output_open(STDOUT_FILENO);
    if (run(argc, argv, &e) == 0)
        return E_OK;
    output_failed(&e);
    return (int)e.code;
}

int options_pod(int argc, char **argv, const char *usage, const char **dir, struct err *e)
{
    int rest;
    const struct option_spec options[] = {{"pod", 'd', dir, true, "directory of the pod"}};
    if (options_parse(argc, argv, usage, options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    return rest == argc ? 0 : err_set(e, E_USAGE, "'%s' is too much (%s)", argv[rest], usage);
}
