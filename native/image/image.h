/* An image on disk: a directory with the file `manifest` (magic, format, encoded struct image, SHA-256 of
 * all before it) and, unless --store names another, its own `store/`. The manifest's digest is the SHA-256
 * of the whole manifest file; it names the image everywhere (database, certificates, replication). */
#pragma once
#include "../store/store.h"
#include "schema.h"

/* Write durably: temporary name, fsync, rename, fsync of the directory. Chunks must have been committed.
 * What image_check would refuse at a restore is refused now: E_UNSUPPORTED. */
MUST_CHECK int image_write(const char *dir, const struct image *in, struct digest *manifest_digest, struct err *e);
/* Read and check the trailer digest, decode. E_BAD_IMAGE names the damage. */
MUST_CHECK int image_read(const char *dir, struct image *out, struct digest *manifest_digest, struct err *e);
/* Call fn for every chunk that the image refers to (each digest may come more than once). */
MUST_CHECK int image_each_chunk(const struct image *in,
                                int (*fn)(void *ctx, const struct digest *digest, uint64_t len, struct err *e),
                                void *ctx, struct err *e);

/* The file `manifest` as bytes, and back (any bytes: E_BAD_IMAGE says what is wrong). */
void image_encode_file(const struct image *in, struct buf *out);
MUST_CHECK int image_decode_file(const uint8_t *data, size_t len, struct image *out, struct err *e);
/* What can be seen wrong in an image without its chunks: extents, mappings, numbers, references. image_read calls it. */
MUST_CHECK int image_check(const struct image *in, struct err *e);
#define IMAGE_MANIFEST_MAX (1ul << 30)
