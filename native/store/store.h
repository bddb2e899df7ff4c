/* Content-addressed chunks on one disk. A chunk is at most CHUNK_MAX raw bytes, named by the SHA-256 of its
 * raw bytes, kept compressed (lz4) when that helps. Chunks live in packs (append-only files with an index at
 * their end); a pack that was not committed before a crash is swept. Several engines may use one store at once. */
#pragma once
#include "../image/schema.h"

#define CHUNK_MAX (256ul * 1024)

struct store;
MUST_CHECK int store_open(const char *dir, bool create, struct store **out, struct err *e);
void store_close(struct store *s);

/* Name `data` (len ≤ CHUNK_MAX) and keep it unless it is there already or all zeros (then *digest is zero).
 * Not durable before store_commit. *stored_bytes gets what it took on disk (0 if it was there). Thread-safe. */
MUST_CHECK int store_put(struct store *s, const void *data, size_t len, struct digest *digest, uint64_t *stored_bytes, struct err *e);
/* fsync of everything put since the last commit, and its index. */
MUST_CHECK int store_commit(struct store *s, struct err *e);
/* Read one chunk: exactly len raw bytes into data, its digest checked. A zero digest gives zeros. Thread-safe. */
MUST_CHECK int store_get(struct store *s, const struct digest *digest, void *data, size_t len, struct err *e);
bool store_has(struct store *s, const struct digest *digest);

/* Cut content into chunks and append the extents: `at` is the file offset or address of data[0]. */
MUST_CHECK int store_put_extents(struct store *s, uint64_t at, const void *data, size_t len, struct extent **extents,
                                 size_t *count, uint64_t *stored_bytes, struct err *e);
/* The same from a descriptor: [offset, offset+len), holes skipped (SEEK_DATA). */
MUST_CHECK int store_put_file(struct store *s, int fd, uint64_t size, struct extent **extents, size_t *count,
                              uint64_t *stored_bytes, struct err *e);
/* Write extents to a descriptor at their offsets, then truncate to size. */
MUST_CHECK int store_get_file(struct store *s, int fd, uint64_t size, const struct extent *extents, size_t count, struct err *e);

/* Mark and sweep under the store's lock: keep what the manifests below `images_dir` (all directories with a
 * `manifest`) refer to; `min_age_s` spares young packs of snapshots still being written. */
struct gc_result { uint64_t kept_chunks, removed_chunks, removed_bytes, packs; };
MUST_CHECK int store_gc(const char *dir, const char *images_dir, uint64_t min_age_s, bool dry_run, struct gc_result *out, struct err *e);
