/* What the parent image has of a process's private memory: judged before the stop, taken over after the pause. */
#pragma once
#include "memory_plan.h"

/* Before the stop: of which tasks the parent's pages are of use. Not where a chunk is lost, or where the chunks hold much more than is needed of
 * them: then it is time to write all anew. */
void parent_pages_look(struct snapshot *s);
void parent_pages_free(struct snapshot *s);
/* The parent's memory of this process; NULL where it has none, or none of use. */
const struct mm *parent_pages_of(const struct snapshot *s, const struct victim *v);
/* Which addresses it has, ascending. */
void parent_pages_ranges(const struct mm *parent, struct page_ranges *out);
/* Extents of the parent for these pages, as far as it has them; the walk goes on at *from (begin with 0; ascending). */
void parent_pages_take(const struct mm *parent, size_t *from, uint64_t start, uint64_t end, struct memory_plan *out);
