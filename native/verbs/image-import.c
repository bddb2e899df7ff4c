/* native image-import: a manifest from standard input becomes an image here, if it is the one that was asked for and
 * the store holds all of its chunks. The store stays a writing session until the manifest is durable: no gc between. */
#include <fcntl.h>

#include "../store/sha256.h"
#include "../store/store_io.h"
#include "store-common.h"
#include "verbs.h"

static int stdin_slurp(struct buf *out, struct err *e)
{
    uint8_t piece[65536];
    for (;;) {
        size_t n = fread(piece, 1, sizeof piece, stdin);
        buf_add(out, piece, n);
        if (out->len > IMAGE_MANIFEST_MAX)
            return err_set(e, E_BAD_IMAGE, "the manifest is longer than any may be");
        if (n < sizeof piece)
            return ferror(stdin) ? err_set(e, E_IO, "standard input cannot be read") : 0;
    }
}

static int digest_check(const struct buf *manifest, const char *hex, struct err *e)
{
    struct digest wanted, found;
    if (digest_parse(hex, &wanted, e))
        return err_wrap(e, "--digest");
    sha256_of(manifest->data, manifest->len, &found);
    return memcmp(&wanted, &found, sizeof wanted) ? err_set(e, E_BAD_IMAGE, "the manifest is not the one of %s", hex) : 0;
}

static int chunk_check(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    return store_rely(ctx, digest, len, e);
}

static int manifest_keep(const char *dir, const struct buf *manifest, struct err *e)
{
    if (store_io_mkdirs(dir, e))
        return -1;
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open %s", dir) : store_io_replace(fd, "manifest", manifest->data, manifest->len, e);
}

/* Named, unless a sweep took something away that this image relied on. */
static int manifest_name(const char *dir, struct store *s, const struct buf *manifest, struct err *e)
{
    if (store_pin(s, e) || manifest_keep(dir, manifest, e))
        return -1;
    if (!store_pin(s, e))
        return 0;
    AUTO_FREE char *path = xasprintf("%s/manifest", dir);
    unlink(path);
    return -1;
}

static int manifest_import(const char *dir, const char *store, const struct buf *manifest, struct err *e)
{
    struct image image = {0};
    struct store *s = NULL;
    int result = image_decode_file(manifest->data, manifest->len, &image, e) ? err_wrap(e, "the manifest is") : 0;
    result = result || store_open(store, true, &s, e) || image_each_chunk(&image, chunk_check, s, e) ||
             manifest_name(dir, s, manifest, e) ? -1 : 0;
    store_close(s);
    image_free(&image);
    return result;
}

static int import_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL, *store = NULL, *digest = NULL;
    const struct option_spec specs[] = {
        {"dir", 'd', &dir, true, "where the image goes"},
        {"store", 'd', &store, true, "the store that holds its chunks"},
        {"digest", 's', &digest, true, "the manifest's digest"},
    };
    AUTO_BUF struct buf manifest = {0};
    if (plain_parse(argc, argv, "native image-import --dir DIR --store DIR --digest HEX < MANIFEST", specs,
                    ARRAY_LENGTH(specs), e) || stdin_slurp(&manifest, e) || digest_check(&manifest, digest, e) ||
        manifest_import(dir, store, &manifest, e))
        return -1;
    output_event("done", "\"digest\":\"%s\",\"bytes\":%zu", digest, manifest.len);
    return 0;
}

int verb_image_import(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(import_run(argc, argv, &e), &e);
}
