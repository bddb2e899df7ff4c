/* Which pages of a stopped process are read, and which stay what they are in the parent image. Made in the pause. */
#pragma once
#include "track.h"

struct memory_plan {
    bool made;                    /* else: the process is read as a whole, from a copy if there is one */
    struct page_ranges inside;    /* to be read through the process itself */
    struct page_ranges copied;    /* the same, or from a copy-on-write copy */
    struct extent *kept;          /* of the parent image */
    size_t kept_count;
    uint64_t read_bytes, kept_bytes;
};
/* Without a parent whose changes are known only a small process gets a plan. */
MUST_CHECK int memory_plan_make(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e);
void memory_plan_free(struct memory_plan *p);
/* Is it so little that a copy in the pause is quicker than a fork? */
bool memory_plan_is_quick(const struct memory_plan *p);
bool memory_is_private(const struct vma *vma);
bool memory_is_forked(const struct vma *vma);
