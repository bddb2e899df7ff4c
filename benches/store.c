/* The store beside what limits it, on one kind of content: prints one JSON object. store.py compiles and runs it.
 *   store KIND MEBIBYTES DIRECTORY [limits]     KIND: fill.h; limits: only those of writing an image */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fill.h"
#include "store/crew.h"
#include "store/internal.h"
#include "store/sha256.h"
#include "store/store.h"
#include "vendor/lz4/lz4.h"

static uint8_t *memory, *copy;
static size_t len;

static double now_s(void)
{
    return (double)clock_ns(CLOCK_MONOTONIC) / 1e9;
}

static double rate(double begin)
{
    return (double)len / 1e9 / (now_s() - begin);
}

static void must(int result, const struct err *e)
{
    if (result) {
        fprintf(stderr, "%s\n", e->message);
        exit(1);
    }
}

static int hash_piece(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct digest d;
    (void)ctx, (void)worker, (void)e;
    sha256_of(memory + i * CHUNK_MAX, CHUNK_MAX, &d);
    return 0;
}

static int squeeze_piece(void *ctx, size_t worker, size_t i, struct err *e)
{
    static uint8_t out[CREW_MAX][LZ4_COMPRESSBOUND(CHUNK_MAX)];
    (void)ctx, (void)e;
    LZ4_compress_default((char *)memory + i * CHUNK_MAX, (char *)out[worker], CHUNK_MAX, sizeof out[worker]);
    return 0;
}

static int copy_piece(void *ctx, size_t worker, size_t i, struct err *e)
{
    (void)ctx, (void)worker, (void)e;
    memcpy(copy + i * CHUNK_MAX, memory + i * CHUNK_MAX, CHUNK_MAX);
    return 0;
}

static int sink(void *ctx, uint64_t at, const void *data, size_t n, struct err *e)
{
    (void)ctx, (void)e;
    if (data)
        memcpy(copy + at, data, n);
    return 0;
}

static double limit(int (*piece)(void *, size_t, size_t, struct err *))
{
    struct err e = {0};
    double begin = now_s();
    must(crew_work(len / CHUNK_MAX, piece, NULL, &e), &e);
    return rate(begin);
}

/* Copy, digest and compressor on one piece: what writing an image must do, and no disk. */
static int all_of_piece(void *ctx, size_t worker, size_t i, struct err *e)
{
    static struct packed out[CREW_MAX];
    static uint8_t room[CREW_MAX][CHUNK_MAX];
    struct digest d;
    (void)ctx, (void)e;
    memcpy(room[worker], memory + i * CHUNK_MAX, CHUNK_MAX);
    if (all_zero(room[worker], CHUNK_MAX))
        return 0;
    sha256_of(room[worker], CHUNK_MAX, &d);
    chunk_pack(&out[worker], room[worker], CHUNK_MAX);
    return 0;
}

/* dd's way: the same bytes to a new file, then fsync. */
static double file_rate(const char *dir, int flags)
{
    struct err e = {0};
    AUTO_FREE char *path = xasprintf("%s/plain", dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    double begin = now_s();
    for (size_t at = 0; at < len; at += 4 << 20)
        must(io_pwrite_all(fd, memory + at, len - at < 4 << 20 ? len - at : 4 << 20, at, &e), &e);
    if (fsync(fd))
        exit(1);
    double result = rate(begin);
    unlink(path);
    return result;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc != 4 && argc != 5)
        return 64;
    len = strtoul(argv[2], NULL, 10) << 20;
    memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED || copy == MAP_FAILED)
        return 71;
    fill_words((uint64_t *)(void *)memory, len / 8, argv[1]);
    crew_prepare();
    double whole = limit(all_of_piece), direct = file_rate(argv[3], O_DIRECT);
    if (argc == 5) { /* the limits alone */
        printf("{\"whole\":%.3f,\"direct\":%.3f}\n", whole, direct);
        return 0;
    }
    double copied = limit(copy_piece), hashed = limit(hash_piece), squeezed = limit(squeeze_piece), written = file_rate(argv[3], 0);
    struct store *s = NULL;
    struct extent *x = NULL, *again = NULL;
    size_t count = 0, again_count = 0;
    uint64_t stored = 0, more = 0;
    AUTO_FREE char *dir = xasprintf("%s/store", argv[3]);
    must(store_open(dir, true, &s, &e), &e);
    double begin = now_s();
    must(store_put_extents(s, 0, memory, len, &x, &count, &stored, &e), &e);
    double put = rate(begin), commit_begin = now_s();
    must(store_commit(s, &e), &e);
    double commit_s = now_s() - commit_begin, durable = rate(begin);
    begin = now_s();
    must(store_put_extents(s, 0, memory, len, &again, &again_count, &more, &e), &e);
    double known = rate(begin);
    memset(copy, 1, len);
    begin = now_s();
    must(store_get_ranges(s, x, count, sink, NULL, &e), &e);
    double got = rate(begin);
    if (memcmp(memory, copy, len) && strcmp(argv[1], "sparse") != 0)
        return 70;
    store_close(s);
    printf("{\"whole\":%.2f,\"direct\":%.2f,\"memcpy\":%.2f,\"sha256\":%.2f,\"lz4\":%.2f,\"file\":%.2f,\"put\":%.2f,\"commit_s\":%.2f,\"durable\":%.2f,"
           "\"known\":%.2f,\"get\":%.2f,\"ratio\":%.2f,\"again_bytes\":%lu}\n",
           whole, direct, copied, hashed, squeezed, written, put, commit_s, durable, known, got, (double)len / (double)(stored ? stored : 1), more);
    return 0;
}
