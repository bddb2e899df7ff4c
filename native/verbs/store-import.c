/* native store-import: takes a stream of store-export, checks every digest, commits. */
#include "../store/stream.h"
#include "store-common.h"
#include "verbs.h"

static int import_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    const struct option_spec specs[] = {{"store", 'd', &dir, true, "the store; made when it is not there"}};
    struct store *s = NULL;
    struct stream_result r;
    if (plain_parse(argc, argv, "native store-import --store DIR < STREAM", specs, ARRAY_LENGTH(specs), e) ||
        store_open(dir, true, &s, e))
        return -1;
    int result = stream_receive(s, 0, &r, e);
    store_close(s);
    if (!result)
        output_event("done", "\"chunks\":%lu,\"raw_bytes\":%lu,\"stored_bytes\":%lu", r.chunks, r.raw_bytes, r.stored_bytes);
    return result;
}

int verb_store_import(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(import_run(argc, argv, &e), &e);
}
