/* The inside of a store, for the files of this folder. Lock order: `mutex` is the only lock inside the process; it is
 * never held over hashing, compressing or writing. Between processes: flock on `lock`, shared by writing sessions,
 * exclusive for gc, which therefore meets no uncommitted pack of anyone alive.
 * Packs in `packs` keep their number until store_close; their descriptors are never closed before (a thread may read). */
#pragma once
#include <pthread.h>

#include "index.h"
#include "store.h"

#define PACK_NAME_BYTES 48
#define SHARED_MARK "shared"  /* a file of this name: the store lies on a directory that several nodes share */
#define PACK_OPEN_MAX 512     /* beyond: opened for each read */
#define BELT_BLOCK_BYTES (2ul << 20)
#define BELT_SLOTS 8u

struct pack {
    char name[PACK_NAME_BYTES]; /* "….pack" */
    int fd;                     /* -1: not open */
    uint64_t bytes;
    char *damage;               /* what is wrong with it, or NULL */
    bool relied_on;             /* by the image that is being made: store_rely */
};
struct scratch;
struct belt {                   /* blocks of the pack being written on their way to the disk: belt.c */
    int fd;                     /* bypasses the page cache where the file system can */
    uint8_t *ring;              /* BELT_SLOTS blocks; block b in slot b % BELT_SLOTS */
    uint32_t filled[BELT_SLOTS];
    uint64_t written;           /* blocks on disk: the first ones */
    bool running, closing, writing;
    size_t crews;               /* at work: while there is one, a thread writes */
    pthread_t thread;
    pthread_cond_t wake;
};
struct part {                   /* the pack that this process writes; fd -1: none */
    int fd;                     /* for whoever reads back */
    char name[PACK_NAME_BYTES]; /* "….part" */
    uint64_t bytes;
    uint32_t pack;              /* its number in the catalog */
    uint32_t *places;           /* numbers of its entries in the index */
    size_t place_count, in_flight;
};
struct later {                  /* content that was only copied; arena NULL: none is */
    uint8_t *arena;
    uint64_t bytes, used;
};
struct store {
    char *dir;
    int dirfd, packsfd, lockfd;
    bool session, shared;       /* shared: by several nodes, without locks (shared.c) */
    pthread_mutex_t mutex;
    pthread_cond_t progress;    /* a write ended */
    struct index index;
    struct pack *packs;
    size_t pack_count, open_count;
    struct part part;
    struct belt belt;
    struct err failure;         /* code not 0: the part is lost, why */
    struct scratch *scratch;    /* free ones */
    struct later later;
};

/* ---- catalog.c: packs and their indexes in memory */
MUST_CHECK int catalog_load(struct store *s, struct err *e);     /* what is new since the last time; mutex held or nobody else there */
void catalog_free(struct store *s);
/* A descriptor of pack `number`; *temporary: the caller closes it. E_NO_INPUT when gc took the pack away. Mutex held. */
MUST_CHECK int catalog_fd(struct store *s, uint32_t number, bool *temporary, struct err *e);
/* The chunks of a pack that store_forget gave up: damaged/HEX-PACKNAME marks each. */
MUST_CHECK int catalog_forgotten(const struct store *s, const char *pack, struct index *out, struct err *e);
uint32_t catalog_add(struct store *s, const char *name, int fd);
void pack_name_new(char out[PACK_NAME_BYTES], const char *ending);

/* ---- damage.c: this chunk of that pack is not there any more, durably */
MUST_CHECK int store_forget_in(struct store *s, const struct digest *digest, const char *pack, struct err *e);

/* ---- later.c: a token for a copy of `len` bytes, if content is only copied now and there is room; its place, NULL for any other digest */
void later_reserve(struct store *s, struct digest *token, uint64_t len);
uint8_t *later_copy(const struct store *s, const struct digest *token, uint64_t len);

/* ---- session.c */
MUST_CHECK int session_begin(struct store *s, struct err *e);    /* waits for a gc */
MUST_CHECK int session_exclusive(int lockfd, uint64_t wait_ms, struct err *e); /* E_BUSY */

/* ---- part.c: the pack being written. Mutex held on entry and exit of each. */
MUST_CHECK int part_reserve(struct store *s, uint32_t stored, uint64_t *offset, struct err *e);
MUST_CHECK int part_read(struct store *s, uint64_t offset, void *out, size_t len, struct err *e);
void part_discard(struct store *s);

/* ---- belt.c: bytes of the pack being written, put at the offsets that part_reserve gave, go to the disk in blocks.
 * A failure of that is the session's: s->failure. Mutex held on entry and exit, but for belt_put: there it must not be held. */
MUST_CHECK int belt_begin(struct store *s, const char *name, struct err *e);
bool belt_has_room(const struct store *s, uint64_t end);          /* for bytes up to `end` */
void belt_put(struct store *s, uint64_t offset, const void *data, size_t len);
void belt_note(struct store *s, uint64_t offset, size_t len);     /* these bytes were put: blocks that are full now go out */
void belt_wait(struct store *s);                                  /* until every full block is out, or it failed */
void belt_crew_begin(struct store *s);                            /* many threads put from now on; mutex not held, nor by the end: */
void belt_crew_end(struct store *s);                              /* no thread is left, which setns wants */
MUST_CHECK int belt_tail(struct store *s, uint64_t end, const void *tail, size_t len, struct err *e); /* the rest up to `end`, then `tail`; fsync */
const uint8_t *belt_block(const struct store *s, uint64_t block); /* NULL: it is on disk */
void belt_end(struct store *s);
void belt_free(struct store *s);

/* ---- get.c: the place of a chunk, NULL if it is not there; waits for one being written. Mutex held. */
struct place *place_wait(struct store *s, const struct digest *digest);

/* ---- chunk.c: one chunk's bytes */
struct packed {
    uint8_t bytes[CHUNK_MAX];
    const void *data;           /* `bytes`, or the raw content itself */
    uint32_t stored, flags, crc;
};
/* Room to work on one chunk, kept for the next: half a megabyte that neither stacks nor malloc should see each time. */
struct scratch {
    struct packed packed;
    uint8_t stored[CHUNK_MAX], raw[CHUNK_MAX];
    struct scratch *next;
};
struct scratch *scratch_take(struct store *s);
void scratch_give(struct store *s, struct scratch *x);
void scratch_free(struct store *s);

/* ---- store.c, chunk_get.c: as store_put and store_get, in room of the caller's */
MUST_CHECK int put_chunk(struct store *s, struct scratch *room, const void *data, size_t len, struct digest *digest,
                         uint64_t *stored_bytes, struct err *e);
/* Two, whose digests are computed together. */
MUST_CHECK int put_two_chunks(struct store *s, struct scratch *room, struct store_item *const items[2], struct err *e);
MUST_CHECK int get_chunk(struct store *s, struct scratch *room, const struct digest *digest, void *data, size_t len, struct err *e);
/* Two, into their rooms' raw, checked together; neither of zeros. */
MUST_CHECK int get_two_chunks(struct store *s, struct scratch *const rooms[2], const struct digest *const digests[2], const size_t lens[2], struct err *e);
void chunk_pack(struct packed *out, const void *data, size_t len);
/* Stored bytes to raw: E_BAD_IMAGE unless every checksum agrees. */
MUST_CHECK int chunk_unpack(const struct place *p, const void *stored, void *data, struct err *e);
/* Without its checksums: whoever compares its content with its name next, before anything else, needs no other. */
MUST_CHECK int chunk_unpack_unnamed(const struct place *p, const void *stored, void *data, struct err *e);
MUST_CHECK int chunk_name_check(const struct digest *name, const struct digest *content, struct err *e);
bool all_zero(const void *data, size_t len);
