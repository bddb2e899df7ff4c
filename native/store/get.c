/* Getting one chunk, wherever gc may have moved it meanwhile. See store.h and internal.h. */
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "sha256.h"

struct place *place_wait(struct store *s, const struct digest *digest)
{
    struct place *p;
    while ((p = index_find(&s->index, digest)) && p->state == PLACE_PENDING)
        pthread_cond_wait(&s->progress, &s->mutex);
    return p;
}

/* The folder may have changed since it was read: gc moves chunks, other sessions commit. */
static int catalog_again(struct store *s, struct place *stale, struct err *e)
{
    if (stale)
        stale->state = PLACE_GONE;
    return catalog_load(s, e);
}

static int missing(struct store *s, struct err *e)
{
    for (size_t i = 0; i < s->pack_count; i++)
        if (s->packs[i].damage)
            return err_set(e, E_BAD_IMAGE, "it is not in the store (%s)", s->packs[i].damage);
    return err_set(e, E_BAD_IMAGE, "it is not in the store");
}

/* A copy of the place and a descriptor to read it from; mutex held. */
static int place_open(struct store *s, const struct digest *digest, struct place *out, int *fd, bool *temporary, struct err *e)
{
    for (int round = 0;; round++) {
        struct place *p = place_wait(s, digest);
        if (p) {
            *out = *p;
            *fd = catalog_fd(s, p->pack, temporary, e);
            if (*fd >= 0)
                return 0;
            if (e->code != E_NO_INPUT)
                return -1;
        }
        if (round == 2)
            return missing(s, e);
        if (catalog_again(s, p, e))
            return -1;
    }
}

static int chunk_read(const struct place *p, int fd, struct scratch *room, void *data, struct err *e)
{
    void *into = p->flags & PLACE_LZ4 ? room->stored : data;
    if (io_pread_all(fd, into, p->stored, p->offset, e))
        return -1;
    return chunk_unpack_unnamed(p, into, data, e);
}

/* Its content, which is yet to be compared with its name. */
static int content_get(struct store *s, struct scratch *room, const struct digest *digest, void *data, size_t len, struct err *e)
{
    struct place p;
    int fd = -1;
    bool temporary = false;
    if (len > CHUNK_MAX)
        return err_set(e, E_BAD_IMAGE, "%zu bytes are more than a chunk", len);
    pthread_mutex_lock(&s->mutex);
    int result = place_open(s, digest, &p, &fd, &temporary, e);
    bool uncommitted = !result && s->part.fd >= 0 && p.pack == s->part.pack;
    if (uncommitted)
        result = part_read(s, p.offset, room->stored, p.stored, e);
    pthread_mutex_unlock(&s->mutex);
    if (result)
        return -1;
    if (p.raw != len)
        result = err_set(e, E_BAD_IMAGE, "it has %u bytes, not %zu", p.raw, len);
    else
        result = uncommitted ? chunk_unpack_unnamed(&p, room->stored, data, e) : chunk_read(&p, fd, room, data, e);
    if (temporary)
        close(fd);
    return result;
}

static int chunk_wrap(const struct store *s, const struct digest *digest, struct err *e)
{
    char hex[65];
    digest_hex(digest, hex);
    return err_wrap(e, "store %s: chunk %s", s->dir, hex);
}

int get_chunk(struct store *s, struct scratch *room, const struct digest *digest, void *data, size_t len, struct err *e)
{
    struct digest content;
    if (digest_is_zero(digest)) {
        memset(data, 0, len);
        return 0;
    }
    if (content_get(s, room, digest, data, len, e))
        return chunk_wrap(s, digest, e);
    sha256_of(data, len, &content);
    return chunk_name_check(digest, &content, e) ? chunk_wrap(s, digest, e) : 0;
}

static int two_get(struct store *s, struct scratch *const rooms[2], const struct digest *const digests[2], void *const data[2], const size_t lens[2], struct err *e)
{
    struct digest contents[2];
    for (size_t k = 0; k < 2; k++)
        if (content_get(s, rooms[k], digests[k], data[k], lens[k], e))
            return chunk_wrap(s, digests[k], e);
    sha256_of_two(data[0], lens[0], data[1], lens[1], &contents[0], &contents[1]);
    for (size_t k = 0; k < 2; k++)
        if (chunk_name_check(digests[k], &contents[k], e))
            return chunk_wrap(s, digests[k], e);
    return 0;
}

int get_two_chunks(struct store *s, struct scratch *const rooms[2], const struct digest *const digests[2], const size_t lens[2], struct err *e)
{
    void *const data[2] = {rooms[0]->raw, rooms[1]->raw};
    return two_get(s, rooms, digests, data, lens, e);
}

int store_get(struct store *s, const struct digest *digest, void *data, size_t len, struct err *e)
{
    struct scratch *room = scratch_take(s);
    int result = get_chunk(s, room, digest, data, len, e);
    scratch_give(s, room);
    return result;
}

int store_get_two(struct store *s, const struct digest *const digests[2], void *const data[2], const size_t lens[2], struct err *e)
{
    struct scratch *const rooms[2] = {scratch_take(s), scratch_take(s)};
    int result = two_get(s, rooms, digests, data, lens, e);
    for (size_t k = 0; k < 2; k++)
        scratch_give(s, rooms[k]);
    return result;
}

bool store_has(struct store *s, const struct digest *digest)
{
    return digest_is_zero(digest) || store_raw_len(s, digest) > 0;
}

uint32_t store_raw_len(struct store *s, const struct digest *digest)
{
    pthread_mutex_lock(&s->mutex);
    struct place *p = index_find(&s->index, digest);
    uint32_t raw = p ? p->raw : 0;
    pthread_mutex_unlock(&s->mutex);
    return raw;
}
