/* What is not there yet of a process's memory: ranges of addresses as they are now, and where in the image their content stands. Ascending,
 * disjoint, of whole pages. The process's own doings (munmap, mremap, MADV_DONTNEED) are followed by cutting and moving. */
#pragma once
#include "../base/base.h"

struct missing_range {
    uint64_t start, end, source; /* the content of `start` is that of address `source` in the image; of start+n, that of source+n */
};
struct missing { /* zeroed: nothing is missing */
    struct missing_range *items;
    size_t count, room;
    bool moved; /* some content may stand at another address than in the image */
};
void missing_free(struct missing *m);
void missing_copy(const struct missing *m, struct missing *out);
/* [start, end) must not overlap with what is there; joined with its neighbours where that can be. */
void missing_add(struct missing *m, uint64_t start, uint64_t end, uint64_t source);
void missing_cut(struct missing *m, uint64_t start, uint64_t end);
/* As mremap(2) moves mappings: what was missing at `to` is gone, what is missing at `from` is missing at `to` instead. */
void missing_move(struct missing *m, uint64_t from, uint64_t to, uint64_t len);
/* The range that holds an address, or the next one behind it; NULL behind the last. */
const struct missing_range *missing_from(const struct missing *m, uint64_t at);
/* The first part whose content lies in [source, source+len) of the image: true, and where. */
bool missing_of(const struct missing *m, uint64_t source, uint64_t len, struct missing_range *out);
uint64_t missing_bytes(const struct missing *m);
