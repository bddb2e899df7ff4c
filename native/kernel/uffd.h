/* Which pages a process has written since the last look: userfaultfd(2) write-protection in asynchronous mode, which no page fault ever
 * waits for, read and armed again by PAGEMAP_SCAN. The descriptor is made inside the process and taken out; the tracking ends with it. */
#pragma once
#include "remote.h"

struct page_range {
    uint64_t start, end;
};
struct page_ranges { /* zeroed: empty */
    struct page_range *items;
    size_t count;
};
void page_ranges_add(struct page_ranges *l, uint64_t start, uint64_t end);
void page_ranges_free(struct page_ranges *l);
#define PAGE_RANGES __attribute__((cleanup(page_ranges_free)))
void page_ranges_sort(struct page_ranges *l); /* ascending, joined where they touch */
/* Both ascending: what of [start, end) is in `l`; what of `l` is not in `other`; what of `l` is in `other`. Appended to `out`. */
void page_ranges_within(const struct page_ranges *l, uint64_t start, uint64_t end, struct page_ranges *out);
void page_ranges_without(const struct page_ranges *l, const struct page_ranges *other, struct page_ranges *out);
void page_ranges_common(const struct page_ranges *l, const struct page_ranges *other, struct page_ranges *out);
uint64_t page_ranges_bytes(const struct page_ranges *l);

/* A descriptor for the stopped victim, -1 when it may have none (limits, an old kernel): no error. Journalled: "uffd PID START". */
MUST_CHECK int uffd_open(struct victim *v, int *fd, struct err *e);
/* What an engine that died may have left: every such descriptor of the victim is closed (jobs with their own are not captured). */
MUST_CHECK int uffd_undo(struct victim *v, struct err *e);
/* Watch a mapping from now on; false when that cannot be. All its pages count as written until they are armed. */
bool uffd_register(int fd, uint64_t start, uint64_t end);

int pagemap_open(pid_t pid, struct err *e);
bool pagemap_is_watched(int pagemap, uint64_t start);
/* Pages of [start, end) with content of their own: of no file, not the shared zero page. */
MUST_CHECK int pagemap_present(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e);
/* Pages of a watched mapping that no look has armed: those that are not there, the shared zero page, and what is written or not looked at yet.
 * Quick: what pages are is not asked. Whether this kernel tells those without a page table too is tried once. */
MUST_CHECK int pagemap_not_armed(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e);
/* The same of all mappings in it, when all of them are watched: 1 if not, and then nothing is told. */
MUST_CHECK int pagemap_not_armed_all(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e);
bool pagemap_tells_holes(void);
/* What of [start, end) is mapped by whole huge pages of anonymous memory. */
MUST_CHECK int pagemap_huge(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e);
/* Bytes of watched mappings that were written since they were armed; nothing is armed. */
MUST_CHECK int pagemap_written_bytes(int pagemap, uint64_t *bytes, struct err *e);
/* Pages of watched mappings in [start, end) that are there and were written since they were armed; armed again in the same instant. The shared
 * zero page is neither told nor armed. */
MUST_CHECK int pagemap_written(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e);
#define PAGEMAP_END 0x7ffffffff000ul
