/* Images on disk: durable, whole or refused; any changed byte is found. */
#include "tests/image_maker.h"

#include <ftw.h>

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
    AUTO_FREE char *words = xasprintf("of format %lu; this engine reads up to %lu", IMAGE_FORMAT + 1, IMAGE_FORMAT);
    ok(file_refused(&file, words), "a newer format is refused by its number");
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

int main(void)
{
    seed_begin();
    base = tap_dir_make();
    an_image_is_written_and_read();
    any_changed_byte_is_found();
    a_failed_write_leaves_the_old_image();
    what_is_no_image_is_refused();
    return done_testing();
}
