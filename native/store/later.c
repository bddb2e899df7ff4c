/* Copy first: while a job stands still its content is only copied into an arena; names, compression and disk come when it runs on.
 * Until then an extent's digest is a token: a word that no SHA-256 will ever begin with, and the place in the arena. So extents may be
 * moved, sorted and dropped meanwhile like any others. Content beyond the room is put at once. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "crew.h"
#include "internal.h"

#define HUGE_BYTES (2ul << 20)
#define SPARE_BYTES HUGE_BYTES /* small things, for which nobody looks before: one huge page, zeroed in the pause, is a third of a millisecond */

struct token {
    uint8_t mark[16];
    uint64_t at, pad;
};
static const uint8_t mark[16] = "copied: no name";

int store_later_begin(struct store *s, uint64_t room_bytes, uint64_t expected_bytes, struct err *e)
{
    struct later *l = &s->later;
    CHECK(!l->arena && sizeof(struct token) == sizeof(struct digest));
    if (!room_bytes)
        return 0;
    l->bytes = (room_bytes + 2 * HUGE_BYTES) & ~(HUGE_BYTES - 1);
    l->arena = mmap(NULL, l->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->arena == MAP_FAILED) {
        l->arena = NULL;
        return err_errno(e, "room for %lu bytes", l->bytes);
    }
    (void)madvise(l->arena, l->bytes, MADV_HUGEPAGE);
    expected_bytes = expected_bytes < l->bytes - SPARE_BYTES ? (expected_bytes + SPARE_BYTES) & ~(PAGE_BYTES - 1) : l->bytes;
    (void)madvise(l->arena, expected_bytes, MADV_POPULATE_WRITE); /* without it the pages come one by one */
    return 0;
}

void store_later_reset(struct store *s)
{
    s->later.used = 0;
}

void store_later_end(struct store *s)
{
    if (s->later.arena)
        munmap(s->later.arena, s->later.bytes);
    s->later = (struct later){0};
}

void later_reserve(struct store *s, struct digest *token, uint64_t len)
{
    struct later *l = &s->later;
    if (!l->arena || len > l->bytes - l->used)
        return;
    struct token t = {.at = l->used};
    memcpy(t.mark, mark, sizeof mark);
    memcpy(token, &t, sizeof t);
    l->used += (len + 63) & ~63ul;
    l->used = l->used < l->bytes ? l->used : l->bytes;
}

uint8_t *later_copy(const struct store *s, const struct digest *token, uint64_t len)
{
    const struct later *l = &s->later;
    struct token t;
    memcpy(&t, token, sizeof t);
    return l->arena && store_later_is(token) && t.at <= l->bytes && len <= l->bytes - t.at ? l->arena + t.at : NULL;
}

bool store_later_is(const struct digest *digest)
{
    return memcmp(digest, mark, sizeof mark) == 0;
}

int store_later_put(struct store *s, struct digest **digests, const uint64_t *lens, size_t count, uint64_t *stored_bytes, struct err *e)
{
    AUTO_FREE struct store_item *items = xcalloc(count + 1, sizeof *items);
    for (size_t k = 0; k < count; k++) {
        items[k].data = later_copy(s, digests[k], lens[k]);
        CHECK(items[k].data);
        items[k].len = lens[k];
    }
    if (store_put_many(s, items, count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++) {
        *digests[k] = items[k].digest;
        *stored_bytes += items[k].stored_bytes;
    }
    return 0;
}
