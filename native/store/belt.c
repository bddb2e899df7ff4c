/* The way of a pack to the disk: a ring of blocks that writers fill and one thread writes, in order, past the page cache (decision 0060).
 * Block b waits in slot b % BELT_SLOTS until it is written; part_reserve hands out no offset beyond the ring. The last, partial block
 * and small packs go through the page cache, with the fsync that makes the pack whole. See internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "store_io.h"

static uint8_t *slot_of(const struct belt *b, uint64_t block)
{
    return b->ring + block % BELT_SLOTS * BELT_BLOCK_BYTES;
}

int belt_begin(struct store *s, const char *name, struct err *e)
{
    struct belt *b = &s->belt;
    void *ring = b->ring ? b->ring : mmap(NULL, BELT_SLOTS * BELT_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED)
        return err_errno(e, "room for blocks");
    b->ring = ring;
    b->fd = openat(s->packsfd, name, O_WRONLY | (s->shared ? 0 : O_DIRECT) | O_CLOEXEC | O_NOFOLLOW);
    if (b->fd < 0 && errno == EINVAL) /* a file system that knows no other way than the page cache */
        b->fd = openat(s->packsfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return b->fd < 0 ? err_errno(e, "open %s", name) : 0;
}

bool belt_has_room(const struct store *s, uint64_t end)
{
    return end <= (s->belt.written + BELT_SLOTS) * BELT_BLOCK_BYTES;
}

void belt_put(struct store *s, uint64_t offset, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        uint64_t at = (offset + done) % BELT_BLOCK_BYTES;
        size_t n = BELT_BLOCK_BYTES - at < len - done ? BELT_BLOCK_BYTES - at : len - done;
        memcpy(slot_of(&s->belt, (offset + done) / BELT_BLOCK_BYTES) + at, (const uint8_t *)data + done, n);
        done += n;
    }
}

const uint8_t *belt_block(const struct store *s, uint64_t block)
{
    return block < s->belt.written ? NULL : slot_of(&s->belt, block);
}

/* ---- out */
static bool is_next_full(const struct belt *b)
{
    return b->filled[b->written % BELT_SLOTS] == BELT_BLOCK_BYTES;
}

static void through_the_cache(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

static int block_write(const struct belt *b, struct err *e)
{
    uint64_t at = b->written * BELT_BLOCK_BYTES;
    if (store_io_write(b->fd, slot_of(b, b->written), BELT_BLOCK_BYTES, at, e) == 0)
        return 0;
    if (e->code != E_OS) /* EINVAL: it took the flag and not the bytes */
        return -1;
    through_the_cache(b->fd);
    return store_io_write(b->fd, slot_of(b, b->written), BELT_BLOCK_BYTES, at, e);
}

/* Every full block, in order; by one at a time. */
static void blocks_write(struct store *s)
{
    struct belt *b = &s->belt;
    while (!b->writing && !s->failure.code && is_next_full(b)) {
        struct err e = {0};
        b->writing = true;
        pthread_mutex_unlock(&s->mutex);
        int result = block_write(b, &e);
        pthread_mutex_lock(&s->mutex);
        b->writing = false;
        if (result)
            s->failure = s->failure.code ? s->failure : e;
        else
            b->filled[b->written++ % BELT_SLOTS] = 0;
        pthread_cond_broadcast(&s->progress);
    }
}

static void *belt_run(void *argument)
{
    struct store *s = argument;
    pthread_mutex_lock(&s->mutex);
    for (blocks_write(s); !s->belt.closing; blocks_write(s))
        pthread_cond_wait(&s->belt.wake, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static void thread_start(struct store *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->belt.running = pthread_create(&s->belt.thread, NULL, belt_run, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void belt_note(struct store *s, uint64_t offset, size_t len)
{
    struct belt *b = &s->belt;
    while (len) {
        uint64_t at = offset % BELT_BLOCK_BYTES;
        size_t n = BELT_BLOCK_BYTES - at < len ? BELT_BLOCK_BYTES - at : len;
        b->filled[offset / BELT_BLOCK_BYTES % BELT_SLOTS] += (uint32_t)n;
        offset += n;
        len -= n;
    }
    if (!is_next_full(b))
        return;
    if (b->crews && !b->running)
        thread_start(s);
    if (b->running)
        pthread_cond_signal(&b->wake);
    else
        blocks_write(s);
}

void belt_wait(struct store *s)
{
    for (blocks_write(s); s->belt.writing; blocks_write(s))
        pthread_cond_wait(&s->progress, &s->mutex);
}

void belt_crew_begin(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->belt.crews++;
    pthread_mutex_unlock(&s->mutex);
}

void belt_crew_end(struct store *s)
{
    struct belt *b = &s->belt;
    pthread_mutex_lock(&s->mutex);
    if (--b->crews == 0 && b->running) {
        b->closing = true;
        pthread_cond_signal(&b->wake);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(b->thread, NULL);
        pthread_mutex_lock(&s->mutex);
        b->running = b->closing = false;
        blocks_write(s); /* what was filled after its last look */
    }
    pthread_mutex_unlock(&s->mutex);
}

int belt_tail(struct store *s, uint64_t end, const void *tail, size_t len, struct err *e)
{
    struct belt *b = &s->belt;
    uint64_t from = b->written * BELT_BLOCK_BYTES;
    through_the_cache(b->fd);
    if (store_io_write(b->fd, slot_of(b, b->written), end - from, from, e) || store_io_write(b->fd, tail, len, end, e))
        return -1;
    return store_io_sync(b->fd, s->part.name, e);
}

void belt_end(struct store *s)
{
    struct belt *b = &s->belt;
    while (b->writing)
        pthread_cond_wait(&s->progress, &s->mutex);
    cleanup_close(&b->fd);
    b->fd = -1;
    b->written = 0;
    memset(b->filled, 0, sizeof b->filled);
}

void belt_free(struct store *s)
{
    if (s->belt.ring)
        munmap(s->belt.ring, BELT_SLOTS * BELT_BLOCK_BYTES);
    pthread_cond_destroy(&s->belt.wake);
}
