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
    pack_header(header);
    if (store_io_write(fd, header, sizeof header, 0, e)) {
        close(fd);
        unlinkat(s->packsfd, p->name, 0);
        return -1;
    }
    char name[PACK_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.pack", (int)(strlen(p->name) - 5), p->name);
    p->fd = fd;
    p->bytes = sizeof header;
    p->pack = catalog_add(s, name, fd);
    return 0;
}

int part_reserve(struct store *s, uint32_t stored, uint64_t *offset, struct err *e)
{
    if (s->part.fd < 0 && part_begin(s, e))
        return -1;
    *offset = s->part.bytes;
    s->part.bytes += stored;
    s->part.in_flight++;
    return 0;
}

static void part_end(struct store *s)
{
    free(s->part.places);
    s->part = (struct part){.fd = -1};
}

void part_discard(struct store *s)
{
    for (size_t i = 0; i < s->part.place_count; i++)
        s->index.places[s->part.places[i]].state = PLACE_GONE;
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
    if (store_io_write(p->fd, tail.data, tail.len, p->bytes, e))
        return -1;
    return store_io_sync(p->fd, p->name, e);
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
    while (s->part.in_flight)
        pthread_cond_wait(&s->progress, &s->mutex);
    if (!s->failure.code && (s->part.fd < 0 || !part_publish(s, e))) {
        part_end(s);
        return 0;
    }
    if (s->failure.code)
        *e = s->failure;
    s->failure = (struct err){0};
    part_discard(s);
    return -1;
}

int store_commit(struct store *s, struct err *e)
{
    pthread_mutex_lock(&s->mutex);
    int result = part_commit(s, e);
    pthread_mutex_unlock(&s->mutex);
    return result ? err_wrap(e, "store %s: commit", s->dir) : 0;
}
