/* Moving live chunks into a new pack. See gc.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "gc.h"
#include "pack.h"
#include "store_io.h"

static int rewrite_begin(struct rewrite *r, struct err *e)
{
    uint8_t header[PACK_HEADER_BYTES];
    pack_name_new(r->name, "part");
    if (store_io_create(r->store->packsfd, r->name, &r->fd, e))
        return -1;
    pack_header(header);
    r->bytes = sizeof header;
    return store_io_write(r->fd, header, sizeof header, 0, e);
}

static int chunk_copy(struct rewrite *r, int fd, const struct place *from, struct err *e)
{
    static uint8_t stored[CHUNK_MAX]; /* gc is one thread, alone with the store */
    if (io_pread_all(fd, stored, from->stored, from->offset, e))
        return -1;
    if (crc32c(stored, from->stored) != from->crc)
        return err_set(e, E_BAD_IMAGE, "a chunk is damaged");
    if (store_io_write(r->fd, stored, from->stored, r->bytes, e))
        return -1;
    struct place *to = list_add((void **)&r->places, &r->place_count, sizeof *to);
    *to = *from;
    to->offset = r->bytes;
    r->bytes += from->stored;
    return 0;
}

int rewrite_add(struct rewrite *r, struct pack *source, int fd, const struct place *places, size_t count, const bool *keep,
                struct err *e)
{
    if (r->fd < 0 && rewrite_begin(r, e))
        return -1;
    size_t places_before = r->place_count;
    uint64_t bytes_before = r->bytes;
    for (size_t i = 0; i < count; i++) {
        if (!keep[i] || !chunk_copy(r, fd, &places[i], e))
            continue;
        r->place_count = places_before;
        r->bytes = bytes_before;
        return -1;
    }
    *(struct pack **)list_add((void **)&r->sources, &r->source_count, sizeof(struct pack *)) = source;
    return 0;
}

static int rewrite_publish(struct rewrite *r, struct err *e)
{
    char name[PACK_NAME_BYTES];
    AUTO_BUF struct buf tail = {0};
    pack_tail(&tail, r->places, r->place_count, r->bytes);
    snprintf(name, sizeof name, "%.*s.pack", (int)(strlen(r->name) - 5), r->name);
    if (store_io_write(r->fd, tail.data, tail.len, r->bytes, e) || store_io_sync(r->fd, r->name, e) ||
        store_io_rename(r->store->packsfd, r->name, name, e))
        return -1;
    return store_io_sync(r->store->packsfd, "packs", e);
}

void rewrite_abandon(struct rewrite *r)
{
    if (r->fd >= 0) {
        close(r->fd);
        unlinkat(r->store->packsfd, r->name, 0);
    }
    free(r->places);
    free(r->sources);
    *r = (struct rewrite){.store = r->store, .fd = -1};
}

int rewrite_end(struct rewrite *r, struct err *e)
{
    int result = r->fd >= 0 && r->place_count ? rewrite_publish(r, e) : 0;
    for (size_t i = 0; i < r->source_count && !result; i++)
        result = store_io_unlink(r->store->packsfd, r->sources[i]->name, e);
    rewrite_abandon(r);
    return result;
}
