/* See warm.h. Threads of the crew have heaps of their own, as many as there are processors: a thousand sockets are some hundred thousand small pieces,
 * and in one heap two threads wait for each other at each. They grow by whole megabytes. */
#include "warm.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base.h"
#include "fiber.h"

#define PIECE_MAX_BYTES (32 << 20) /* the most that malloc takes from the heap */
#define STACK_TOUCHED_BYTES 12288
#define HEAPS_MAX 8
#define HEAP_STEP_BYTES (1 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void warm_heap(size_t bytes)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, processors < 1 ? 1 : processors > HEAPS_MAX ? HEAPS_MAX : (int)processors);
    mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
    mallopt(M_MMAP_THRESHOLD, PIECE_MAX_BYTES);
    mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    void *room = malloc(bytes);
    uintptr_t from = ((uintptr_t)room + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
    if (room && bytes > 2 * PAGE_BYTES)
        (void)madvise((void *)from, (bytes - PAGE_BYTES) & ~(size_t)(PAGE_BYTES - 1), MADV_POPULATE_WRITE); /* an older kernel: as before */
    free(room);
}

static int stack_touch(void *ctx, size_t i, struct err *e)
{
    volatile char room[STACK_TOUCHED_BYTES];
    (void)ctx, (void)i, (void)e;
    for (size_t k = 0; k < sizeof room; k += PAGE_BYTES)
        room[k] = 0;
    return 0;
}

void warm_fibers(void)
{
    struct err none;
    CHECK(fibers_run(FIBERS_MAX, stack_touch, NULL, &none) == 0);
}
