/* The store beside what limits it, on one kind of content: prints one JSON object. store.py compiles and runs it.
 *   store KIND MEBIBYTES DIRECTORY      KIND: random, floats, sparse */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/crew.h"
#include "store/sha256.h"
#include "store/store.h"
#include "vendor/lz4/lz4.h"

static uint8_t *memory, *copy;
static size_t len;

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ul;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    return z ^ z >> 31;
}

/* random: nothing to gain; floats: a smooth field of doubles with noise; sparse: half of the pages zero, text in the rest */
static void memory_fill(const char *kind)
{
    uint64_t state = 1;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = next(&state);
        double field = sin((double)i * 1e-6) * 300 + (double)(word >> 40) * 1e-9;
        if (strcmp(kind, "floats") == 0)
            memcpy(&word, &field, 8);
        if (strcmp(kind, "sparse") == 0)
            word = i / PAGE_BYTES % 2 ? 0 : word & 0x0f0f000000000f0ful;
        memcpy(memory + i, &word, 8);
    }
}

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

/* dd's way: the same bytes to a new file, then fsync. */
static double file_rate(const char *dir)
{
    struct err e = {0};
    AUTO_FREE char *path = xasprintf("%s/plain", dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    double begin = now_s();
    must(io_write_all(fd, memory, len, &e), &e);
    if (fsync(fd))
        exit(1);
    double result = rate(begin);
    unlink(path);
    return result;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc != 4)
        return 64;
    len = strtoul(argv[2], NULL, 10) << 20;
    memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED || copy == MAP_FAILED)
        return 71;
    memory_fill(argv[1]);
    crew_prepare();
    double copied = limit(copy_piece), hashed = limit(hash_piece), squeezed = limit(squeeze_piece), written = file_rate(argv[3]);
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
    printf("{\"memcpy\":%.2f,\"sha256\":%.2f,\"lz4\":%.2f,\"file\":%.2f,\"put\":%.2f,\"commit_s\":%.2f,\"durable\":%.2f,"
           "\"known\":%.2f,\"get\":%.2f,\"ratio\":%.2f,\"again_bytes\":%lu}\n",
           copied, hashed, squeezed, written, put, commit_s, durable, known, got, (double)len / (double)(stored ? stored : 1), more);
    return 0;
}
