/* Where each chunk lies: digest -> place, in memory, for all packs of a store. Entries keep their number for the
 * life of the index; a forgotten entry stays as a tombstone until its digest comes again. Not thread-safe. */
#pragma once
#include "../image/schema.h"

enum place_flags { PLACE_LZ4 = 1, PLACE_SHUFFLED = 2 }; /* as stored in a pack's index; shuffled: the bytes of 8-byte words by their place, then lz4 */
enum place_state { PLACE_GONE, PLACE_PENDING, PLACE_READY };
struct place {
    struct digest digest;
    uint64_t offset;
    uint32_t stored, raw, flags, crc;       /* crc32c of the stored bytes */
    uint32_t pack;
    enum place_state state;
};
struct index {
    struct place *places;
    size_t count, room;
    uint32_t *slots;                        /* number of a place + 1; 0 is empty */
    size_t slot_count;
};
static inline bool place_flags_sane(uint32_t flags)
{
    return flags == 0 || flags == PLACE_LZ4 || flags == (PLACE_LZ4 | PLACE_SHUFFLED);
}
void index_free(struct index *x);
/* Makes room for `more` entries at once. */
void index_reserve(struct index *x, size_t more);
/* NULL when it is not there or forgotten. Pointers hold until the next index_add. */
struct place *index_find(const struct index *x, const struct digest *digest);
/* False when the digest is there already; then nothing changes. */
bool index_add(struct index *x, const struct place *place);
