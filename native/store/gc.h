/* The steps of store_gc (gc.c): mark (gc_mark.c), then keep, remove or rewrite each pack (gc_pack.c).
 * All of it under the store's lock, alone; killed at any instant it leaves a whole store, at worst with a pack twice. */
#pragma once
#include "internal.h"

/* The chunks that must stay. `state` PLACE_READY: already kept in some pack, PLACE_PENDING: not met yet. */
struct marks {
    struct index index;
};
/* Calls fn for images_dir and every directory below it. */
MUST_CHECK int images_walk(const char *images_dir, int (*fn)(void *ctx, const char *dir, struct err *e), void *ctx, struct err *e);
/* Every chunk that a manifest below images_dir refers to. A manifest that cannot be read fails all (its chunks
 * would be swept). */
MUST_CHECK int marks_collect(struct marks *m, const char *images_dir, struct err *e);

/* Live chunks of several packs on their way into one new pack. */
struct rewrite {
    struct store *store;
    int fd;                       /* -1: none begun */
    char name[PACK_NAME_BYTES];   /* ".part" until committed */
    uint64_t bytes;
    struct place *places;
    size_t place_count;
    struct pack **sources;        /* to be removed once the new pack is committed */
    size_t source_count;
};
/* Copy the chunks with keep[i] from the pack. E_BAD_IMAGE: one is damaged, the pack must stay as it is. */
MUST_CHECK int rewrite_add(struct rewrite *r, struct pack *source, int fd, const struct place *places, size_t count,
                           const bool *keep, struct err *e);
/* Commit the new pack, then remove the sources. */
MUST_CHECK int rewrite_end(struct rewrite *r, struct err *e);
void rewrite_abandon(struct rewrite *r);
