/* Images of a known content for the tests of images, their transport and their sweep; the n-th write of the disk can be made to fail. */
#pragma once
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/sha256.h"
#include "store/store_io.h"
#include "tests/tap.h"

static long fault_at, fault_calls;
static int fault_number = ENOSPC; /* of the errno that it gives; negative: after half of the bytes; 0: the process is killed instead */

int store_io_fault(const char *operation)
{
    (void)operation;
    if (__atomic_add_fetch(&fault_calls, 1, __ATOMIC_RELAXED) != fault_at)
        return 0;
    if (!fault_number)
        kill(getpid(), SIGKILL);
    return fault_number;
}

static const char *base;

static inline char *below(const char *name)
{
    return xasprintf("%s/%s", base, name);
}

static inline bool good(int result, const struct err *e)
{
    if (result)
        printf("# %s\n", e->message);
    return result == 0;
}

static inline struct store *opened(const char *dir, bool create)
{
    struct store *s = NULL;
    struct err e = {0};
    if (!good(store_open(dir, create, &s, &e), &e))
        abort();
    return s;
}

/* ---- an image with memory of some chunks, seeded by `k`: equal k, equal content */
static inline void memory_fill(uint8_t *data, size_t len, uint64_t k)
{
    uint64_t before = tap_state;
    tap_state = k;
    random_fill(data, len);
    for (size_t i = len / 2; i < len; i++)
        data[i] &= 3; /* half of it compresses */
    tap_state = before;
}

#ifndef MEMORY_BYTES
#define MEMORY_BYTES (3 * CHUNK_MAX)
#endif

static inline int image_put(struct image *image, struct store *s, uint64_t k, struct err *e)
{
    AUTO_FREE uint8_t *data = xcalloc(MEMORY_BYTES, 1);
    memory_fill(data, MEMORY_BYTES, k);
    *image = (struct image){.format = IMAGE_FORMAT, .kernel = xstrdup("Linux"), .pod.hostname = xstrdup("pod-0")};
    struct task *t = LIST_ADD(image, tasks);
    t->pid = 7;
    t->comm = xstrdup("victim");
    struct vma *v = LIST_ADD(&t->mm, vmas);
    *v = (struct vma){.start = 0x10000000, .end = 0x10000000 + MEMORY_BYTES, .kind = VMA_ANON};
    return store_put_extents(s, 0x10000000, data, MEMORY_BYTES, &t->mm.extents, &t->mm.extents_count, &image->new_bytes, e) ||
           store_commit(s, e) ? -1 : 0;
}

static inline void image_fill(struct image *image, struct store *s, uint64_t k)
{
    struct err e = {0};
    if (image_put(image, s, k, &e))
        abort();
}

static inline void image_make(const char *dir, const char *store, uint64_t k, struct digest *digest)
{
    struct image image;
    struct err e = {0};
    struct store *s = opened(store, true);
    image_fill(&image, s, k);
    if (!good(image_write(dir, &image, digest, &e), &e))
        abort();
    image_free(&image);
    store_close(s);
}

static inline int chunk_check(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    static uint8_t data[CHUNK_MAX];
    return store_get(ctx, digest, data, len, e);
}

/* 0 when everything that the image needs is there and right. */
static inline int verified(const char *dir, const char *store, struct err *e)
{
    struct image image;
    struct store *s = NULL;
    if (image_read(dir, &image, NULL, e))
        return -1;
    int result = store_open(store, false, &s, e) || image_each_chunk(&image, chunk_check, s, e) ? -1 : 0;
    store_close(s);
    image_free(&image);
    return result;
}

static inline void byte_flip(const char *path, uint64_t at, uint8_t mask)
{
    uint8_t byte;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)at) != 1)
        abort();
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        abort();
}
