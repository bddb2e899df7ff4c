/* What a removal would free, without removing: one walk over all images says of each chunk who needs it. See store.h.
 * While it walks, a chunk's entry keeps in `pack` the one group that needs it, or SHARED, and in `flags` whether an image of no group does. */
#include <stdlib.h>
#include <string.h>

#include "gc.h"
#include "image/image.h"
#include "internal.h"

#define SHARED UINT32_MAX
#define NO_GROUP (UINT32_MAX - 1)

struct frees {
    const struct frees_member *members;
    size_t count;
    uint32_t group;          /* of the image that is being read */
    struct index needed;
};

static int chunk_need(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    struct frees *f = ctx;
    (void)len, (void)e;
    uint32_t outside = f->group == NO_GROUP;
    struct place p = {.digest = *digest, .state = PLACE_READY, .pack = f->group, .flags = outside};
    if (digest_is_zero(digest) || index_add(&f->needed, &p))
        return 0;
    struct place *known = index_find(&f->needed, digest);
    known->pack = known->pack == f->group ? f->group : SHARED;
    known->flags |= outside;
    return 0;
}

static uint32_t group_of(const struct frees *f, const char *dir)
{
    const char *slash = strrchr(dir, '/');
    struct digest digest;
    struct err none;
    if (digest_parse(slash ? slash + 1 : dir, &digest, &none))
        return NO_GROUP;
    for (size_t k = 0; k < f->count; k++)
        if (memcmp(&f->members[k].image, &digest, sizeof digest) == 0)
            return f->members[k].group;
    return NO_GROUP;
}

static int image_need(void *ctx, const char *dir, struct err *e)
{
    struct frees *f = ctx;
    struct image image;
    if (image_read(dir, &image, NULL, e))
        return e->code == E_NO_INPUT ? 0 : -1; /* no image here, or removed since */
    f->group = group_of(f, dir);
    int result = image_each_chunk(&image, chunk_need, f, e);
    image_free(&image);
    return result;
}

int store_frees(const char *dir, const char *images_dir, const struct frees_member *members, size_t member_count, uint64_t *frees,
                size_t group_count, uint64_t *together, struct err *e)
{
    struct store *s = NULL;
    struct frees f = {.members = members, .count = member_count};
    *together = 0;
    memset(frees, 0, group_count * sizeof *frees);
    for (size_t k = 0; k < member_count; k++)
        CHECK(members[k].group < group_count);
    int result = store_open(dir, false, &s, e) || images_walk(images_dir, image_need, &f, e) ? -1 : 0;
    for (size_t k = 0; k < f.needed.count && !result; k++) {
        const struct place *p = &f.needed.places[k], *stored = index_find(&s->index, &p->digest);
        uint64_t bytes = stored ? stored->stored : 0;
        *together += p->flags ? 0 : bytes;
        if (p->pack < group_count)
            frees[p->pack] += bytes;
    }
    index_free(&f.needed);
    store_close(s);
    return result ? err_wrap(e, "store %s", dir) : 0;
}
