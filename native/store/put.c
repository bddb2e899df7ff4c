/* Putting one chunk. See store.h and internal.h. */
#include "internal.h"
#include "sha256.h"
#include "store_io.h"

/* True: the digest is the caller's to write, a pending entry stands for it. */
static int place_claim(struct store *s, const struct digest *digest, uint32_t raw, bool *mine, struct err *e)
{
    *mine = false;
    if (s->failure.code) {
        *e = s->failure;
        return -1;
    }
    if (session_begin(s, e))
        return -1;
    struct place p = {.digest = *digest, .raw = raw, .state = PLACE_PENDING};
    *mine = index_add(&s->index, &p);
    return 0;
}

static int place_reserve(struct store *s, const struct digest *digest, const struct packed *c, uint64_t *offset, struct err *e)
{
    if (part_reserve(s, c->stored, offset, e))
        return -1;
    struct place *p = index_find(&s->index, digest);
    *p = (struct place){*digest, *offset, c->stored, p->raw, c->flags, c->crc, s->part.pack, PLACE_PENDING};
    return 0;
}

static void place_settle(struct store *s, const struct digest *digest, const struct err *failure)
{
    struct place *p = index_find(&s->index, digest);
    if (failure) {
        p->state = PLACE_GONE;
        s->failure = s->failure.code ? s->failure : *failure;
    } else {
        p->state = PLACE_READY;
        *(uint32_t *)list_add((void **)&s->part.places, &s->part.place_count, sizeof(uint32_t)) =
            (uint32_t)(p - s->index.places);
    }
    pthread_cond_broadcast(&s->progress);
}

static int chunk_append(struct store *s, const struct digest *digest, const struct packed *c, struct err *e)
{
    uint64_t offset = 0;
    pthread_mutex_lock(&s->mutex);
    int result = place_reserve(s, digest, c, &offset, e);
    if (!result) {
        pthread_mutex_unlock(&s->mutex);
        belt_put(s, offset, c->data, c->stored);
        pthread_mutex_lock(&s->mutex);
        belt_note(s, offset, c->stored);
        s->part.in_flight--;
    }
    place_settle(s, digest, result ? e : NULL);
    pthread_mutex_unlock(&s->mutex);
    return result;
}

/* What was named already; zeros are there. */
static int put_named(struct store *s, struct scratch *room, const void *data, size_t len, const struct digest *digest,
                     uint64_t *stored_bytes, struct err *e)
{
    bool mine;
    if (digest_is_zero(digest))
        return 0;
    pthread_mutex_lock(&s->mutex);
    int result = place_claim(s, digest, (uint32_t)len, &mine, e);
    pthread_mutex_unlock(&s->mutex);
    if (result || !mine)
        return result;
    chunk_pack(&room->packed, data, len);
    *stored_bytes = room->packed.stored;
    return chunk_append(s, digest, &room->packed, e);
}

int put_chunk(struct store *s, struct scratch *room, const void *data, size_t len, struct digest *digest,
              uint64_t *stored_bytes, struct err *e)
{
    *digest = (struct digest){0};
    *stored_bytes = 0;
    if (!all_zero(data, len))
        sha256_of(data, len, digest);
    return put_named(s, room, data, len, digest, stored_bytes, e);
}

int put_two_chunks(struct store *s, struct scratch *room, struct store_item *const items[2], struct err *e)
{
    bool zeros = false;
    for (size_t k = 0; k < 2; k++) {
        items[k]->stored_bytes = 0;
        items[k]->digest = (struct digest){0};
        zeros = zeros || all_zero(items[k]->data, items[k]->len);
    }
    if (!zeros)
        sha256_of_two(items[0]->data, items[0]->len, items[1]->data, items[1]->len, &items[0]->digest, &items[1]->digest);
    for (size_t k = 0; k < 2; k++) {
        struct store_item *item = items[k];
        int result = zeros ? put_chunk(s, room, item->data, item->len, &item->digest, &item->stored_bytes, e)
                           : put_named(s, room, item->data, item->len, &item->digest, &item->stored_bytes, e);
        if (result)
            return -1;
    }
    return 0;
}

int store_put(struct store *s, const void *data, size_t len, struct digest *digest, uint64_t *stored_bytes, struct err *e)
{
    CHECK(len <= CHUNK_MAX);
    struct scratch *room = scratch_take(s);
    int result = put_chunk(s, room, data, len, digest, stored_bytes, e);
    scratch_give(s, room);
    return result ? err_wrap(e, "store %s: put", s->dir) : 0;
}
