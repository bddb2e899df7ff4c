/* A store that several nodes share: no lock is waited for, equal chunks at once do no harm, and of a sweep and a writer who meet one sees the other. */
#include "tests/image_maker.h"

#include <sys/file.h>

static char *images, *store, *packs, *trash;

static void mark_shared(void)
{
    struct err e = {0};
    AUTO_FREE char *mark = xasprintf("%s/shared", store);
    if (store_io_mkdirs(packs, &e) || store_io_mkdirs(images, &e) || close(open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)))
        abort();
}

static void forget_names(void)
{
    free(images), free(store), free(packs), free(trash);
}

static void begin_anew(const char *name)
{
    forget_names();
    AUTO_FREE char *top = below(name);
    images = xasprintf("%s/images", top), store = xasprintf("%s/store", top);
    packs = xasprintf("%s/packs", store), trash = xasprintf("%s/trash", store);
    mark_shared();
}

static char *image_dir(uint64_t k)
{
    return xasprintf("%s/%lu", images, k);
}

static int rely_on(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    return store_rely(ctx, digest, len, e);
}

/* As native image-import does it: chunks, rely, pin, manifest. */
static int image_share(uint64_t k, struct err *e)
{
    AUTO_FREE char *dir = image_dir(k);
    struct image image = {0};
    struct digest d;
    struct store *s = NULL;
    int result = store_open(store, true, &s, e) || image_put(&image, s, k, e) || image_each_chunk(&image, rely_on, s, e) || store_pin(s, e) ||
                 image_write(dir, &image, &d, e) ? -1 : 0;
    if (!result && store_pin(s, e)) {
        AUTO_FREE char *manifest = xasprintf("%s/manifest", dir);
        unlink(manifest);
        result = -1;
    }
    image_free(&image);
    store_close(s);
    return result;
}

static bool is_whole(uint64_t k)
{
    struct err e = {0};
    AUTO_FREE char *dir = image_dir(k);
    return good(verified(dir, store, &e), &e);
}

static struct gc_result swept(uint64_t min_age_s)
{
    struct err e = {0};
    struct gc_result r;
    if (!good(store_gc(store, images, min_age_s, false, &r, &e), &e))
        abort();
    return r;
}

/* The one pack of a folder; NULL: it has none. */
static char *only_pack(const char *folder)
{
    AUTO_FREE char *command = xasprintf("ls %s 2>/dev/null | grep pack$ | head -1", folder);
    char line[256] = "";
    FILE *list = popen(command, "r");
    char *got = list ? fgets(line, sizeof line, list) : NULL;
    if (list)
        pclose(list);
    line[strcspn(line, "\n")] = 0;
    return got ? xasprintf("%s/%s", folder, line) : NULL;
}

static void make_old(const char *path)
{
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    if (utimensat(AT_FDCWD, path, times, 0))
        abort();
}

static void image_forget(uint64_t k)
{
    AUTO_FREE char *manifest = xasprintf("%s/%lu/manifest", images, k);
    if (unlink(manifest))
        abort();
}

static void test_locks(void)
{
    struct err e = {0};
    begin_anew("locks");
    AUTO_FREE char *lock = xasprintf("%s/lock", store);
    AUTO_CLOSE int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (flock(fd, LOCK_EX))
        abort();
    alarm(60);
    ok(good(image_share(1, &e), &e) && is_whole(1), "who writes waits for no lock");
    swept(0);
    ok(is_whole(1), "nor does a sweep, and what an image needs stays");
    alarm(0);
}

static void test_ages(void)
{
    struct err e = {0};
    begin_anew("ages");
    if (image_share(1, &e))
        abort();
    image_forget(1);
    swept(3600);
    AUTO_FREE char *pack = only_pack(packs);
    ok(pack != NULL, "a young pack that nobody needs may be somebody's who is about to name it: it stays");
    make_old(pack);
    swept(3600);
    AUTO_FREE char *gone = only_pack(packs), *left = only_pack(trash);
    ok(!gone && !left, "an old one goes");
}

static void test_pin(void)
{
    struct err e = {0};
    begin_anew("pin");
    if (image_share(1, &e))
        abort();
    AUTO_FREE char *pack = only_pack(packs);
    make_old(pack);
    struct image image = {0};
    struct store *s = opened(store, true);
    AUTO_FREE char *dir = image_dir(1);
    if (image_read(dir, &image, NULL, &e) || image_each_chunk(&image, rely_on, s, &e))
        abort();
    image_forget(1);
    ok(good(store_pin(s, &e), &e), "who relies on chunks pins their pack");
    swept(3600);
    AUTO_FREE char *there = only_pack(packs);
    ok(there != NULL, "and then no sweep takes it");
    make_old(pack);
    swept(3600);
    ok(store_pin(s, &e) && e.code == E_BUSY, "one that came too late is told: %s", e.message);
    image_free(&image);
    store_close(s);
}

/* What a sweep leaves that was killed between its two looks. */
static void trashed(bool young, bool needed)
{
    struct err e = {0};
    if (image_share(7, &e) || store_io_mkdirs(trash, &e))
        abort();
    AUTO_FREE char *pack = only_pack(packs), *aside = xasprintf("%s/%s", trash, strrchr(pack, '/') + 1);
    if (rename(pack, aside))
        abort();
    if (!young)
        make_old(aside);
    if (!needed)
        image_forget(7);
    swept(3600);
}

static void test_second_look(void)
{
    begin_anew("needed");
    trashed(false, true);
    ok(is_whole(7), "a pack in the trash that an image needs comes back");
    begin_anew("touched");
    trashed(true, false);
    AUTO_FREE char *back = only_pack(packs);
    ok(back != NULL, "and so does one that was touched");
    begin_anew("unneeded");
    trashed(false, false);
    AUTO_FREE char *gone = only_pack(packs), *left = only_pack(trash);
    ok(!gone && !left, "one that nobody needs does not");
}

static void test_waste(void)
{
    struct err e = {0};
    static uint8_t noise[8 * CHUNK_MAX];
    struct extent *x = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    struct image image = {0};
    struct digest d;
    begin_anew("waste");
    struct store *s = opened(store, true);
    AUTO_FREE char *dir = image_dir(3);
    random_fill(noise, sizeof noise);
    if (store_put_extents(s, 0, noise, sizeof noise, &x, &count, &bytes, &e) || image_put(&image, s, 3, &e) || image_write(dir, &image, &d, &e))
        abort();
    image_free(&image);
    free(x);
    store_close(s);
    AUTO_FREE char *wasteful = only_pack(packs);
    swept(0);
    ok(access(wasteful, F_OK) == 0 && is_whole(3), "what is needed of a wasteful pack is copied first");
    swept(0);
    ok(access(wasteful, F_OK) < 0 && is_whole(3), "the next sweep takes the pack");
}

/* What else lies at the path must not be swept by the manifests of a directory that others write. */
static void test_led_astray(void)
{
    struct err e = {0};
    struct gc_result r;
    struct digest d;
    begin_anew("astray");
    AUTO_FREE char *own_images = below("own/images"), *own_image = below("own/images/1"), *own = below("own/store"), *own_packs = below("own/store/packs");
    AUTO_FREE char *aside = below("astray/elsewhere");
    image_make(own_image, own, 1, &d);
    ok(store_gc_shared(own, images, 0, false, &r, &e) && e.code == E_CONFLICT, "a node's own store is not swept as one that is shared");
    if (rename(packs, aside) || symlink(own_packs, packs))
        abort();
    ok(store_gc_shared(store, images, 0, false, &r, &e) != 0, "nor through a link to its packs");
    ok(good(verified(own_image, own, &e), &e), "its images are whole");
}

static void test_hostile(void)
{
    struct err e = {0};
    begin_anew("hostile");
    if (image_share(1, &e))
        abort();
    AUTO_FREE char *pipe = xasprintf("%s/9999.pack", packs), *folder = xasprintf("%s/9998.pack", packs), *link = xasprintf("%s/9997.pack", packs);
    if (mkfifo(pipe, 0600) || mkdir(folder, 0700) || symlink("/dev/zero", link))
        abort();
    alarm(60);
    ok(is_whole(1) && good(image_share(2, &e), &e) && is_whole(2), "a pipe, a folder, a link in the place of a pack keep nobody");
    struct gc_result r;
    ok(good(store_gc(store, images, 0, false, &r, &e), &e), "nor a sweep, which leaves them alone");
    alarm(0);
    ok(is_whole(1) && is_whole(2), "and every image stays");
}

/* ---- all at once, for longer than a pack stays young */
#define AGE_S 1

static bool go_on(uint64_t begun_ns)
{
    return clock_ns(CLOCK_MONOTONIC) - begun_ns < (2 * AGE_S + 1) * 1000000000ul;
}

/* Names its image, gives it up, names it again. Told that it came too late it puts its chunks again. */
static void writer(uint64_t k, bool alone)
{
    AUTO_FREE char *manifest = xasprintf("%s/%lu/manifest", images, k);
    for (uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC); go_on(begun_ns);) {
        struct err e = {0};
        if (image_share(k, &e) && e.code != E_BUSY && e.code != E_BAD_IMAGE)
            _exit(!good(-1, &e));
        if (alone && e.code == E_OK && (!is_whole(k) || unlink(manifest)))
            _exit(2);
        usleep((useconds_t)random_below(30000));
    }
    for (int round = 0; round < 50; round++) {
        struct err e = {0};
        if (image_share(k, &e) == 0)
            _exit(0);
    }
    _exit(3);
}

static void sweeper(void)
{
    for (uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC); go_on(begun_ns);) {
        struct err e = {0};
        struct gc_result r;
        if (store_gc(store, images, AGE_S, false, &r, &e) && e.code != E_NO_INPUT)
            _exit(!good(-1, &e));
        usleep((useconds_t)random_below(20000));
    }
    _exit(0);
}

static void test_all_at_once(void)
{
    pid_t pids[5];
    int bad = 0;
    begin_anew("all");
    for (size_t i = 0; i < 5; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            i < 3 ? writer(i / 2 + 1, i == 2) : sweeper();
    }
    for (size_t i = 0; i < 5; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        if (status)
            printf("# %s ended with %x\n", i < 3 ? "a writer" : "a sweeper", (unsigned)status);
        bad += status != 0;
    }
    ok(!bad && is_whole(1) && is_whole(2), "three who write two images and two who sweep: both images are whole");
    swept(AGE_S);
    ok(is_whole(1) && is_whole(2), "and stay so");
}

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    test_locks();
    test_ages();
    test_pin();
    test_second_look();
    test_waste();
    test_led_astray();
    test_hostile();
    test_all_at_once();
    forget_names();
    return done_testing();
}
