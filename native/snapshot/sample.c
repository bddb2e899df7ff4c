/* See sample.h. Pieces of a huge page each, at equal distances through all private mappings without a file. */
#include "sample.h"

#include <string.h>

#include "../kernel/procfs.h"

#define PIECE_BYTES (2ul << 20)
#define PIECES_MAX 64ul
#define PART_MAX 16ul          /* of all */
#define TELLING_BYTES (1ul << 20)

static bool is_of_kind(const struct proc_map *m)
{
    bool named = m->path[0] && strcmp(m->path, "[heap]") != 0 && strncmp(m->path, "[anon:", 6) != 0;
    return !m->shared && !named && m->end - m->start >= PIECE_BYTES;
}

/* Where in all of these mappings together `at` is; 0 when the rest of the mapping is too small. */
static uint64_t place_of(const struct proc_maps *maps, uint64_t at)
{
    for (size_t k = 0; k < maps->count; k++) {
        const struct proc_map *m = &maps->items[k];
        uint64_t len = is_of_kind(m) ? m->end - m->start : 0;
        if (at < len) {
            uint64_t place = (m->start + at + PIECE_BYTES - 1) & ~(PIECE_BYTES - 1);
            return place + PIECE_BYTES <= m->end ? place : 0;
        }
        at -= len;
    }
    return 0;
}

void sample_arm(pid_t pid, struct page_ranges *sample, struct page_ranges *written)
{
    PROC_MAPS struct proc_maps maps = {0};
    struct err gone;
    uint64_t all = 0;
    AUTO_CLOSE int pagemap = pagemap_open(pid, &gone);
    if (pagemap < 0 || proc_maps_read(pid, false, &maps, &gone) < 0)
        return;
    for (size_t k = 0; k < maps.count; k++)
        all += is_of_kind(&maps.items[k]) ? maps.items[k].end - maps.items[k].start : 0;
    uint64_t pieces = all / PART_MAX / PIECE_BYTES < PIECES_MAX ? all / PART_MAX / PIECE_BYTES : PIECES_MAX;
    size_t from = sample->count;
    for (uint64_t k = 0; k < pieces; k++) {
        uint64_t at = place_of(&maps, all / pieces * k + all / pieces / 2);
        if (at && pagemap_written(pagemap, at, at + PIECE_BYTES, sample, &gone) < 0)
            break;
    }
    for (size_t k = from; k < sample->count; k++)
        page_ranges_add(written, sample->items[k].start, sample->items[k].end);
}

bool sample_tells_most(pid_t pid, const struct page_ranges *sample)
{
    PAGE_RANGES struct page_ranges written = {0};
    struct err gone;
    AUTO_CLOSE int pagemap = sample->count ? pagemap_open(pid, &gone) : -1;
    for (size_t k = 0; pagemap >= 0 && k < sample->count; k++)
        if (pagemap_not_armed(pagemap, sample->items[k].start, sample->items[k].end, &written, &gone) < 0)
            return false;
    uint64_t all = page_ranges_bytes(sample);
    return all >= TELLING_BYTES && page_ranges_bytes(&written) > all / 2;
}
