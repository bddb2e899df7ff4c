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
/* Two of them: their digests are computed together, which is faster than one after the other. */
MUST_CHECK int store_get_two(struct store *s, const struct digest *const digests[2], void *const data[2], const size_t lens[2], struct err *e);
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

/* ---- rules and more
 * A store opened with create=true is a writing session: until store_close no gc runs, so whatever store_put found
 * "there already", and every chunk of a parent whose manifest is read after store_open, stays. Hence: open the store,
 * read the parent, put, store_commit, image_write, store_close. (create=false: readers need no session; the first put
 * begins one.) store_open waits while a gc runs. After a failed put the session's uncommitted chunks are lost:
 * every put fails until store_commit (which fails too) has thrown them away; then the store is usable again.
 * store_close throws away what was not committed. */

/* Many pieces at once, on worker threads pinned to the processors of this process's affinity (they block all signals).
 * Content is cut where the distance from `origin` is a multiple of CHUNK_MAX, so equal content meets again: in the next image, and in the
 * mapping of another process whose addresses differ. An origin is at or before `at`; 0 for offsets in files. */
struct store_range { uint64_t at, len, origin; };
/* Fill out[0..len) of each part with the content at `at`. Called from several threads at once. */
struct store_part { uint64_t at; void *out; size_t len; };
#define STORE_PARTS_MAX 256
typedef int store_source(void *ctx, const struct store_part *parts, size_t count, struct err *e);
/* Take the content at `at`. Called from several threads at once; `data` is NULL for zeros. */
typedef int store_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e);
/* Extents are appended in the order of the ranges, pieces of zeros with a zero digest. */
MUST_CHECK int store_put_ranges(struct store *s, const struct store_range *ranges, size_t range_count, store_source *source,
                                void *ctx, struct extent **extents, size_t *count, uint64_t *stored_bytes, struct err *e);
MUST_CHECK int store_get_ranges(struct store *s, const struct extent *extents, size_t count, store_sink *sink, void *ctx,
                                struct err *e);
struct store_item {
    const void *data;
    size_t len;              /* ≤ CHUNK_MAX */
    struct digest digest;    /* filled in, as by store_put */
    uint64_t stored_bytes;
};
MUST_CHECK int store_put_many(struct store *s, struct store_item *items, size_t count, struct err *e);

/* Copy first, name later (a job stands still meanwhile): from begin on, store_put_ranges, _extents and _file only copy what they are given,
 * as long as there is room, and give such extents a token instead of a digest. store_later_put keeps what stands behind tokens and puts
 * digests in their place; store_later_end forgets what was copied. `expected_bytes` are made ready at once. Not for several threads. */
MUST_CHECK int store_later_begin(struct store *s, uint64_t room_bytes, uint64_t expected_bytes, struct err *e);
bool store_later_is(const struct digest *digest);
MUST_CHECK int store_later_put(struct store *s, struct digest **digests, const uint64_t *lens, size_t count, uint64_t *stored_bytes, struct err *e);
void store_later_reset(struct store *s); /* the same room again */
void store_later_end(struct store *s);

/* A chunk that was found damaged: from now on it counts as not there, in this and every other process, and putting it again writes
 * it anew. Durable; the marker goes when gc rewrites the pack. */
MUST_CHECK int store_forget(struct store *s, const struct digest *digest, struct err *e);
/* What the store would be rid of: images below images_dir whose folder has the name of a member's digest belong to its group (below group_count).
 * frees[g]: stored bytes of the chunks that nobody but group g needs; *together: that nobody needs but the groups. Nothing is changed. */
struct frees_member { struct digest image; uint32_t group; };
MUST_CHECK int store_frees(const char *dir, const char *images_dir, const struct frees_member *members, size_t member_count, uint64_t *frees,
                           size_t group_count, uint64_t *together, struct err *e);
/* Read every chunk of one pack from the disk (not from memory), at most bytes_per_s (0: as fast as it goes), and forget those that are damaged.
 * E_NO_INPUT: there is no such pack (any more). `unreadable`: not even its index, so that none of its chunks counts as there. */
struct scrub_result { uint64_t chunks, bytes, damaged; bool unreadable; };
MUST_CHECK int store_scrub(const char *dir, const char *pack, uint64_t bytes_per_s, struct scrub_result *out, struct err *e);
/* ---- A store on a directory that several nodes share (a file `shared` in it says so): nobody locks, nothing is ever changed but by writing under
 * a name of one's own, rename and unlink. Who names an image relies on its chunks first: E_BAD_IMAGE when one is not there; store_pin then keeps
 * the packs of all that was relied on from being swept for min_age_s of every sweep. It is called before the manifest is there, and once more afterwards:
 * E_BUSY: one was just being swept; the manifest must go again, and its chunks be put again.
 * In a store of one node alone the session does that, and both cost nothing. */
MUST_CHECK int store_rely(struct store *s, const struct digest *digest, uint64_t len, struct err *e);
MUST_CHECK int store_pin(struct store *s, struct err *e);
/* store_gc of such a store; E_CONFLICT for any other, whatever lies at that path now. */
MUST_CHECK int store_gc_shared(const char *dir, const char *images_dir, uint64_t min_age_s, bool dry_run, struct gc_result *out, struct err *e);
/* Length of the content of a chunk, 0 if it is not there. */
uint32_t store_raw_len(struct store *s, const struct digest *digest);
/* Packs that could not be read, one line each ("NAME.pack: its index is damaged"); NULL behind the last. */
const char *store_damage(struct store *s, size_t number);
struct store_stat { uint64_t packs, chunks, stored_bytes, raw_bytes; };
void store_stat(struct store *s, struct store_stat *out);
