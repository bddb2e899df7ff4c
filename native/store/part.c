/* The pack that this process writes: NAME.part, which store_commit makes NAME.pack. See internal.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "pack.h"
#include "store_io.h"

/* Its number in the catalog is given when it begins, so that its chunks can be read back before the commit. */
static int part_begin(struct store *s, struct err *e)
{
    uint8_t header[PACK_HEADER_BYTES];
    struct part *p = &s->part;
    pack_name_new(p->name, "part");
    int fd = -1;
    if (store_io_create(s->packsfd, p->name, &fd, e))
        return -1;
    if (belt_begin(s, p->name, e)) {
        close(fd);
        unlinkat(s->packsfd, p->name, 0);
        return -1;
    }
    pack_header(header);
    belt_put(s, 0, header, sizeof header);
    belt_note(s, 0, sizeof header);
    char name[PACK_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.pack", (int)(strlen(p->name) - 5), p->name);
    p->fd = fd;
    p->bytes = sizeof header;
    p->pack = catalog_add(s, name, fd);
    return 0;
}

int part_reserve(struct store *s, uint32_t stored, uint64_t *offset, struct err *e)
{
    for (;;) {
        if (s->failure.code) {
            *e = s->failure;
            return -1;
        }
        if (s->part.fd < 0 && part_begin(s, e))
            return -1;
        if (belt_has_room(s, s->part.bytes + stored))
            break;
        pthread_cond_wait(&s->progress, &s->mutex);
    }
    *offset = s->part.bytes;
    s->part.bytes += stored;
    s->part.in_flight++;
    return 0;
}

int part_read(struct store *s, uint64_t offset, void *out, size_t len, struct err *e)
{
    for (size_t done = 0; done < len;) {
        uint64_t at = (offset + done) % BELT_BLOCK_BYTES;
        size_t n = BELT_BLOCK_BYTES - at < len - done ? BELT_BLOCK_BYTES - at : len - done;
        const uint8_t *block = belt_block(s, (offset + done) / BELT_BLOCK_BYTES);
        if (block)
            memcpy((uint8_t *)out + done, block + at, n);
        else if (io_pread_all(s->part.fd, (uint8_t *)out + done, n, offset + done, e))
            return -1;
        done += n;
    }
    return 0;
}

static void part_end(struct store *s)
{
    belt_end(s);
    free(s->part.places);
    s->part = (struct part){.fd = -1};
}

void part_discard(struct store *s)
{
    for (size_t i = 0; i < s->part.place_count; i++)
        s->index.places[s->part.places[i]].state = PLACE_GONE;
    belt_end(s);
    if (s->part.fd >= 0 && ftruncate(s->part.fd, 0) == 0) /* its descriptor lives on: give the room back now */
        s->part.bytes = 0;
    if (s->part.fd >= 0)
        unlinkat(s->packsfd, s->part.name, 0);
    part_end(s);
}

static int tail_write(struct store *s, struct err *e)
{
    struct part *p = &s->part;
    AUTO_FREE struct place *places = xcalloc(p->place_count, sizeof *places);
    for (size_t i = 0; i < p->place_count; i++)
        places[i] = s->index.places[p->places[i]];
    AUTO_BUF struct buf tail = {0};
    pack_tail(&tail, places, p->place_count, p->bytes);
    return belt_tail(s, p->bytes, tail.data, tail.len, e);
}

/* Data before name, name before whoever refers to it: the rename is the commit. */
static int part_publish(struct store *s, struct err *e)
{
    struct part *p = &s->part;
    char name[PACK_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.pack", (int)(strlen(p->name) - 5), p->name);
    if (tail_write(s, e) || store_io_rename(s->packsfd, p->name, name, e))
        return -1;
    if (!store_io_sync(s->packsfd, "packs", e))
        return 0;
    unlinkat(s->packsfd, name, 0);
    return -1;
}

static int part_commit(struct store *s, struct err *e)
{
    for (belt_wait(s); s->part.in_flight; belt_wait(s))
        pthread_cond_wait(&s->progress, &s->mutex);
    if (!s->failure.code && (s->part.fd < 0 || !part_publish(s, &s->failure))) {
        part_end(s);
        return 0;
    }
    *e = s->failure;
    part_discard(s); /* while the failure stands nobody begins anew */
    s->failure = (struct err){0};
    return -1;
}

int store_commit(struct store *s, struct err *e)
{
    pthread_mutex_lock(&s->mutex);
    int result = part_commit(s, e);
    pthread_mutex_unlock(&s->mutex);
    return result ? err_wrap(e, "store %s: commit", s->dir) : 0;
}
