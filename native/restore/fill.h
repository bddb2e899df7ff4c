/* Large fresh memory takes its content without being cleared first: a userfaultfd of the process, registered for such mappings, takes whole pages
 * (UFFDIO_COPY), in half the time that a write from outside needs. The process stands meanwhile, so nobody ever faults there; the
 * descriptor is gone before anything else is done to the process. Where it may have none, its memory is written from outside.
 * Of a process that is to run before its memory is there the descriptor tells of faults in the kernel and of all that it does to its mappings. */
#pragma once
#include "load.h"

struct fill {
    int fd;                       /* our own; -1: none */
    int64_t number;               /* in the process, negative: none */
    struct fill_range {
        uint64_t start, end;
    } *ranges;                    /* ascending */
    size_t ranges_count;
    bool refused;                 /* it was to, and must not */
    bool lazy;                    /* it stays: podinit will have it (lazy.h) */
};
/* The mappings that are worth it. */
void fill_ranges(const struct restore *r, const struct task *t, bool is_lazy, struct fill *f);

MUST_CHECK int fill_open(const struct restore *r, struct victim *v, const struct task *task, struct fill *out, struct err *e);
/* Is the content of this address to go that way? */
bool fill_takes(const struct fill *f, uint64_t at);
/* How much of this content goes the same way as its first byte: neighbours in the image may be strangers in memory. */
uint64_t fill_same(const struct fill *f, uint64_t at, uint64_t len);
/* *done: how much was put; less than all when a page is there already. */
MUST_CHECK int fill_put(const struct fill *f, uint64_t at, const void *data, size_t len, size_t *done, struct err *e);
void fill_close(struct fill *f);
