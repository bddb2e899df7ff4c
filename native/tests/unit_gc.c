/* A sweep of the store keeps exactly what images refer to, whoever reads, writes or fails meanwhile. */
#include "tests/image_maker.h"

static void gc_keeps_what_images_need(void)
{
    AUTO_FREE char *images = below("gc/images"), *a = below("gc/images/a"), *b = below("gc/images/deeper/b"), *store = below("gc/store");
    AUTO_FREE char *size = xasprintf("du -sb %s | cut -f1", store), *forget = xasprintf("rm -r %s", a);
    struct digest d;
    struct err e = {0};
    struct gc_result r;
    image_make(a, store, 10, &d);
    image_make(b, store, 11, &d);
    ok(good(store_gc(store, images, 0, false, &r, &e), &e) && r.removed_chunks == 0 && r.kept_chunks == 6, "nothing goes while images need it");
    if (system(forget))
        abort();
    ok(good(store_gc(store, images, 3600, false, &r, &e), &e) && r.removed_chunks == 0, "nothing young goes");
    ok(good(store_gc(store, images, 0, true, &r, &e), &e) && r.removed_chunks == 3 && r.removed_bytes > 0 && good(verified(b, store, &e), &e), "a dry run says what would go");
    uint64_t said = r.removed_bytes;
    ok(good(store_gc(store, images, 0, false, &r, &e), &e) && r.removed_chunks == 3 && r.removed_bytes == said, "the chunks of a removed image go, %lu bytes", said);
    ok(good(verified(b, store, &e), &e), "and the other image is whole");
    ok(good(store_gc(store, images, 0, false, &r, &e), &e) && r.removed_chunks == 0 && r.packs == 1, "a second sweep finds nothing more");
}

static void gc_rewrites_wasteful_packs(void)
{
    AUTO_FREE char *images = below("re/images"), *a = below("re/images/a"), *b = below("re/images/b"), *store = below("re/store");
    AUTO_FREE char *forget = xasprintf("rm -r %s", a);
    struct digest d;
    struct err e = {0};
    struct image ia, ib;
    struct gc_result r;
    struct store *s = opened(store, true);
    image_fill(&ia, s, 20);
    /* both images in one pack: the commit of the second holds a third chunk set of the first, too */
    store_close(s);
    AUTO_FREE char *wipe = xasprintf("rm -rf %s", store);
    if (system(wipe))
        abort();
    s = opened(store, true);
    AUTO_FREE uint8_t *data = xcalloc(MEMORY_BYTES, 1);
    uint64_t bytes = 0;
    ib = (struct image){.format = IMAGE_FORMAT};
    struct task *t = LIST_ADD(&ib, tasks);
    t->pid = 7;
    memory_fill(data, MEMORY_BYTES, 20);
    struct extent *unwanted = NULL;
    size_t unwanted_count = 0;
    bool put = !store_put_extents(s, 0x10000000, data, MEMORY_BYTES, &unwanted, &unwanted_count, &bytes, &e);
    free(unwanted);
    memory_fill(data, MEMORY_BYTES, 21);
    put = put && !store_put_extents(s, 0x10000000, data, CHUNK_MAX, &t->mm.extents, &t->mm.extents_count, &bytes, &e) && !store_commit(s, &e);
    put = put && !image_write(a, &ia, &d, &e) && !image_write(b, &ib, &d, &e);
    image_free(&ia);
    image_free(&ib);
    ok(put, "two images in one pack");
    /* a reader that opened the store before the pack moves */
    struct store *reader = opened(store, false);
    store_close(s);
    if (system(forget))
        abort();
    ok(good(store_gc(store, images, 0, false, &r, &e), &e) && r.removed_chunks == 3 && r.packs == 1 && r.removed_bytes > CHUNK_MAX, "a pack that is mostly unwanted is rewritten");
    ok(good(verified(b, store, &e), &e), "what is wanted of it is whole");
    ok(!image_read(b, &ib, NULL, &e) && good(image_each_chunk(&ib, chunk_check, reader, &e), &e), "also for a reader that looked before");
    image_free(&ib);
    store_close(reader);
}

static void many_small_packs_become_one(void)
{
    AUTO_FREE char *images = below("many/images"), *store = below("many/store"), *dir = below("many/images/a");
    struct image image = {.format = IMAGE_FORMAT};
    struct err e = {0};
    struct digest d;
    struct gc_result r;
    struct task *t = LIST_ADD(&image, tasks);
    t->pid = 3;
    bool put = true;
    for (uint64_t i = 0; i < 40; i++) {
        uint8_t page[4096];
        uint64_t bytes = 0;
        memory_fill(page, sizeof page, 100 + i);
        struct store *s = opened(store, true);
        put = put && !store_put_extents(s, 0x1000 * (i + 1), page, sizeof page, &t->mm.extents, &t->mm.extents_count, &bytes, &e) && !store_commit(s, &e);
        store_close(s);
    }
    put = put && !image_write(dir, &image, &d, &e);
    image_free(&image);
    ok(put && good(store_gc(store, images, 0, false, &r, &e), &e) && r.packs == 1 && r.kept_chunks == 40 && r.removed_chunks == 0, "40 small packs become one");
    ok(good(verified(dir, store, &e), &e), "and every chunk is there");
}

static void gc_is_careful(void)
{
    AUTO_FREE char *images = below("careful/images"), *a = below("careful/images/a"), *store = below("careful/store"), *manifest = below("careful/images/a/manifest");
    struct digest d;
    struct err e = {0};
    struct gc_result r;
    image_make(a, store, 30, &d);
    byte_flip(manifest, 40, 1);
    ok(store_gc(store, images, 0, false, &r, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, "careful/images/a"), "gc sweeps nothing while an image is damaged, and names it");
    byte_flip(manifest, 40, 1);
    ok(store_gc(store, "/nonexistent", 0, false, &r, &e) == -1, "nor when the images are not where it was told");
    ok(good(verified(a, store, &e), &e), "everything is still there");
    int begin[2]; /* forked before the store is open: a lock belongs to all who inherit it */
    if (pipe(begin))
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        struct err f = {0};
        char byte;
        _exit(read(begin[0], &byte, 1) == 1 && store_gc(store, images, 0, false, &r, &f) == 0 ? 0 : 1);
    }
    struct store *writer = opened(store, true);
    if (write(begin[1], "x", 1) != 1)
        abort();
    usleep(200000);
    ok(waitpid(pid, NULL, WNOHANG) == 0, "gc waits while somebody writes");
    store_close(writer);
    int status = 1;
    waitpid(pid, &status, 0);
    ok(status == 0, "and runs when the writer has closed the store");
}

/* Each write of gc fails in turn, and gc is killed at each in turn: the image stays whole. */
static void gc_survives_faults(void)
{
    AUTO_FREE char *images = below("gcfault/images"), *b = below("gcfault/images/b"), *store = below("gcfault/store"), *top = below("gcfault");
    int damaged = 0, steps = 0;
    for (long at = 1;; at++) {
        struct err e = {0};
        struct gc_result r;
        struct image ib = {.format = IMAGE_FORMAT};
        struct digest d;
        AUTO_FREE char *wipe = xasprintf("rm -rf %s", top);
        if (system(wipe))
            abort();
        struct store *s = opened(store, true);
        AUTO_FREE uint8_t *data = xcalloc(MEMORY_BYTES, 1);
        uint64_t bytes = 0;
        struct task *t = LIST_ADD(&ib, tasks);
        t->pid = 7;
        struct extent *unwanted = NULL;
        size_t unwanted_count = 0;
        memory_fill(data, MEMORY_BYTES, 40);
        if (store_put_extents(s, 0x10000000, data, MEMORY_BYTES, &unwanted, &unwanted_count, &bytes, &e) ||
            store_put_extents(s, 0x20000000, data + 100, 4096 * 20, &t->mm.extents, &t->mm.extents_count, &bytes, &e) ||
            store_commit(s, &e) || image_write(b, &ib, &d, &e))
            abort();
        store_close(s);
        image_free(&ib);
        free(unwanted);
        fault_calls = 0;
        fault_at = at;
        int result = store_gc(store, images, 0, false, &r, &e);
        bool reached = fault_calls >= at;
        fault_at = 0;
        (void)result;
        damaged += verified(b, store, &e) != 0;
        damaged += store_gc(store, images, 0, false, &r, &e) != 0 || verified(b, store, &e) != 0 || r.packs != 1;
        if (!reached)
            break;
        steps++;
    }
    ok(steps >= 6 && !damaged, "a full disk at each of gc's %d steps: images stay whole, the next sweep finishes", steps);
}

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    gc_keeps_what_images_need();
    gc_rewrites_wasteful_packs();
    many_small_packs_become_one();
    gc_is_careful();
    gc_survives_faults();
    return done_testing();
}
