/* Memory and files through the store: cut into chunks, copied now and named later, with their holes; fields of numbers compress. */
#include "tests/store_numbers.h"

#include <sys/stat.h>

#include "store/crew.h"

static uint8_t *memory;
static const size_t memory_len = 3 * CHUNK_MAX + 5000;

static int memory_source(void *ctx, const struct store_part *parts, size_t count, struct err *e)
{
    (void)e;
    for (size_t k = 0; k < count; k++)
        memcpy(parts[k].out, memory + (parts[k].at - *(uint64_t *)ctx), parts[k].len);
    return 0;
}

static int memory_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    uint8_t *to = *(uint8_t **)ctx + (at - 0x7000 - CHUNK_MAX);
    if (data)
        memcpy(to, data, len);
    else
        memset(to, 0, len);
    return 0;
}

static void ranges_are_cut_and_come_back(const char *dir)
{
    struct err e = {0};
    struct store *s = opened(dir, true);
    memory = xcalloc(memory_len, 1);
    random_fill(memory, memory_len);
    memset(memory + CHUNK_MAX - 0x7000, 0, CHUNK_MAX);
    uint64_t base = 0x7000 + CHUNK_MAX, stored = 0;
    struct store_range ranges[] = {{base, CHUNK_MAX, 0}, {base + CHUNK_MAX, memory_len - CHUNK_MAX, 0}};
    struct extent *x = NULL;
    size_t count = 0;
    bool put = !store_put_ranges(s, ranges, 2, memory_source, &base, &x, &count, &stored, &e);
    bool aligned = true, ordered = true;
    for (size_t i = 0; i < count; i++) {
        aligned = aligned && x[i].len <= CHUNK_MAX && x[i].at / CHUNK_MAX == (x[i].at + x[i].len - 1) / CHUNK_MAX;
        ordered = ordered && (i == 0 || x[i].at == x[i - 1].at + x[i - 1].len);
    }
    ok(put && aligned && ordered && stored > 2 * CHUNK_MAX, "ranges are cut at multiples of a chunk, in order");
    uint8_t *back = xcalloc(memory_len, 1);
    memset(back, 7, memory_len);
    ok(!store_get_ranges(s, x, count, memory_sink, &back, &e) && memcmp(back, memory, memory_len) == 0, "and come back through the sink, zeros too");
    struct extent *again = NULL;
    size_t again_count = 0;
    uint64_t again_stored = 0;
    ok(!store_put_extents(s, base + CHUNK_MAX - 0x7000, memory + CHUNK_MAX - 0x7000, memory_len - CHUNK_MAX + 0x7000, &again,
                          &again_count, &again_stored, &e) && again_stored == 0,
       "content at the same place in another range meets its old chunks");
    ok(!store_commit(s, &e), "committed");
    store_close(s);
    free(x);
    free(again);
    free(back);
    free(memory);
}

static int piece_fails(void *ctx, size_t worker, size_t i, struct err *e)
{
    (void)worker;
    __atomic_add_fetch((long *)ctx, 1, __ATOMIC_RELAXED);
    return i == 50 ? err_set(e, E_IO, "piece 50") : 0;
}

static void a_crew_stops_at_a_failure(void)
{
    struct err e = {0};
    long done = 0;
    int result = crew_work(100000, piece_fails, &done, &e);
    ok(result == -1 && strcmp(e.message, "piece 50") == 0 && done >= 50 && done < 100000,
       "a crew gives back the failure of a piece and stops soon (%ld of 100000 done)", done);
}

static void files_keep_their_holes(const char *dir)
{
    struct err e = {0};
    AUTO_FREE char *from = xasprintf("%s.from", dir), *to = xasprintf("%s.to", dir);
    AUTO_CLOSE int in = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600), out = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint64_t size = 64ul << 20, stored = 0;
    uint8_t data[10000];
    random_fill(data, sizeof data);
    if (ftruncate(in, (off_t)size) || pwrite(in, data, sizeof data, 20 << 20) < 0 || pwrite(in, data, 10, (off_t)size - 10) < 0)
        abort();
    struct store *s = opened(dir, true);
    struct extent *x = NULL;
    size_t count = 0;
    int put = store_put_file(s, in, size, &x, &count, &stored, &e);
    ok(!put && count == 2 && stored < 40000, "a sparse file of 64 MiB takes %zu extents", count);
    ok(!store_get_file(s, out, size, x, count, &e), "it is written back");
    AUTO_FREE char *compare = xasprintf("cmp -s %s %s", from, to);
    struct stat st;
    fstat(out, &st);
    ok(system(compare) == 0 && st.st_blocks * 512 < 100000, "with the same content and its holes (%ld blocks)", (long)st.st_blocks);
    struct extent far = {.at = size - 5, .len = 10, .digest = x[0].digest};
    ok(store_get_file(s, out, size, &far, 1, &e) == -1 && e.code == E_BAD_IMAGE, "content behind the end of a file is refused");
    unlink(from);
    unlink(to);
    store_close(s);
    free(x);
}

static int source_of_pattern(void *ctx, const struct store_part *parts, size_t count, struct err *e)
{
    (void)e;
    for (size_t k = 0; k < count; k++)
        memcpy(parts[k].out, (uint8_t *)ctx + parts[k].at, parts[k].len);
    return 0;
}

static int sink_of_pattern(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    memcpy((uint8_t *)ctx + at, data ? data : (uint8_t[CHUNK_MAX]){0}, len);
    return 0;
}

/* Fields of numbers compress when bytes of one place stand together; noise does not, and is stored as it is. Odd lengths come back too. */
static void fields_of_numbers_compress(const char *dir)
{
    struct err e = {0};
    struct store *s = NULL;
    static double field[CHUNK_MAX / 8];
    static uint8_t back[CHUNK_MAX], noise[CHUNK_MAX];
    struct digest d;
    uint64_t stored = 0;
    for (size_t k = 0; k < CHUNK_MAX / 8; k++)
        field[k] = 300.0 + (double)k * 1e-4 + (double)(random_next() >> 40) * 1e-9;
    random_fill(noise, sizeof noise);
    bool put = !store_open(dir, true, &s, &e) && !store_put(s, field, sizeof field, &d, &stored, &e);
    ok(put && stored < sizeof field * 3 / 4, "a field of numbers takes %lu of %zu bytes", stored, sizeof field);
    ok(!store_get(s, &d, back, sizeof field, &e) && memcmp(back, field, sizeof field) == 0, "and comes back %s", e.message);
    put = !store_put(s, (uint8_t *)field + 3, sizeof field - 8, &d, &stored, &e);
    ok(put && !store_get(s, &d, back, sizeof field - 8, &e) && memcmp(back, (uint8_t *)field + 3, sizeof field - 8) == 0, "at any offset %s", e.message);
    put = !store_put(s, noise, sizeof noise, &d, &stored, &e);
    ok(put && stored == sizeof noise, "noise is stored as it is");
    put = !store_commit(s, &e);
    store_close(s);
    struct store *again = NULL;
    ok(put && !store_open(dir, false, &again, &e) && !store_get(again, &d, back, sizeof noise, &e) && memcmp(back, noise, sizeof noise) == 0,
       "also for another reader %s", e.message);
    store_close(again);
}

/* The source changes after it was copied, and what was copied counts; what found no room is put at once. */
static void copies_are_named_later(const char *dir)
{
    struct err e = {0};
    struct store *s = NULL;
    enum { BYTES = 9 << 20, ROOM = 2 << 20 };
    uint8_t *data = xcalloc(1, BYTES), *was = xcalloc(1, BYTES), *back = xcalloc(1, BYTES);
    random_fill(data, BYTES);
    memset(data + 3 * CHUNK_MAX, 0, CHUNK_MAX);
    memcpy(was, data, BYTES);
    struct extent *x = NULL;
    struct store_range ranges[] = {{0, BYTES, 0}};
    struct digest *digests[BYTES / CHUNK_MAX];
    uint64_t lens[BYTES / CHUNK_MAX], stored = 0;
    size_t count = 0, tokens = 0, named = 0, zeros = 0;
    bool copied = !store_open(dir, true, &s, &e) && !store_later_begin(s, ROOM, ROOM, &e) &&
                  !store_put_ranges(s, ranges, 1, source_of_pattern, data, &x, &count, &stored, &e);
    memset(data, 0x55, BYTES);
    for (size_t k = 0; k < count; k++) {
        zeros += digest_is_zero(&x[k].digest);
        named += !store_later_is(&x[k].digest) && !digest_is_zero(&x[k].digest);
        if (store_later_is(&x[k].digest)) {
            digests[tokens] = &x[k].digest;
            lens[tokens++] = x[k].len;
        }
    }
    ok(copied && count == BYTES / CHUNK_MAX && zeros == 1 && tokens >= ROOM / CHUNK_MAX && named > 0 && named + tokens + 1 == count,
       "as much as there is room for is only copied (%zu of %zu) %s", tokens, count, e.message);
    ok(!store_later_put(s, digests, lens, tokens, &stored, &e) && !store_commit(s, &e) && !store_get_ranges(s, x, count, sink_of_pattern, back, &e) &&
           memcmp(back, was, BYTES) == 0, "what was copied comes back, whatever its source became %s", e.message);
    store_later_end(s);
    store_close(s);
    free(data), free(was), free(back), free(x);
}

int main(void)
{
    seed_begin();
    const char *base = tap_dir_make();
    AUTO_FREE char *dir = xasprintf("%s/a/b/store", base);
    ranges_are_cut_and_come_back(dir);
    a_crew_stops_at_a_failure();
    files_keep_their_holes(dir);
    copies_are_named_later(dir);
    fields_of_numbers_compress(dir);
    return done_testing();
}
