/* Every reader of foreign bytes against mutations of the corpus in fuzz/corpus: seeded, bounded, under the sanitizers.
 * FUZZ_TIMES=N runs N times as long; `--write` makes the corpus anew from valid images, packs, streams and trees. */
#include "fuzz/targets.h"

#include <dirent.h>

#include "tests/tap.h"

#define LEN_MAX 20000

/* What is freed is kept aside to see later uses of it: of 256 MiB all memory is touched, and none of it helps after a target's round. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=16:thread_local_quarantine_size_kb=64:malloc_context_size=8";
}

struct seed {
    uint8_t data[LEN_MAX];
    size_t len;
};

static size_t seeds_read(const char *target, struct seed *seeds, size_t max)
{
    AUTO_FREE char *path = xasprintf("fuzz/corpus/%s", target);
    AUTO_DIR DIR *dir = opendir(path);
    size_t count = 0;
    for (struct dirent *entry; dir && count < max && (entry = readdir(dir));) {
        AUTO_FREE char *file = xasprintf("%s/%s", path, entry->d_name);
        FILE *in = entry->d_name[0] == '.' ? NULL : fopen(file, "r");
        if (!in)
            continue;
        seeds[count].len = fread(seeds[count].data, 1, LEN_MAX, in);
        count++;
        fclose(in);
    }
    return count;
}

/* ---- mutations: bits, bytes that tend to matter, cuts, copies within and between seeds */
static void mutate(struct seed *s, const struct seed *other)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, '.', '/'};
    size_t at = s->len ? random_below(s->len) : 0, n = 1 + random_below(16), from;
    switch (random_below(6)) {
    case 0:
        s->data[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        s->data[at] = edges[random_below(sizeof edges)];
        break;
    case 2:
        s->len = random_below(8) ? s->len : at;
        break;
    case 3: /* a piece moves */
        from = random_below(s->len + 1);
        n = n < s->len - from ? n : s->len - from;
        n = n < s->len - at ? n : s->len - at;
        memmove(s->data + at, s->data + from, n);
        break;
    case 4: /* bytes go in */
        n = n < LEN_MAX - s->len ? n : LEN_MAX - s->len;
        memmove(s->data + at + n, s->data + at, s->len - at);
        random_fill(s->data + at, n);
        s->len += n;
        break;
    default: /* a piece of another seed */
        from = other->len ? random_below(other->len) : 0;
        n = n < other->len - from ? n : other->len - from;
        n = n < LEN_MAX - at ? n : LEN_MAX - at;
        memcpy(s->data + at, other->data + from, n);
        s->len = s->len > at + n ? s->len : at + n;
    }
}

static void target_fuzz(const struct target *t, uint64_t rounds)
{
    static struct seed seeds[64], now;
    size_t count = seeds_read(t->name, seeds, ARRAY_LENGTH(seeds));
    for (size_t i = 0; i < count; i++)
        t->run(seeds[i].data, seeds[i].len);
    for (uint64_t k = 0; k < rounds && count; k++) {
        now = seeds[random_below(count)];
        for (uint64_t n = 1 + random_below(6); n > 0; n--)
            mutate(&now, &seeds[random_below(count)]);
        uint8_t *exact = xcalloc(now.len, 1); /* a block of just that length: a step too far is seen */
        memcpy(exact, now.data, now.len);
        t->run(exact, now.len);
        free(exact);
    }
    ok(count > 0, "%s: %zu seeds and %lu mutations of them", t->name, count, rounds);
}

/* ---- the corpus */
static void seed_write(const char *target, const char *name, const void *data, size_t len)
{
    struct err e = {0};
    AUTO_FREE char *dir = xasprintf("fuzz/corpus/%s", target), *path = xasprintf("%s/%s", dir, name);
    FILE *out = NULL;
    if (io_mkdirs(dir, 0755, &e) || !(out = fopen(path, "w")) || (len && fwrite(data, len, 1, out) != 1))
        abort();
    fclose(out);
}

static void random_number(uint64_t *out)
{
    *out = random_next() >> random_below(64);
}

static char *random_text(void)
{
    static const char *const texts[] = {"", "a", "a/b", "a/b/c", "/bin/sh", ".", "\xff\xfe", "user.note", "eth0"};
    return xstrdup(texts[random_below(ARRAY_LENGTH(texts))]);
}

#define STRUCT(name) \
    static void name##_random(struct name *x) \
    {
#define END(name) }
#define U(field) random_number(&x->field);
#define I(field) x->field = (int64_t)random_below(1000) - 500;
#define S(field) x->field = random_text();
#define B(field) bytes_set(&x->field, "0123456789abcdef", random_below(17));
#define D(field) random_fill(&x->field, sizeof x->field);
#define L(type, field) \
    for (uint64_t n = random_below(3); n > 0; n--) \
        type##_random(LIST_ADD(x, field));
#define O(type, field) type##_random(&x->field);
#include "image/schema.def"

static void images_write(void)
{
    for (int k = 0; k < 4; k++) {
        struct image image = {0};
        AUTO_BUF struct buf raw = {0}, file = {0};
        AUTO_FREE char *name = xasprintf("image-%d", k);
        if (k)
            image_random(&image);
        image.format = IMAGE_FORMAT;
        image_encode(&raw, &image);
        image_encode_file(&image, &file);
        seed_write("codec", name, raw.data, raw.len);
        seed_write("manifest", name, file.data, file.len);
        image_free(&image);
    }
}

static void packs_write(void)
{
    uint8_t header[PACK_HEADER_BYTES];
    for (uint64_t k = 0; k < 3; k++) {
        AUTO_BUF struct buf pack = {0}, tail = {0};
        AUTO_FREE char *name = xasprintf("pack-%lu", k);
        struct place places[2] = {{.offset = 16, .stored = 10, .raw = 10}, {.offset = 26, .stored = 10, .raw = 100, .flags = PLACE_LZ4}};
        random_fill(&places[0].digest, 32);
        random_fill(&places[1].digest, 32);
        pack_header(header);
        buf_add(&pack, header, sizeof header);
        buf_add(&pack, "01234567890123456789", 10 * k);
        pack_tail(&tail, places, k, 16 + 10 * k);
        buf_add(&pack, tail.data, tail.len);
        seed_write("pack", name, pack.data, pack.len);
    }
}

static void streams_write(void)
{
    static struct packed packed;
    AUTO_BUF struct buf stream = {0};
    uint8_t content[3000] = {1}, zeros[48] = {0};
    buf_add(&stream, "COSCHNKS", 8);
    for (uint32_t k = 0; k < 2; k++) {
        struct digest d;
        uint32_t numbers[4];
        random_fill(content, k ? sizeof content / 4 : 300);
        sha256_of(content, sizeof content, &d);
        chunk_pack(&packed, content, sizeof content);
        memcpy(numbers, (uint32_t[]){sizeof content, packed.stored, packed.flags, packed.crc}, sizeof numbers);
        buf_add(&stream, d.bytes, sizeof d.bytes);
        buf_add(&stream, numbers, sizeof numbers);
        buf_add(&stream, packed.data, packed.stored);
        AUTO_BUF struct buf chunk = {0};
        uint32_t raw = sizeof content - 1;
        buf_add(&chunk, &raw, sizeof raw);
        buf_add(&chunk, packed.data, packed.stored - 3); /* whole, it would be right */
        seed_write("chunk", k ? "text" : "dense", chunk.data, chunk.len);
    }
    buf_add(&stream, zeros, sizeof zeros);
    seed_write("stream", "two", stream.data, stream.len);
    seed_write("stream", "none", "COSCHNKS", 8);
}

static void trees_write(void)
{
    static const struct {
        const char *path;
        uint64_t mode, group;
    } rows[] = {{".", S_IFDIR | 0755, 0}, {"d", S_IFDIR | 0755, 0}, {"d/f", S_IFREG | 0644, 1}, {"l", S_IFLNK | 0777, 0},
                {"w", S_IFCHR, 0}, {"p", S_IFIFO | 0600, 0}, {"again", S_IFREG | 0644, 1}, {"d/e", S_IFDIR | 0700, 0}};
    struct tree tree = {.name = xstrdup("root")};
    AUTO_BUF struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct entry *x = LIST_ADD(&tree, entries);
        *x = (struct entry){.path = xstrdup(rows[i].path), .mode = rows[i].mode, .link_group = rows[i].group, .target = xstrdup("../..")};
        if (rows[i].group == 1 && rows[i].path[0] == 'd') {
            x->size = 5000;
            *LIST_ADD(x, extents) = (struct extent){.at = 100, .len = 1000};
            struct xattr *a = LIST_ADD(x, xattrs);
            a->name = xstrdup("user.note");
            bytes_set(&a->value, "note", 4);
        }
    }
    tree_encode(&out, &tree);
    seed_write("tree", "small", out.data, out.len);
    tree_free(&tree);
}

int main(int argc, char **argv)
{
    const char *times = getenv("FUZZ_TIMES");
    if (argc > 1 && strcmp(argv[1], "--write") == 0) {
        tap_state = 1;
        images_write();
        packs_write();
        streams_write();
        trees_write();
        return 0;
    }
    seed_begin();
    atexit(fuzz_stream_end);
    for (size_t i = 0; i < ARRAY_LENGTH(fuzz_targets); i++) {
        target_fuzz(&fuzz_targets[i], fuzz_targets[i].rounds * (times ? strtoull(times, NULL, 10) : 1));
    }
    return done_testing();
}
