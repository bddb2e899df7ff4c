/* Reading a pack again before somebody needs it. See store.h. What the page cache has of it is dropped first, or the memory would be checked and not the
 * disk, and dropped afterwards, or the scrub would push out what jobs use. A pack is never changed, so that no lock is needed; gc may take it away. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "pack.h"

struct scrub {
    struct store *store;
    const char *pack;
    int fd;
    uint64_t bytes_per_s, begun_ns;
    struct scratch *room;
    struct scrub_result *out;
};

/* Behind the time that the bytes read so far may take. */
static void keep_pace(const struct scrub *g)
{
    if (!g->bytes_per_s)
        return;
    uint64_t due_ns = g->begun_ns + (uint64_t)((double)g->out->bytes / (double)g->bytes_per_s * 1e9);
    while (clock_ns(CLOCK_MONOTONIC) < due_ns) {
        uint64_t left_ns = due_ns - clock_ns(CLOCK_MONOTONIC);
        left_ns = left_ns < 1000000000u ? left_ns : 1000000000u;
        nanosleep(&(struct timespec){.tv_sec = (time_t)(left_ns / 1000000000u), .tv_nsec = (long)(left_ns % 1000000000u)}, NULL);
    }
}

/* A disk that cannot read the bytes and one that gives others: both are damage of this chunk. */
static int chunk_scrub(struct scrub *g, const struct place *p, struct err *e)
{
    struct err why = {0};
    int result = io_pread_all(g->fd, g->room->stored, p->stored, p->offset, &why) || chunk_unpack(p, g->room->stored, g->room->raw, &why);
    g->out->chunks++;
    g->out->bytes += p->stored;
    if (!result)
        return 0;
    g->out->damaged++;
    return store_forget_in(g->store, &p->digest, g->pack, e);
}

static int pack_scrub(struct scrub *g, struct err *e)
{
    AUTO_FREE struct place *places = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    struct err why = {0};
    struct index forgotten = {0};
    if (pack_read(g->fd, &places, &count, &bytes, &why)) {
        g->out->unreadable = why.code != E_UNSUPPORTED;
        return 0;
    }
    int result = catalog_forgotten(g->store, g->pack, &forgotten, e);
    for (size_t k = 0; k < count && !result; k++) {
        if (!index_find(&forgotten, &places[k].digest))
            result = chunk_scrub(g, &places[k], e);
        keep_pace(g);
    }
    index_free(&forgotten);
    return result;
}

static bool is_pack_name(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && len < PACK_NAME_BYTES && !strchr(name, '/') && strcmp(name + len - 5, ".pack") == 0;
}

static int pack_open(const struct store *s, const char *name, struct err *e)
{
    if (!is_pack_name(name))
        return err_set(e, E_USAGE, "'%.60s' is no name of a pack", name);
    int fd = openat(s->packsfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0)
        return fd;
    return errno == ENOENT ? err_set(e, E_NO_INPUT, "there is no pack %s", name) : err_errno(e, "open pack %s", name);
}

int store_scrub(const char *dir, const char *pack, uint64_t bytes_per_s, struct scrub_result *out, struct err *e)
{
    struct store *s = NULL;
    *out = (struct scrub_result){0};
    if (store_open(dir, false, &s, e))
        return -1;
    AUTO_CLOSE int fd = pack_open(s, pack, e);
    struct scrub g = {.store = s, .pack = pack, .fd = fd, .bytes_per_s = bytes_per_s, .begun_ns = clock_ns(CLOCK_MONOTONIC), .out = out};
    g.room = scratch_take(s);
    if (fd >= 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    int result = fd < 0 ? -1 : pack_scrub(&g, e);
    if (fd >= 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    scratch_give(s, g.room);
    store_close(s);
    return result ? err_wrap(e, "store %s: scrub", dir) : 0;
}
