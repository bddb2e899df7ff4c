/* native verify: reads and checks every chunk of an image and names what is damaged. */
#include <pthread.h>

#include "../store/crew.h"
#include "../store/index.h"
#include "store-common.h"
#include "verbs.h"

struct verify {
    struct store *store;
    struct image image;
    struct index chunks;   /* each once; raw is the length that the image says */
    bool forget;
    uint8_t *rooms[CREW_MAX];
    pthread_mutex_t mutex; /* for what follows */
    uint64_t damaged, bytes;
    struct err first;
};

static int chunk_collect(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    struct verify *v = ctx;
    struct place once = {.digest = *digest, .raw = (uint32_t)len, .state = PLACE_READY};
    (void)e;
    if (index_add(&v->chunks, &once))
        v->bytes += len;
    return 0;
}

/* ---- whose content a chunk is: the first one */
static bool extents_have(const struct extent *x, size_t count, const struct digest *digest, uint64_t *at)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&x[i].digest, digest, sizeof *digest) == 0) {
            *at = x[i].at;
            return true;
        }
    return false;
}

static char *tree_owner(const struct tree *t, const struct digest *digest)
{
    uint64_t at;
    for (size_t i = 0; i < t->entries_count; i++)
        if (extents_have(t->entries[i].extents, t->entries[i].extents_count, digest, &at))
            return xasprintf("file %s of tree %s at %lu", t->entries[i].path, t->name, at);
    return NULL;
}

static char *chunk_owner(const struct image *in, const struct digest *digest)
{
    uint64_t at;
    for (size_t i = 0; i < in->tasks_count; i++)
        if (extents_have(in->tasks[i].mm.extents, in->tasks[i].mm.extents_count, digest, &at))
            return xasprintf("memory of pid %lu at 0x%lx", in->tasks[i].pid, at);
    for (size_t i = 0; i < in->memobjs_count; i++)
        if (extents_have(in->memobjs[i].extents, in->memobjs[i].extents_count, digest, &at))
            return xasprintf("shared memory %lu (%s) at %lu", in->memobjs[i].id, in->memobjs[i].name, at);
    for (size_t i = 0; i < in->hostfiles_count; i++)
        if (extents_have(in->hostfiles[i].extents, in->hostfiles[i].extents_count, digest, &at))
            return xasprintf("file %s of the node at %lu", in->hostfiles[i].path, at);
    for (size_t i = 0; i < in->trees_count; i++) {
        char *owner = tree_owner(&in->trees[i], digest);
        if (owner)
            return owner;
    }
    return xstrdup("something else");
}

static void damage_report(struct verify *v, const struct digest *digest, struct err *why)
{
    char hex[65];
    digest_hex(digest, hex);
    AUTO_FREE char *owner = chunk_owner(&v->image, digest);
    err_wrap(why, "%s", owner);
    AUTO_FREE char *message = json_quote(why->message);
    pthread_mutex_lock(&v->mutex);
    if (v->damaged++ == 0)
        v->first = *why;
    output_event("warn", "\"chunk\":\"%s\",\"message\":%s", hex, message);
    pthread_mutex_unlock(&v->mutex);
}

static int chunk_verify(void *ctx, size_t worker, size_t i, struct err *e)
{
    struct verify *v = ctx;
    const struct place *wanted = &v->chunks.places[i];
    struct err why = {0};
    if (!v->rooms[worker])
        v->rooms[worker] = xcalloc(CHUNK_MAX, 1);
    if (!store_get(v->store, &wanted->digest, v->rooms[worker], wanted->raw, &why))
        return 0;
    if (why.code != E_BAD_IMAGE && why.code != E_IO) {
        *e = why;
        return -1;
    }
    damage_report(v, &wanted->digest, &why);
    return v->forget ? store_forget(v->store, &wanted->digest, e) : 0;
}

static int chunks_verify(struct verify *v, const char *dir, struct err *e)
{
    for (size_t i = 0; store_damage(v->store, i); i++) {
        AUTO_FREE char *message = json_quote(store_damage(v->store, i));
        output_event("warn", "\"message\":%s", message);
    }
    if (image_each_chunk(&v->image, chunk_collect, v, e) || crew_work(v->chunks.count, chunk_verify, v, e))
        return -1;
    if (!v->damaged)
        return 0;
    *e = v->first;
    e->code = E_BAD_IMAGE;
    return err_wrap(e, "image %s: %lu of its %zu chunks are damaged or missing: the first", dir, v->damaged, v->chunks.count);
}

static int image_verify(struct verify *v, const char *dir, const char *store, struct err *e)
{
    struct digest digest;
    char hex[65];
    AUTO_FREE char *store_dir = store_of(dir, store);
    if (image_read(dir, &v->image, &digest, e) || store_open(store_dir, false, &v->store, e) || chunks_verify(v, dir, e))
        return -1;
    digest_hex(&digest, hex);
    output_event("done", "\"digest\":\"%s\",\"chunks\":%zu,\"bytes\":%lu", hex, v->chunks.count, v->bytes);
    return 0;
}

int verb_verify(int argc, char **argv)
{
    const char *dir = NULL, *store = NULL;
    struct verify v = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    const struct option_spec specs[] = {
        {"store", 'd', &store, false, "the store, if it is not the image's own"},
        {"forget-damaged", 'b', &v.forget, false, "damaged chunks count as missing from now on, so that they can be fetched again"},
    };
    struct err e = {0};
    output_open(1);
    int result = word_parse(argc, argv, "native verify IMAGE [--store DIR] [--forget-damaged]", specs, ARRAY_LENGTH(specs),
                            "IMAGE", &dir, &e) || image_verify(&v, dir, store, &e) ? -1 : 0;
    store_close(v.store);
    for (size_t i = 0; i < CREW_MAX; i++)
        free(v.rooms[i]);
    index_free(&v.chunks);
    image_free(&v.image);
    return verb_end(result, &e);
}
