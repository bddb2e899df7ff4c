/* Images on disk: durable, whole or refused; any changed byte is found; gc keeps exactly what images refer to;
 * chunks travel between stores only when they are what they are called. */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/sha256.h"
#include "store/store_io.h"
#include "store/stream.h"
#include "tests/tap.h"

static long fault_at, fault_calls;

int store_io_fault(const char *operation)
{
    (void)operation;
    return ++fault_calls == fault_at ? ENOSPC : 0;
}

static const char *base;

static char *below(const char *name)
{
    return xasprintf("%s/%s", base, name);
}

static bool good(int result, const struct err *e)
{
    if (result)
        printf("# %s\n", e->message);
    return result == 0;
}

static struct store *opened(const char *dir, bool create)
{
    struct store *s = NULL;
    struct err e = {0};
    if (!good(store_open(dir, create, &s, &e), &e))
        abort();
    return s;
}

/* ---- an image with memory of some chunks, seeded by `k`: equal k, equal content */
static void memory_fill(uint8_t *data, size_t len, uint64_t k)
{
    uint64_t before = tap_state;
    tap_state = k;
    random_fill(data, len);
    for (size_t i = len / 2; i < len; i++)
        data[i] &= 3; /* half of it compresses */
    tap_state = before;
}

#define MEMORY_BYTES (3 * CHUNK_MAX)

static void image_fill(struct image *image, struct store *s, uint64_t k)
{
    struct err e = {0};
    AUTO_FREE uint8_t *data = xcalloc(MEMORY_BYTES, 1);
    memory_fill(data, MEMORY_BYTES, k);
    *image = (struct image){.format = IMAGE_FORMAT, .kernel = xstrdup("Linux"), .pod.hostname = xstrdup("pod-0")};
    struct task *t = LIST_ADD(image, tasks);
    t->pid = 7;
    t->comm = xstrdup("victim");
    struct vma *v = LIST_ADD(&t->mm, vmas);
    *v = (struct vma){.start = 0x10000000, .end = 0x10000000 + MEMORY_BYTES, .kind = VMA_ANON};
    if (store_put_extents(s, 0x10000000, data, MEMORY_BYTES, &t->mm.extents, &t->mm.extents_count, &image->new_bytes, &e) ||
        store_commit(s, &e))
        abort();
}

static void image_make(const char *dir, const char *store, uint64_t k, struct digest *digest)
{
    struct image image;
    struct err e = {0};
    struct store *s = opened(store, true);
    image_fill(&image, s, k);
    if (!good(image_write(dir, &image, digest, &e), &e))
        abort();
    image_free(&image);
    store_close(s);
}

static int chunk_check(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    static uint8_t data[CHUNK_MAX];
    return store_get(ctx, digest, data, len, e);
}

/* 0 when everything that the image needs is there and right. */
static int verified(const char *dir, const char *store, struct err *e)
{
    struct image image;
    struct store *s = NULL;
    if (image_read(dir, &image, NULL, e))
        return -1;
    int result = store_open(store, false, &s, e) || image_each_chunk(&image, chunk_check, s, e) ? -1 : 0;
    store_close(s);
    image_free(&image);
    return result;
}

static void an_image_is_written_and_read(void)
{
    AUTO_FREE char *dir = below("one/image"), *store = below("one/store"), *path = below("one/image/manifest");
    struct digest written, read;
    struct err e = {0};
    struct image image;
    image_make(dir, store, 1, &written);
    ok(good(image_read(dir, &image, &read, &e), &e) && memcmp(&written, &read, sizeof read) == 0, "an image has the digest that it was written with");
    AUTO_FREE char *command = xasprintf("sha256sum %s", path);
    char hex[65], seen[65] = "";
    digest_hex(&read, hex);
    FILE *f = popen(command, "r");
    ok(f && fscanf(f, "%64s", seen) == 1 && strcmp(hex, seen) == 0, "which is the SHA-256 of its manifest file");
    pclose(f);
    ok(image.tasks_count == 1 && image.tasks[0].mm.extents_count == 3 && strcmp(image.pod.hostname, "pod-0") == 0, "and what was put into it");
    ok(good(verified(dir, store, &e), &e), "all of its chunks are there");
    image_free(&image);
    ok(image_read("/nonexistent", &image, NULL, &e) == -1 && e.code == E_NO_INPUT, "an image that is not there is said to be missing: %s", e.message);
}

/* ---- any changed byte */
static char flip_paths[64][512];
static size_t flip_path_count;

static int path_note(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)ftw;
    if (kind == FTW_F && st->st_size > 0 && flip_path_count < ARRAY_LENGTH(flip_paths))
        snprintf(flip_paths[flip_path_count++], sizeof flip_paths[0], "%s", path);
    return 0;
}

static void byte_flip(const char *path, uint64_t at, uint8_t mask)
{
    uint8_t byte;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)at) != 1)
        abort();
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        abort();
}

static void any_changed_byte_is_found(void)
{
    AUTO_FREE char *dir = below("flip/image"), *store = below("flip/store"), *all = below("flip");
    struct digest d;
    struct err e = {0};
    image_make(dir, store, 2, &d);
    nftw(all, path_note, 16, FTW_PHYS);
    ok(flip_path_count == 2, "an image and its store are a manifest and a pack");
    for (size_t i = 0; i < flip_path_count; i++) {
        struct stat st;
        if (stat(flip_paths[i], &st))
            abort();
        uint64_t size = (uint64_t)st.st_size, tries = size < 400 ? size : 400, unseen = 0;
        for (uint64_t k = 0; k < tries; k++) {
            /* each byte of the ends, random ones between */
            uint64_t at = tries == size ? k : k < 100 ? k : k < 200 ? size - 1 - (k - 100) : random_below(size);
            uint8_t mask = (uint8_t)(1u << random_below(8));
            byte_flip(flip_paths[i], at, mask);
            struct err why = {0};
            if (verified(dir, store, &why) == 0) {
                unseen++;
                printf("# %s: byte %lu, bit %02x\n", flip_paths[i], at, mask);
            }
            byte_flip(flip_paths[i], at, mask);
        }
        ok(unseen == 0, "%lu single changed bits of %s: each is found", tries, strrchr(flip_paths[i], '/') + 1);
        if (truncate(flip_paths[i], (off_t)(size - 1)))
            abort();
        ok(verified(dir, store, &e) == -1 && e.code == E_BAD_IMAGE, "so is a missing last byte: %s", e.message);
        if (truncate(flip_paths[i], (off_t)size))
            abort();
        byte_flip(flip_paths[i], size - 1, 0);
        AUTO_FREE char *again = xasprintf("rm -rf %s", all);
        if (system(again))
            abort();
        image_make(dir, store, 2, &d);
        flip_path_count = 0;
        nftw(all, path_note, 16, FTW_PHYS);
    }
}

/* ---- durable, whole or not at all */
static void a_failed_write_leaves_the_old_image(void)
{
    AUTO_FREE char *dir = below("fault/image"), *store = below("fault/store");
    struct digest old, now;
    struct err e = {0};
    image_make(dir, store, 3, &old);
    struct store *s = opened(store, true);
    struct image image;
    image_fill(&image, s, 4);
    int failures = 0, silent = 0, damaged = 0;
    for (long at = 1;; at++) {
        struct err f = {0};
        struct image back;
        fault_calls = 0;
        fault_at = at;
        int result = image_write(dir, &image, &now, &f);
        bool reached = fault_calls >= at;
        fault_at = 0;
        struct digest there;
        if (image_read(dir, &back, &there, &e))
            damaged++;
        else
            image_free(&back);
        if (!reached)
            break;
        failures++;
        silent += result == 0 || f.code != E_NO_SPACE;
        damaged += memcmp(&there, &old, sizeof old) != 0 && memcmp(&there, &now, sizeof now) != 0;
    }
    ok(failures >= 5 && !silent && !damaged, "a full disk at each of %d steps is told, and the image is the old or the new one, whole", failures);
    AUTO_FREE char *leftover = xasprintf("test $(ls %s | wc -l) = 1", dir);
    ok(system(leftover) == 0, "no temporary file is left");
    image_free(&image);
    store_close(s);
}

/* ---- what is no image */
static bool file_refused(const struct buf *file, const char *words)
{
    struct err e = {0};
    struct image out = {0};
    bool refused = image_decode_file(file->data, file->len, &out, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, words);
    if (!refused)
        printf("# %s\n", e.message);
    image_free(&out);
    return refused;
}

static void reseal(struct buf *file)
{
    struct digest d;
    sha256_of(file->data, file->len - DIGEST_BYTES, &d);
    memcpy(file->data + file->len - DIGEST_BYTES, d.bytes, DIGEST_BYTES);
}

static void what_is_no_image_is_refused(void)
{
    struct image image = {.format = IMAGE_FORMAT};
    AUTO_BUF struct buf file = {0};
    struct buf empty = {.data = (uint8_t *)"", .len = 0};
    image_encode_file(&image, &file);
    ok(file_refused(&empty, "not a manifest"), "an empty file is no manifest");
    file.data[8] = IMAGE_FORMAT + 1;
    ok(file_refused(&file, "checksum"), "a changed format number is damage");
    reseal(&file);
    ok(file_refused(&file, "of format 3; this engine reads up to 2"), "a newer format is refused by its number");
    file.data[8] = 1;
    file.data[16]++;
    reseal(&file);
    ok(file_refused(&file, "of another length"), "a wrong length is refused");
    AUTO_FREE char *dir = below("strange"), *path = below("strange/manifest");
    struct err e = {0};
    if (mkdir(dir, 0755) || mkfifo(path, 0600))
        abort();
    ok(image_read(dir, &image, NULL, &e) == -1 && e.code == E_BAD_IMAGE, "a FIFO instead of a manifest is refused and not waited for");
}

/* ---- images that decode and are impossible */
static bool impossible(struct image *in, const char *words)
{
    struct err e = {0};
    bool refused = image_check(in, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, words);
    if (!refused)
        printf("# %s\n", e.message);
    image_free(in);
    return refused;
}

static struct task *task_make(struct image *in, uint64_t pid)
{
    struct task *t = LIST_ADD(in, tasks);
    t->pid = pid;
    return t;
}

static void impossible_images_are_refused(void)
{
    struct image i = {0};
    task_make(&i, 5);
    task_make(&i, 5);
    ok(impossible(&i, "a pid that comes twice"), "two processes of one pid");
    task_make(&i, 0);
    ok(impossible(&i, "pid that comes twice, or is 0"), "a process of pid 0");
    task_make(&i, 1ul << 40);
    ok(impossible(&i, "an impossible pid"), "a pid beyond all pids");
    LIST_ADD(task_make(&i, 5), threads)->tid = 6;
    ok(impossible(&i, "not its leader"), "a process without its leader");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x800000001000};
    ok(impossible(&i, "outside of user space"), "a mapping of the kernel's half");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1001, .end = 0x3000};
    ok(impossible(&i, "outside of user space"), "a mapping that begins inside a page");
    struct mm *m = &task_make(&i, 5)->mm;
    *LIST_ADD(m, vmas) = (struct vma){.start = 0x1000, .end = 0x3000};
    *LIST_ADD(m, vmas) = (struct vma){.start = 0x2000, .end = 0x4000};
    ok(impossible(&i, "overlap"), "mappings that overlap");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x3000, .kind = VMA_MEMOBJ, .memobj = 3};
    ok(impossible(&i, "a memory object that is not there"), "a mapping of nothing");
    *LIST_ADD(&task_make(&i, 5)->mm, extents) = (struct extent){.at = UINT64_MAX - 4095, .len = 8192};
    ok(impossible(&i, "outside of user space"), "content that wraps around");
    *LIST_ADD(&task_make(&i, 5)->mm, extents) = (struct extent){.at = 0x1000, .len = CHUNK_MAX + 4096, .digest = {{1}}};
    ok(impossible(&i, "longer than a chunk"), "a piece of more than a chunk");
    m = &task_make(&i, 5)->mm;
    *LIST_ADD(m, extents) = (struct extent){.at = 0x2000, .len = 4096};
    *LIST_ADD(m, extents) = (struct extent){.at = 0x1000, .len = 4096};
    ok(impossible(&i, "out of order"), "content out of order");
    LIST_ADD(task_make(&i, 5), fds)->file = 9;
    ok(impossible(&i, "a file that is not there"), "a descriptor of nothing");
    LIST_ADD(&i, files)->id = 9;
    LIST_ADD(&i, files)->id = 9;
    ok(impossible(&i, "id that comes twice"), "two files of one number");
}

/* ---- paths that lead somewhere else */
static struct file *file_with(struct image *i, uint64_t kind, const char *path)
{
    struct file *f = LIST_ADD(i, files);
    *f = (struct file){.id = i->files_count, .kind = kind, .path = xstrdup(path)};
    return f;
}

static bool possible(struct image *in)
{
    struct err e = {0};
    int result = image_check(in, &e);
    if (result)
        printf("# %s\n", e.message);
    image_free(in);
    return result == 0;
}

static void leading_paths_are_refused(void)
{
    static const char *const paths[] = {"relative", "/proc/2/../../etc/shadow", "/a/./b", "/a//b", "/a/", "/..", "/proc/self/fd/7/x", "/proc/thread-self",
                                        "/proc/2/root/etc/shadow", "/proc/2/task/2/cwd/x", "/proc/2/fd/3", "/proc/2/fd/3/x", "/proc/2/exe", "/proc/2/map_files/1-2"};
    struct image i = {0};
    for (size_t k = 0; k < ARRAY_LENGTH(paths); k++) {
        file_with(&i, FILE_REGULAR, paths[k]);
        ok(impossible(&i, "none that the kernel gives"), "an open file of the path %s", paths[k]);
    }
    struct tree *t = LIST_ADD(&i, trees);
    t->name = xstrdup("tmp");
    struct entry *x = LIST_ADD(t, entries);
    *x = (struct entry){.path = xstrdup("way"), .mode = S_IFLNK | 0777, .target = xstrdup("/proc/self/fd/7")};
    file_with(&i, FILE_REGULAR, "/tmp/way/x");
    ok(impossible(&i, "none that the kernel gives"), "an open file behind a link of a captured tree");
    LIST_ADD(&i, hostfiles)->path = xstrdup("/usr/../x");
    ok(impossible(&i, "a file of the node"), "a file of the node with ..");
    LIST_ADD(&i, unix_sockets)->dir = xstrdup("/proc/self/fd/7");
    ok(impossible(&i, "the directory of a Unix socket"), "a socket's directory behind a descriptor");
    task_make(&i, 5)->cwd = xstrdup("/proc/5/root");
    ok(impossible(&i, "a working directory"), "a working directory behind a magic link");
    *LIST_ADD(&task_make(&i, 5)->mm, vmas) = (struct vma){.start = 0x1000, .end = 0x3000, .kind = VMA_FILE, .path = xstrdup("/lib/../x")};
    ok(impossible(&i, "a mapped file"), "a mapped file with ..");
    file_with(&i, FILE_REGULAR, "/");
    file_with(&i, FILE_REGULAR, "/a/...");
    file_with(&i, FILE_REGULAR, "/tmp/.hidden/..x");
    file_with(&i, FILE_PROC, "/proc/2/status");
    file_with(&i, FILE_DIRECTORY, "/proc/2/fd");
    file_with(&i, FILE_DIRECTORY, "/proc/2/task/2");
    file_with(&i, FILE_PATH_ONLY, "/proc/2/exe")->flags = O_PATH | O_NOFOLLOW;
    file_with(&i, FILE_MEMOBJ, "/memfd:a/../b (deleted)");
    file_with(&i, FILE_PIPE, "");
    ok(possible(&i), "paths as the kernel gives them are taken");
}

/* ---- gc */
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

/* ---- transport */
static int digest_send_all(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    (void)len;
    void **c = ctx;
    return stream_send(c[0], *(int *)c[1], digest, e);
}

static char *exported(const char *dir, const char *store)
{
    char *path = below("stream");
    struct err e = {0};
    struct image image;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct store *s = opened(store, false);
    void *ctx[2] = {s, &fd};
    if (fd < 0 || image_read(dir, &image, NULL, &e) || stream_begin(fd, &e) || image_each_chunk(&image, digest_send_all, ctx, &e) || stream_end(fd, &e)) {
        printf("# %s\n", e.message);
        abort();
    }
    close(fd);
    image_free(&image);
    store_close(s);
    return path;
}

static int imported(const char *stream, const char *store, struct err *e)
{
    struct stream_result r;
    AUTO_CLOSE int fd = open(stream, O_RDONLY | O_CLOEXEC);
    struct store *s = opened(store, true);
    int result = stream_receive(s, fd, &r, e);
    store_close(s);
    return result;
}

static void chunks_travel(void)
{
    AUTO_FREE char *dir = below("src/image"), *from = below("src/store"), *to = below("dst/store"), *stream = NULL;
    struct digest d;
    struct err e = {0};
    image_make(dir, from, 50, &d);
    stream = exported(dir, from);
    ok(good(imported(stream, to, &e), &e) && good(verified(dir, to, &e), &e), "chunks travel to another store");
    struct stat st;
    stat(stream, &st);
    int taken = 0, unclear = 0;
    for (int k = 0; k < 150; k++) {
        AUTO_FREE char *other = xasprintf("%s/dst-%d", base, k);
        uint64_t at = k < 60 ? (uint64_t)k : k < 70 ? (uint64_t)st.st_size - 1 - (uint64_t)(k - 60) : random_below((uint64_t)st.st_size);
        struct err why = {0};
        byte_flip(stream, at, (uint8_t)(1u << random_below(8)));
        int result = imported(stream, other, &why);
        unclear += result && why.code != E_BAD_IMAGE && why.code != E_IO;
        taken += !result && verified(dir, other, &e) == 0;
        free(stream);
        stream = exported(dir, from);
    }
    ok(!taken && !unclear, "a stream with any changed bit is refused");
    AUTO_FREE char *cut = below("dst-cut");
    if (truncate(stream, st.st_size - 48))
        abort();
    ok(imported(stream, cut, &e) == -1 && strstr(e.message, "cut off"), "a stream without its end is refused: %s", e.message);
    ok(good(verified(dir, cut, &e), &e), "but the whole chunks before are kept: the next try needs less");
}

static void a_wrong_chunk_is_named(void)
{
    AUTO_FREE char *path = below("wrong"), *to = below("wrong-store");
    struct err e = {0};
    uint8_t frame[48] = {0}, content[100];
    random_fill(frame, 32);
    random_fill(content, sizeof content);
    frame[32] = frame[36] = sizeof content;
    uint32_t crc = 0xffffffff; /* CRC-32C by its definition */
    for (size_t i = 0; i < sizeof content; i++) {
        crc ^= content[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    memcpy(frame + 44, &crc, 4);
    FILE *f = fopen(path, "w");
    fwrite("COSCHNKS", 8, 1, f);
    fwrite(frame, sizeof frame, 1, f);
    fwrite(content, sizeof content, 1, f);
    memset(frame, 0, sizeof frame);
    fwrite(frame, sizeof frame, 1, f);
    fclose(f);
    ok(imported(path, to, &e) == -1 && e.code == E_BAD_IMAGE && strstr(e.message, "not what its name says"), "a chunk under a wrong name is refused: %s", e.message);
}

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    an_image_is_written_and_read();
    any_changed_byte_is_found();
    a_failed_write_leaves_the_old_image();
    what_is_no_image_is_refused();
    impossible_images_are_refused();
    leading_paths_are_refused();
    gc_keeps_what_images_need();
    gc_rewrites_wasteful_packs();
    many_small_packs_become_one();
    gc_is_careful();
    gc_survives_faults();
    chunks_travel();
    a_wrong_chunk_is_named();
    return done_testing();
}
