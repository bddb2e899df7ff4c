/* One function for each reader of bytes that may be anybody's: it gets the bytes, and must neither crash nor trust them.
 * libFuzzer drives them (libfuzzer.c, run.sh), and tests/unit_fuzz.c with mutations of the corpus in every test run.
 * Checksums are set right first where they would stop nearly all inputs at the door: behind them nothing may trust either. */
#pragma once
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "image/tree.h"
#include "store/crc32c.h"
#include "store/internal.h"
#include "store/pack.h"
#include "store/sha256.h"
#include "store/stream.h"

struct target {
    const char *name;
    void (*run)(const uint8_t *data, size_t len);
    uint64_t rounds; /* in every test run */
};

static inline int fuzz_file(const uint8_t *data, size_t len)
{
    struct err e = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && (len == 0 || io_pwrite_all(fd, data, len, 0, &e) == 0));
    return fd;
}

#include "targets_proc.h"
#include "targets_facts.h"

/* ---- codec: what decodes must survive all uses, and encode to the same bytes from then on */
static inline void fuzz_image_use(const struct image *image)
{
    struct err e = {0};
    char *text = NULL;
    size_t text_len = 0;
    FILE *out = open_memstream(&text, &text_len);
    CHECK(out);
    image_json(out, image);
    fclose(out);
    free(text);
    struct buf once = {0}, twice = {0};
    struct image again = {0};
    image_encode(&once, image);
    struct cursor c = {once.data, once.data + once.len};
    CHECK(image_decode(&c, &again, &e) == 0 && c.at == c.end);
    image_encode(&twice, &again);
    CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    if (image_check(image, &e) == 0)
        CHECK(image_check(&again, &e) == 0);
    image_free(&again);
    buf_free(&once);
    buf_free(&twice);
}

static inline void fuzz_codec(const uint8_t *data, size_t len)
{
    struct image image = {0};
    struct err e = {0};
    struct cursor c = {data, data + len};
    if (image_decode(&c, &image, &e) == 0)
        fuzz_image_use(&image);
    else
        CHECK(e.code == E_BAD_IMAGE && e.message[0]);
    image_free(&image);
}

/* ---- manifest: the file as it is, and once more with its frame put right */
static inline void fuzz_manifest_once(const uint8_t *data, size_t len)
{
    struct image image = {0};
    struct err e = {0};
    if (image_decode_file(data, len, &image, &e) == 0)
        fuzz_image_use(&image);
    else
        CHECK(e.code == E_BAD_IMAGE && e.message[0]);
    image_free(&image);
}

static inline void fuzz_manifest(const uint8_t *data, size_t len)
{
    fuzz_manifest_once(data, len);
    if (len < 24 + DIGEST_BYTES)
        return;
    uint8_t *copy = xcalloc(len, 1);
    uint64_t inner = len - 24 - DIGEST_BYTES, format = IMAGE_FORMAT;
    struct digest d;
    memcpy(copy, data, len);
    memcpy(copy, "COSIMAGE", 8);
    memcpy(copy + 8, &format, 8);
    memcpy(copy + 16, &inner, 8);
    sha256_of(copy, len - DIGEST_BYTES, &d);
    memcpy(copy + len - DIGEST_BYTES, d.bytes, DIGEST_BYTES);
    fuzz_manifest_once(copy, len);
    free(copy);
}

/* ---- pack: places that come out must lie inside the file */
static inline void fuzz_pack_once(const uint8_t *data, size_t len)
{
    struct place *places = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    struct err e = {0};
    int fd = fuzz_file(data, len);
    if (pack_read(fd, &places, &count, &bytes, &e) == 0)
        for (size_t i = 0; i < count; i++)
            CHECK(places[i].raw <= CHUNK_MAX && places[i].stored <= places[i].raw && places[i].offset + places[i].stored <= len);
    else
        CHECK(e.code == E_BAD_IMAGE || e.code == E_UNSUPPORTED);
    free(places);
    close(fd);
}

static inline void fuzz_pack(const uint8_t *data, size_t len)
{
    fuzz_pack_once(data, len);
    uint64_t at;
    if (len < PACK_HEADER_BYTES + PACK_FOOTER_BYTES)
        return;
    uint8_t *copy = xcalloc(len, 1), *footer = copy + len - PACK_FOOTER_BYTES;
    memcpy(copy, data, len);
    memcpy(&at, footer, 8);
    if (at >= PACK_HEADER_BYTES && at <= len - PACK_FOOTER_BYTES) {
        struct sha256 s;
        struct digest d;
        pack_header(copy);
        sha256_begin(&s);
        sha256_add(&s, copy, PACK_HEADER_BYTES);
        sha256_add(&s, copy + at, len - PACK_FOOTER_BYTES - at);
        sha256_add(&s, footer, 16);
        sha256_end(&s, &d);
        memcpy(footer + 16, d.bytes, DIGEST_BYTES);
        memset(footer + 48, 0, 8);
        memcpy(footer + 56, "COSPEND1", 8);
        fuzz_pack_once(copy, len);
    }
    free(copy);
}

/* ---- chunk: any stored bytes, said to be lz4 of any length, with a right CRC */
static inline void fuzz_chunk(const uint8_t *data, size_t len)
{
    static uint8_t raw[CHUNK_MAX];
    struct err e = {0};
    if (len < 8 || len - 4 > CHUNK_MAX)
        return;
    uint32_t want;
    memcpy(&want, data, 4);
    struct place p = {.stored = (uint32_t)len - 4, .raw = 1 + want % (uint32_t)CHUNK_MAX, .flags = PLACE_LZ4};
    uint8_t *stored = xcalloc(len - 4, 1);
    memcpy(stored, data + 4, len - 4);
    p.crc = crc32c(stored, p.stored);
    CHECK(chunk_unpack(&p, stored, raw, &e) == -1 && e.code == E_BAD_IMAGE);
    free(stored);
}

/* ---- stream: frames get right CRCs; whatever is kept must be what its name says (get checks it) */
static inline void fuzz_stream_repair(uint8_t *data, size_t len)
{
    for (size_t at = 8; at + 48 <= len;) {
        uint32_t stored, crc;
        memcpy(&stored, data + at + 36, 4);
        if (stored > len - at - 48)
            return;
        crc = crc32c(data + at + 48, stored);
        memcpy(data + at + 44, &crc, 4);
        at += 48 + stored;
    }
}

static inline void fuzz_stream(const uint8_t *data, size_t len)
{
    static struct store *store;
    static char dir[64];
    struct err e = {0};
    struct stream_result r;
    if (!store) {
        snprintf(dir, sizeof dir, "/dev/shm/fuzz-stream.%d", (int)getpid());
        CHECK(store_open(dir, true, &store, &e) == 0);
    }
    uint8_t *copy = xcalloc(len + 1, 1);
    memcpy(copy, data, len);
    fuzz_stream_repair(copy, len);
    int fd = fuzz_file(copy, len);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    if (stream_receive(store, fd, &r, &e) == 0)
        CHECK(len >= 8 + 48);
    else
        CHECK(e.code == E_BAD_IMAGE || e.code == E_IO);
    close(fd);
    free(copy);
}

static inline int fuzz_entry_open(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)where;
    return (kind == FTW_D || kind == FTW_DNR) && (st->st_mode & 0700) != 0700 ? chmod(path, 0700) : 0;
}

static inline int fuzz_entry_remove(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static inline void fuzz_remove(const char *what)
{
    AUTO_FREE char *dir = xasprintf("/dev/shm/fuzz-%s.%d", what, (int)getpid());
    struct stat st;
    while (lstat(dir, &st) == 0) { /* more than once where a directory could not be looked into */
        CHECK(nftw(dir, fuzz_entry_open, 16, FTW_PHYS) == 0);
        (void)!nftw(dir, fuzz_entry_remove, 16, FTW_PHYS | FTW_DEPTH);
    }
}

static inline void fuzz_stream_end(void)
{
    fuzz_remove("stream");
    fuzz_remove("tree");
    fuzz_remove("store");
}

/* ---- tree: made in a directory of its own; beside it lies a file that nothing may touch */
static inline void fuzz_tree_load(const struct tree *tree, int top, struct store *store)
{
    struct err e = {0};
    CHECK(mkdirat(top, "root", 0700) == 0);
    int root = openat(top, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    (void)!tree_load(root, tree, store, &e);
    close(root);
}

static inline bool fuzz_only_two(int top)
{
    struct stat st;
    return fstatat(top, "beside", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 && st.st_nlink == 1 &&
           (st.st_mode & 07777) == 0600 && st.st_uid == geteuid() && st.st_mtime == 1 && fstat(top, &st) == 0 && st.st_nlink == 3;
}

static inline void fuzz_tree(const uint8_t *data, size_t len)
{
    static struct store *store;
    char dir[64];
    struct tree tree = {0};
    struct err e = {0};
    struct cursor c = {data, data + len};
    if (tree_decode(&c, &tree, &e))
        return;
    for (size_t i = 0; i < tree.entries_count; i++) /* a sparse file may be large: that is not what is looked for */
        tree.entries[i].size %= 1 << 20;
    snprintf(dir, sizeof dir, "/dev/shm/fuzz-tree.%d", (int)getpid());
    CHECK(mkdir(dir, 0700) == 0);
    int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), beside = openat(top, "beside", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (!store) { /* without content: extents are refused by the file's length, or not there */
        AUTO_FREE char *empty = xasprintf("/dev/shm/fuzz-store.%d", (int)getpid());
        CHECK(store_open(empty, true, &store, &e) == 0);
    }
    struct timespec one = {1, 0};
    CHECK(top >= 0 && beside >= 0 && fchmod(beside, 0600) == 0 && futimens(beside, (struct timespec[]){one, one}) == 0);
    for (size_t i = 0; i < tree.entries_count; i++) {
        struct entry *x = &tree.entries[i];
        for (size_t k = 0; k < x->extents_count; k++)
            x->extents[k].digest = (struct digest){0};
    }
    fuzz_tree_load(&tree, top, store);
    CHECK(fuzz_only_two(top));
    close(beside);
    close(top);
    fuzz_remove("tree");
    tree_free(&tree);
}

static const struct target fuzz_targets[] = {
    {"codec", fuzz_codec, 20000},       {"manifest", fuzz_manifest, 20000}, {"pack", fuzz_pack, 20000},     {"chunk", fuzz_chunk, 20000},
    {"stream", fuzz_stream, 20000},     {"tree", fuzz_tree, 300},           {"status", fuzz_status, 20000}, {"stat", fuzz_stat, 20000},
    {"maps", fuzz_maps, 20000},         {"children", fuzz_children, 2000},  {"mounts", fuzz_mounts, 5000},  {"diag", fuzz_diag, 5000},
    {"fdinfo", fuzz_fdinfo, 5000},      {"igmp", fuzz_igmp, 20000},         {"view", fuzz_view, 5000},        {"spaces", fuzz_spaces, 5000},
    {"netattr", fuzz_netattr, 20000},
    {"timers", fuzz_timers, 20000},     {"sleepers", fuzz_sleepers, 20000},     {"state", fuzz_state, 5000},    {"environment", fuzz_environment, 20000},
    {"frame", fuzz_frame, 20000},       {"idmap", fuzz_idmap, 10000},       {"facts", fuzz_facts, 5000},    {"inside", fuzz_inside, 5000},
    {"netlink", fuzz_netlink, 10000},
};
