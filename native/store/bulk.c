/* Many chunks at once: ranges of memory or of a file through a crew of threads. See store.h.
 * The pieces are laid out first, as extents in their final order; the crew then fills in the digests. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crew.h"
#include "internal.h"

#define COPY_ALONE_BYTES (2ul << 20)
#define BATCHES 16 /* at least, for the processors to share */

struct group {                       /* of extents that one chunk serves: places in the order */
    size_t first, count;
};
struct bulk {
    struct store *store;
    struct extent *pieces;
    const struct extent *wanted;     /* of a get */
    size_t *order;                   /* the same by chunk */
    struct group *groups;
    store_source *source;
    store_sink *sink;
    const uint8_t *memory;           /* content of address `base`, instead of source */
    uint64_t base;
    void *ctx;
    struct scratch *rooms[CREW_MAX], *second_rooms[CREW_MAX];
    size_t group_count, piece_count; /* pieces: of a put */
    _Atomic uint64_t stored_bytes;
    size_t batch;                    /* pieces that are copied together, at most STORE_PARTS_MAX */
    bool alone;                      /* by the caller itself: to begin threads would take longer */
};

static struct scratch *room_of(struct bulk *b, size_t worker)
{
    if (!b->rooms[worker])
        b->rooms[worker] = scratch_take(b->store);
    return b->rooms[worker];
}

static struct scratch *second_room_of(struct bulk *b, size_t worker)
{
    if (!b->second_rooms[worker])
        b->second_rooms[worker] = scratch_take(b->store);
    return b->second_rooms[worker];
}

static int bulk_work(struct bulk *b, size_t count, int (*piece)(void *, size_t, size_t, struct err *), struct err *e)
{
    int result = 0;
    for (size_t i = 0; b->alone && i < count && result == 0; i++)
        result = piece(b, 0, i, e);
    if (!b->alone) {
        belt_crew_begin(b->store);
        result = crew_work(count, piece, b, e);
        belt_crew_end(b->store);
    }
    for (size_t i = 0; i < CREW_MAX; i++) {
        if (b->rooms[i])
            scratch_give(b->store, b->rooms[i]);
        if (b->second_rooms[i])
            scratch_give(b->store, b->second_rooms[i]);
    }
    return result;
}

/* ---- put */
static int piece_read(struct bulk *b, const struct extent *x, void *to, struct err *e)
{
    return b->source(b->ctx, &(struct store_part){x->at, to, x->len}, 1, e);
}

static int piece_copy(struct bulk *b, struct extent *x, uint8_t *to, struct err *e)
{
    if (b->memory)
        memcpy(to, b->memory + (x->at - b->base), x->len);
    else if (piece_read(b, x, to, e))
        return -1;
    if (all_zero(to, x->len))
        x->digest = (struct digest){0};
    return 0;
}

/* All of them have their places: they are read together. */
static int batch_copy(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct bulk *b = ctx;
    struct store_part parts[STORE_PARTS_MAX] = {0};
    struct extent *x = b->pieces + i * b->batch;
    size_t count = b->piece_count - i * b->batch < b->batch ? b->piece_count - i * b->batch : b->batch;
    (void)worker;
    for (size_t k = 0; k < count; k++)
        parts[k] = (struct store_part){x[k].at, later_copy(b->store, &x[k].digest, x[k].len), x[k].len};
    if (b->source(b->ctx, parts, count, e))
        return -1;
    for (size_t k = 0; k < count; k++)
        if (all_zero(parts[k].out, x[k].len))
            x[k].digest = (struct digest){0};
    return 0;
}

/* The content of a piece, where it lies or in this room. */
static int piece_content(struct bulk *b, struct extent *x, struct scratch *room, struct store_item *out, struct err *e)
{
    *out = (struct store_item){.data = b->memory ? b->memory + (x->at - b->base) : room->raw, .len = x->len};
    return b->memory ? 0 : piece_read(b, x, room->raw, e);
}

static int piece_put(struct bulk *b, size_t worker, size_t i, struct err *e)
{
    struct extent *x = &b->pieces[i];
    uint8_t *later = later_copy(b->store, &x->digest, x->len);
    if (later)
        return piece_copy(b, x, later, e);
    struct store_item item;
    struct scratch *room = room_of(b, worker);
    if (piece_content(b, x, room, &item, e) || put_chunk(b->store, room, item.data, item.len, &x->digest, &item.stored_bytes, e))
        return -1;
    b->stored_bytes += item.stored_bytes;
    return 0;
}

/* Two at a time: their digests are computed together. */
static int pieces_put(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct bulk *b = ctx;
    size_t one = 2 * i, other = 2 * i + 1;
    if (other >= b->piece_count)
        return piece_put(b, worker, one, e);
    struct extent *x = &b->pieces[one], *y = &b->pieces[other];
    if (later_copy(b->store, &x->digest, x->len) || later_copy(b->store, &y->digest, y->len))
        return piece_put(b, worker, one, e) ? -1 : piece_put(b, worker, other, e);
    struct store_item items[2];
    if (piece_content(b, x, room_of(b, worker), &items[0], e) || piece_content(b, y, second_room_of(b, worker), &items[1], e) ||
        put_two_chunks(b->store, room_of(b, worker), (struct store_item *const[]){&items[0], &items[1]}, e))
        return -1;
    x->digest = items[0].digest;
    y->digest = items[1].digest;
    b->stored_bytes += items[0].stored_bytes + items[1].stored_bytes;
    return 0;
}

static void range_cut(struct store_range r, struct extent **extents, size_t *count)
{
    while (r.len) {
        uint64_t len = CHUNK_MAX - (r.at - r.origin) % CHUNK_MAX;
        len = len < r.len ? len : r.len;
        *(struct extent *)list_add((void **)extents, count, sizeof **extents) = (struct extent){.at = r.at, .len = len};
        r.at += len;
        r.len -= len;
    }
}

static int ranges_put(struct bulk *b, const struct store_range *ranges, size_t range_count, struct extent **extents,
                      size_t *count, uint64_t *stored_bytes, struct err *e)
{
    size_t first = *count;
    for (size_t i = 0; i < range_count; i++)
        range_cut(ranges[i], extents, count);
    b->pieces = *extents + first;
    uint64_t bytes = 0;
    for (size_t i = first; i < *count; i++)
        bytes += (*extents)[i].len;
    b->alone = b->store->later.arena && bytes <= COPY_ALONE_BYTES;
    bool all_later = !b->memory;
    for (size_t i = first; i < *count; i++) {
        later_reserve(b->store, &(*extents)[i].digest, (*extents)[i].len);
        all_later = all_later && store_later_is(&(*extents)[i].digest);
    }
    b->piece_count = *count - first;
    b->batch = b->piece_count / BATCHES + 1 < STORE_PARTS_MAX ? b->piece_count / BATCHES + 1 : STORE_PARTS_MAX;
    size_t batches = (b->piece_count + b->batch - 1) / b->batch;
    int result = 0;
    if (*count > first)
        result = all_later ? bulk_work(b, batches, batch_copy, e) : bulk_work(b, (b->piece_count + 1) / 2, pieces_put, e);
    *stored_bytes += b->stored_bytes;
    return result ? err_wrap(e, "store %s: put", b->store->dir) : 0;
}

int store_put_ranges(struct store *s, const struct store_range *ranges, size_t range_count, store_source *source, void *ctx,
                     struct extent **extents, size_t *count, uint64_t *stored_bytes, struct err *e)
{
    struct bulk b = {.store = s, .source = source, .ctx = ctx};
    return ranges_put(&b, ranges, range_count, extents, count, stored_bytes, e);
}

int store_put_extents(struct store *s, uint64_t at, const void *data, size_t len, struct extent **extents, size_t *count,
                      uint64_t *stored_bytes, struct err *e)
{
    struct bulk b = {.store = s, .memory = data, .base = at};
    struct store_range all = {at, len, 0};
    return ranges_put(&b, &all, 1, extents, count, stored_bytes, e);
}

static int items_put(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct bulk *b = ctx;
    struct store_item *item = (struct store_item *)b->ctx + 2 * i;
    if (2 * i + 1 < b->piece_count)
        return put_two_chunks(b->store, room_of(b, worker), (struct store_item *const[]){item, item + 1}, e);
    return put_chunk(b->store, room_of(b, worker), item->data, item->len, &item->digest, &item->stored_bytes, e);
}

int store_put_many(struct store *s, struct store_item *items, size_t count, struct err *e)
{
    struct bulk b = {.store = s, .ctx = items, .piece_count = count};
    for (size_t i = 0; i < count; i++)
        CHECK(items[i].len <= CHUNK_MAX);
    return bulk_work(&b, (count + 1) / 2, items_put, e) ? err_wrap(e, "store %s: put", s->dir) : 0;
}

/* ---- files */
static int file_source(void *ctx, const struct store_part *parts, size_t count, struct err *e)
{
    for (size_t k = 0; k < count; k++)
        if (io_pread_all(*(int *)ctx, parts[k].out, parts[k].len, parts[k].at, e) < 0)
            return -1;
    return 0;
}

/* The next stretch of data at or after `at`; false when there is none. Where holes are unknown all is data. */
static bool data_next(int fd, uint64_t at, uint64_t size, struct store_range *out)
{
    off_t begin = lseek(fd, (off_t)at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO)
        return false;
    off_t end = begin < 0 ? -1 : lseek(fd, begin, SEEK_HOLE);
    uint64_t from = begin < 0 ? at : (uint64_t)begin, to = end < 0 ? size : (uint64_t)end;
    to = to < size ? to : size;
    *out = (struct store_range){from, from < to ? to - from : 0, 0};
    return from < to;
}

static void holes_drop(struct extent *extents, size_t first, size_t *count)
{
    size_t kept = first;
    for (size_t i = first; i < *count; i++)
        if (!digest_is_zero(&extents[i].digest))
            extents[kept++] = extents[i];
    *count = kept;
}

int store_put_file(struct store *s, int fd, uint64_t size, struct extent **extents, size_t *count, uint64_t *stored_bytes,
                   struct err *e)
{
    struct store_range *ranges = NULL, r = {0};
    size_t range_count = 0, first = *count;
    for (uint64_t at = 0; at < size && data_next(fd, at, size, &r); at = r.at + r.len)
        *(struct store_range *)list_add((void **)&ranges, &range_count, sizeof r) = r;
    int result = store_put_ranges(s, ranges, range_count, file_source, &fd, extents, count, stored_bytes, e);
    free(ranges);
    if (!result)
        holes_drop(*extents, first, count);
    return result;
}

/* ---- get: extents of one chunk are served by one reading of it */
static int order_by_chunk(const void *a, const void *b, void *ctx)
{
    const struct extent *all = ctx, *x = &all[*(const size_t *)a], *y = &all[*(const size_t *)b];
    int order = memcmp(&x->digest, &y->digest, sizeof x->digest);
    return order ? order : *(const size_t *)a < *(const size_t *)b ? -1 : 1;
}

static int order_by_first(const void *a, const void *b, void *ctx)
{
    const struct group *x = a, *y = b;
    const size_t *order = ctx;
    return order[x->first] < order[y->first] ? -1 : order[x->first] > order[y->first];
}

static uint64_t chunk_len(const struct extent *x)
{
    return x->whole ? x->whole : x->len;
}

static bool is_same_chunk(const struct extent *x, const struct extent *y)
{
    return !digest_is_zero(&x->digest) && memcmp(&x->digest, &y->digest, sizeof x->digest) == 0 && chunk_len(x) == chunk_len(y);
}

static size_t groups_make(struct bulk *b, size_t count)
{
    size_t groups = 0;
    for (size_t i = 0; i < count; i++)
        b->order[i] = i;
    qsort_r(b->order, count, sizeof *b->order, order_by_chunk, (void *)(uintptr_t)b->wanted);
    for (size_t i = 0; i < count; i++)
        if (i && is_same_chunk(&b->wanted[b->order[i]], &b->wanted[b->order[i - 1]]))
            b->groups[groups - 1].count++;
        else
            b->groups[groups++] = (struct group){i, 1};
    qsort_r(b->groups, groups, sizeof *b->groups, order_by_first, b->order); /* the disk is read forwards */
    return groups;
}

static const struct extent *first_of(const struct bulk *b, size_t group)
{
    return &b->wanted[b->order[b->groups[group].first]];
}

/* Hand the content of a chunk to all who want it. */
static int group_sink(struct bulk *b, size_t group, const uint8_t *content, struct err *e)
{
    const struct group *g = &b->groups[group];
    for (size_t k = 0; k < g->count; k++) {
        const struct extent *x = &b->wanted[b->order[g->first + k]];
        if (x->skip > chunk_len(x) || x->len > chunk_len(x) - x->skip)
            return err_set(e, E_BAD_IMAGE, "an extent outside of its chunk");
        if (b->sink(b->ctx, x->at, content + x->skip, x->len, e))
            return -1;
    }
    return 0;
}

static int group_get(struct bulk *b, size_t worker, size_t group, struct err *e)
{
    const struct extent *x = first_of(b, group);
    if (digest_is_zero(&x->digest))
        return b->sink(b->ctx, x->at, NULL, x->len, e);
    struct scratch *room = room_of(b, worker);
    if (get_chunk(b->store, room, &x->digest, room->raw, chunk_len(x), e))
        return -1;
    return group_sink(b, group, room->raw, e);
}

/* Two at a time: their digests are computed together. */
static int groups_get(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct bulk *b = ctx;
    size_t one = 2 * i, other = 2 * i + 1;
    if (other == b->group_count)
        return group_get(b, worker, one, e);
    const struct extent *x = first_of(b, one), *y = first_of(b, other);
    if (digest_is_zero(&x->digest) || digest_is_zero(&y->digest))
        return group_get(b, worker, one, e) ? -1 : group_get(b, worker, other, e);
    struct scratch *const rooms[2] = {room_of(b, worker), second_room_of(b, worker)};
    const struct digest *const digests[2] = {&x->digest, &y->digest};
    const size_t lens[2] = {chunk_len(x), chunk_len(y)};
    if (get_two_chunks(b->store, rooms, digests, lens, e))
        return -1;
    return group_sink(b, one, rooms[0]->raw, e) ? -1 : group_sink(b, other, rooms[1]->raw, e);
}

int store_get_ranges(struct store *s, const struct extent *extents, size_t count, store_sink *sink, void *ctx, struct err *e)
{
    AUTO_FREE size_t *order = xcalloc(count + 1, sizeof *order);
    AUTO_FREE struct group *groups = xcalloc(count + 1, sizeof *groups);
    struct bulk b = {.store = s, .wanted = extents, .sink = sink, .ctx = ctx, .order = order, .groups = groups};
    b.group_count = count ? groups_make(&b, count) : 0;
    return count ? bulk_work(&b, (b.group_count + 1) / 2, groups_get, e) : 0;
}

static int file_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    return data ? io_pwrite_all(*(int *)ctx, data, len, at, e) : 0;
}

int store_get_file(struct store *s, int fd, uint64_t size, const struct extent *extents, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (extents[i].at > size || extents[i].len > size - extents[i].at)
            return err_set(e, E_BAD_IMAGE, "content behind the end of a file of %lu bytes", size);
    if (size > INT64_MAX)
        return err_set(e, E_BAD_IMAGE, "a file of %lu bytes", size);
    if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0)
        return err_errno(e, "set the length of a file to %lu", size);
    return store_get_ranges(s, extents, count, file_sink, &fd, e);
}
