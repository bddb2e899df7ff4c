/* native gc: removes the chunks that no image refers to. */
#include "store-common.h"
#include "verbs.h"

static int gc_run(int argc, char **argv, struct err *e)
{
    const char *store = NULL, *images = NULL;
    uint64_t min_age_s = 3600;
    bool dry_run = false, shared = false;
    const struct option_spec specs[] = {
        {"store", 'd', &store, true, "the store"},
        {"images", 'd', &images, true, "every image below this directory keeps its chunks"},
        {"min-age", 'u', &min_age_s, false, "packs younger than this many seconds stay (3600)"},
        {"dry-run", 'b', &dry_run, false, "say what would go, remove nothing"},
        {"shared", 'b', &shared, false, "it must be a store that nodes share"},
    };
    struct gc_result r;
    if (plain_parse(argc, argv, "native gc --store DIR --images DIR [--min-age S] [--dry-run] [--shared]", specs, ARRAY_LENGTH(specs), e) ||
        (shared ? store_gc_shared : store_gc)(store, images, min_age_s, dry_run, &r, e))
        return -1;
    output_event("done", "\"kept_chunks\":%lu,\"removed_chunks\":%lu,\"removed_bytes\":%lu,\"packs\":%lu,\"dry_run\":%s",
                 r.kept_chunks, r.removed_chunks, r.removed_bytes, r.packs, dry_run ? "true" : "false");
    return 0;
}

int verb_gc(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(gc_run(argc, argv, &e), &e);
}
