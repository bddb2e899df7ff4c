/* Everything that changes a store, each of its calls of the disk failing in turn (full, broken, half written) and the process killed at each:
 * afterwards the store is whole, the images from before are whole, and the same again works. A sixth of the calls, by TEST_SEED; STORE_FAULTS=all: all. */
#define MEMORY_BYTES (10 * CHUNK_MAX)
#include "tests/image_maker.h"

#include "store/stream.h"

static char *images, *store, *fresh, *stream, *copy;

static int image_is_made(struct err *e)
{
    struct image image = {0};
    struct digest d;
    struct store *s = NULL;
    int result = store_open(store, true, &s, e) || image_put(&image, s, 2, e) || image_write(fresh, &image, &d, e) ? -1 : 0;
    image_free(&image);
    store_close(s);
    return result;
}

static int rely_on(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    return store_rely(ctx, digest, len, e);
}

static int image_is_named(struct err *e)
{
    struct image image = {0};
    struct digest d;
    struct store *s = NULL;
    int result = store_open(store, true, &s, e) || image_put(&image, s, 2, e) || image_each_chunk(&image, rely_on, s, e) || store_pin(s, e) ||
                 image_write(fresh, &image, &d, e) ? -1 : 0;
    image_free(&image);
    store_close(s);
    return result;
}

static int chunks_are_received(struct err *e)
{
    struct stream_result r;
    struct store *s = NULL;
    AUTO_CLOSE int fd = open(stream, O_RDONLY | O_CLOEXEC);
    int result = store_open(store, true, &s, e) || stream_receive(s, fd, &r, e) ? -1 : 0;
    store_close(s);
    return result;
}

static int store_is_swept(struct err *e)
{
    struct gc_result r;
    return store_gc(store, images, 0, false, &r, e);
}

/* What memory_fill gives an image of seed 1 in its first chunk. */
static void memory_fill_first(uint8_t *data, size_t len)
{
    AUTO_FREE uint8_t *memory = xcalloc(MEMORY_BYTES, 1);
    memory_fill(memory, MEMORY_BYTES, 1);
    memcpy(data, memory, len);
}

/* The first chunk of the image is given up, and put again. */
static int chunk_is_forgotten(struct err *e)
{
    struct image image;
    struct store *s = NULL;
    AUTO_FREE char *dir = xasprintf("%s/old", images);
    static uint8_t data[CHUNK_MAX];
    struct digest d;
    uint64_t stored;
    if (image_read(dir, &image, NULL, e))
        return -1;
    const struct extent *x = &image.tasks[0].mm.extents[0];
    int result = store_open(store, true, &s, e) ? -1 : 0;
    if (!result && store_has(s, &x->digest))
        result = store_get(s, &x->digest, data, x->len, e) || store_forget(s, &x->digest, e);
    else if (!result)
        memory_fill_first(data, x->len);
    result = result || store_put(s, data, x->len, &d, &stored, e) || store_commit(s, e) ? -1 : 0;
    image_free(&image);
    store_close(s);
    return result;
}

static int send_one(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    (void)len;
    void **c = ctx;
    return stream_send(c[0], *(int *)c[1], digest, e);
}

/* What every round begins with: an image in the store, beside chunks that nobody needs in the same pack; and a stream of another. */
static void template_make(const char *top)
{
    AUTO_FREE char *dir = xasprintf("%s/images/old", top), *from = xasprintf("%s/store", top), *other = below("other"), *out = below("elsewhere");
    struct err e = {0};
    struct digest d;
    struct image image;
    struct store *s = opened(from, true);
    static uint8_t noise[8 * CHUNK_MAX];
    struct extent *x = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    random_fill(noise, sizeof noise);
    if (store_put_extents(s, 0, noise, sizeof noise, &x, &count, &bytes, &e) || image_put(&image, s, 1, &e) || image_write(dir, &image, &d, &e))
        abort();
    image_free(&image);
    free(x);
    store_close(s);
    image_make(out, other, 3, &d);
    s = opened(other, false);
    int fd = open(stream, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *ctx[2] = {s, &fd};
    if (image_read(out, &image, NULL, &e) || stream_begin(fd, &e) || image_each_chunk(&image, send_one, ctx, &e) || stream_end(fd, &e))
        abort();
    image_free(&image);
    close(fd);
    store_close(s);
}

static bool store_is_sound(void)
{
    struct err e = {0};
    AUTO_FREE char *old = xasprintf("%s/old", images), *manifest = xasprintf("%s/manifest", fresh);
    struct store *s = opened(store, false);
    bool sound = store_damage(s, 0) == NULL;
    store_close(s);
    return sound && good(verified(old, store, &e), &e) && (access(manifest, F_OK) < 0 || good(verified(fresh, store, &e), &e));
}

/* Exit 0: it went through without reaching the call; 1: it failed and said why; 2: it failed without words; 3: reached, and not told. */
static int act_in_child(int (*act)(struct err *), long at, int number)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = {0};
        fault_calls = 0;
        fault_number = number;
        fault_at = at;
        int result = act(&e);
        bool reached = fault_calls >= at;
        fault_at = 0;
        _exit(result ? (e.code && e.message[0] ? 1 : 2) : reached ? 3 : 0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 128 : WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* May it go on past a failure and finish all the same, as a sweep does? Is an old image broken on the way, as a forgotten chunk does it? */
static void each_call_fails(const char *words, int (*act)(struct err *), bool tolerant, bool breaks)
{
    static const int numbers[] = {ENOSPC, EIO, -ENOSPC, 0};
    const char *all = getenv("STORE_FAULTS");
    AUTO_FREE char *again = xasprintf("rm -rf %s && cp -a %s/template %s", copy, base, copy);
    long tried = 0, bad = 0, unsound = 0, stuck = 0;
    for (size_t n = 0; n < ARRAY_LENGTH(numbers); n++)
        for (long at = 1, ended = 1; ended; at++) {
            if (!all && random_below(6) && at < 40)
                continue;
            if (system(again))
                abort();
            struct err e = {0};
            ended = act_in_child(act, at, numbers[n]);
            tried += ended != 0;
            bad += ended == 2 || ended == 255 || (ended == 3 && !tolerant) || (ended == 128) != (ended && !numbers[n]);
            unsound += !breaks && !store_is_sound();
            stuck += !good(act(&e), &e) || !store_is_sound();
        }
    ok(tried >= 2 && !bad, "%s: a full disk, a broken one, half a write, a kill at %ld calls: told, or dead", words, tried);
    ok(!unsound && !stuck, "and %s whole, the next try goes through", breaks ? "then it is" : "the images from before are");
}

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    AUTO_FREE char *template = below("template");
    copy = below("copy"), stream = below("chunks");
    images = xasprintf("%s/images", copy), store = xasprintf("%s/store", copy), fresh = xasprintf("%s/images/new", copy);
    template_make(template);
    each_call_fails("an image is made", image_is_made, false, false);
    each_call_fails("chunks are received", chunks_are_received, false, false);
    each_call_fails("the store is swept", store_is_swept, true, false);
    each_call_fails("a damaged chunk is made anew", chunk_is_forgotten, false, true);
    AUTO_FREE char *mark = xasprintf("%s/store/shared", template);
    if (close(open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)))
        abort();
    each_call_fails("an image is made where nodes share", image_is_named, false, false);
    each_call_fails("chunks are received where nodes share", chunks_are_received, false, false);
    each_call_fails("what nodes share is swept", store_is_swept, true, false);
    return done_testing();
}
