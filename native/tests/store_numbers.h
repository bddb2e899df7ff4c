/* What the tests of the store share: contents by number, and a disk whose n-th call fails. */
#pragma once
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>

#include "store/sha256.h"
#include "store/store_io.h"
#include "tests/tap.h"

/* ---- the n-th call of the disk fails (all later ones too, as on a full disk, or that one only) */
static long fault_at, fault_calls;
static int fault_number;
static bool fault_stays;

int store_io_fault(const char *operation)
{
    (void)operation;
    long call = __atomic_add_fetch(&fault_calls, 1, __ATOMIC_RELAXED);
    return fault_at && (call == fault_at || (fault_stays && call > fault_at)) ? fault_number : 0;
}

static inline void fault_set(long at, int number, bool stays)
{
    fault_calls = 0;
    fault_at = at;
    fault_number = number;
    fault_stays = stays;
}

/* ---- contents: number k gives the same bytes always; odd ones compress. Threads use it: no shared state. */
static inline uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static inline size_t content_of(uint64_t k, uint8_t out[CHUNK_MAX])
{
    size_t len = 1 + mixed(k + 1) % (k % 8 ? 9000 : CHUNK_MAX);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = mixed(k * 1000003 + i + 7) & (k % 2 ? 0x0101010101010101ul : ~0ul);
        memcpy(out + i, &word, len - i < 8 ? len - i : 8);
    }
    out[0] = (uint8_t)(k | 1);
    return len;
}

static inline int put_number(struct store *s, uint64_t k, struct digest *d, struct err *e)
{
    static _Thread_local uint8_t data[CHUNK_MAX];
    uint64_t stored;
    size_t len = content_of(k, data);
    return store_put(s, data, len, d, &stored, e);
}

static inline bool has_number(struct store *s, uint64_t k)
{
    static _Thread_local uint8_t want[CHUNK_MAX], got[CHUNK_MAX];
    struct digest d;
    struct err e = {0};
    size_t len = content_of(k, want);
    sha256_of(want, len, &d);
    if (!store_has(s, &d))
        return false;
    if (store_get(s, &d, got, len, &e)) {
        printf("# %s\n", e.message);
        return false;
    }
    return memcmp(want, got, len) == 0;
}

static inline struct store *opened(const char *dir, bool create)
{
    struct store *s = NULL;
    struct err e = {0};
    if (store_open(dir, create, &s, &e)) {
        printf("# %s\n", e.message);
        abort();
    }
    return s;
}

static inline bool put_range(struct store *s, uint64_t from, uint64_t to, struct err *e)
{
    struct digest d;
    for (uint64_t k = from; k < to; k++)
        if (put_number(s, k, &d, e))
            return false;
    return true;
}

static inline bool has_range(const char *dir, uint64_t from, uint64_t to)
{
    struct store *s = opened(dir, false);
    uint64_t missing = 0;
    for (uint64_t k = from; k < to; k++)
        missing += !has_number(s, k);
    store_close(s);
    return missing == 0;
}
