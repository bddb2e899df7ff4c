/* native version. */
#include "../image/schema.h"
#include "simple.h"
#include "verbs.h"

#define ENGINE_VERSION "0.1.0"

static int run(int argc, char **argv, struct err *e)
{
    int rest;
    if (options_parse(argc, argv, "native version", NULL, 0, &rest, e) < 0)
        return -1;
    output_event("done", "\"version\":\"%s\",\"image_format\":%lu", ENGINE_VERSION, IMAGE_FORMAT);
    return 0;
}

int verb_version(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
