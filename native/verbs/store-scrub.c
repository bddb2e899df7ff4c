/* native store-scrub: reads a pack again and gives up what is damaged, so that it is fetched again from a replica. */
#include "store-common.h"
#include "verbs.h"

static int scrub_run(int argc, char **argv, struct err *e)
{
    const char *store = NULL, *pack = NULL;
    uint64_t bytes_per_s = 0;
    const struct option_spec specs[] = {
        {"store", 'd', &store, true, "the store"},
        {"pack", 's', &pack, true, "a file of its packs/"},
        {"bytes-per-s", 'u', &bytes_per_s, false, "read no faster (0: as fast as it goes)"},
    };
    struct scrub_result r;
    if (plain_parse(argc, argv, "native store-scrub --store DIR --pack NAME [--bytes-per-s N]", specs, ARRAY_LENGTH(specs), e) ||
        store_scrub(store, pack, bytes_per_s, &r, e))
        return -1;
    output_event("done", "\"chunks\":%lu,\"bytes\":%lu,\"damaged\":%lu,\"unreadable\":%s", r.chunks, r.bytes, r.damaged,
                 r.unreadable ? "true" : "false");
    return 0;
}

int verb_store_scrub(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(scrub_run(argc, argv, &e), &e);
}
