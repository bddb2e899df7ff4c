/* Which pages of a stopped process are read, and which stay what they are in the parent image. Made in the pause; but when it is clear that much
 * was written, only what no copy can tell is noted there, and the rest is found out from the copy, while the job runs. What is taken over from the
 * parent is listed after the pause in any case. */
#pragma once
#include "track.h"

struct memory_plan {
    bool made;                    /* else: the process is read as a whole, from a copy if there is one */
    bool later;                   /* to be made from the copy */
    struct cut_seen seen;         /* by the tracks; nothing when it is made from the copy */
    struct page_ranges written;   /* since the parent; ascending */
    struct page_ranges absent;    /* of watched mappings, ascending: what is not there now (or holds nothing), whatever the parent has */
    bool *watched;                /* of each mapping; NULL where there is no parent of use */
    struct page_ranges inside;    /* to be read through the process itself */
    struct page_ranges copied;    /* the same, or from a copy-on-write copy */
    struct extent *kept;          /* of the parent image: memory_plan_keep */
    size_t kept_count;
    uint64_t read_bytes, kept_bytes;
};
/* Without a parent whose changes are known only a small process gets a plan. */
MUST_CHECK int memory_plan_make(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e);
/* Make one that was put off: from the process in the pause, or from its copy after it. */
MUST_CHECK int memory_plan_finish(const struct snapshot *s, const struct victim *from, const struct mm *mm, struct memory_plan *out, struct err *e);
/* After the pause: what the parent has of it. */
void memory_plan_keep(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out);
void memory_plan_free(struct memory_plan *p);
/* Is it so little that a copy in the pause is quicker than a fork? */
bool memory_plan_is_quick(const struct memory_plan *p);
bool memory_is_private(const struct vma *vma);
bool memory_is_forked(const struct vma *vma);
