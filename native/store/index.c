/* See index.h. Open addressing; digests are as good as random, so their first bytes are the hash. */
#include "index.h"

#include <stdlib.h>
#include <string.h>

void index_free(struct index *x)
{
    free(x->places);
    free(x->slots);
    *x = (struct index){0};
}

static uint32_t *slot_of(const struct index *x, const struct digest *digest)
{
    uint64_t hash;
    memcpy(&hash, digest->bytes, sizeof hash);
    for (size_t i = hash & (x->slot_count - 1);; i = (i + 1) & (x->slot_count - 1)) {
        uint32_t number = x->slots[i];
        if (!number || memcmp(&x->places[number - 1].digest, digest, sizeof *digest) == 0)
            return &x->slots[i];
    }
}

static void slots_rebuild(struct index *x, size_t slot_count)
{
    free(x->slots);
    x->slots = xcalloc(slot_count, sizeof *x->slots);
    x->slot_count = slot_count;
    for (size_t i = 0; i < x->count; i++)
        *slot_of(x, &x->places[i].digest) = (uint32_t)i + 1;
}

void index_reserve(struct index *x, size_t more)
{
    size_t want = x->count + more;
    CHECK(want < UINT32_MAX / 2);
    if (want > x->room) {
        x->room = want > 2 * x->room ? want : 2 * x->room;
        x->places = xrealloc(x->places, x->room, sizeof *x->places);
    }
    size_t slots = x->slot_count ? x->slot_count : 1024;
    while (slots < 2 * want)
        slots *= 2;
    if (slots != x->slot_count)
        slots_rebuild(x, slots);
}

struct place *index_find(const struct index *x, const struct digest *digest)
{
    if (!x->slot_count)
        return NULL;
    uint32_t number = *slot_of(x, digest);
    struct place *found = number ? &x->places[number - 1] : NULL;
    return found && found->state != PLACE_GONE ? found : NULL;
}

bool index_add(struct index *x, const struct place *place)
{
    index_reserve(x, 1);
    uint32_t *slot = slot_of(x, &place->digest);
    if (*slot && x->places[*slot - 1].state != PLACE_GONE)
        return false;
    if (!*slot)
        *slot = (uint32_t)++x->count;
    x->places[*slot - 1] = *place;
    return true;
}
