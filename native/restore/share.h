/* Private memory that processes have in common since a fork(2) stays one copy: it is filled once, in the process from which all that have it are
 * forked (or in podinit), before it has children. Each of them keeps those mappings when the engine's own go, and writes only the pages
 * that differ. Processes are related when their program lies at the same random addresses; pages are compared, so a wrong guess
 * costs time and no more. */
#pragma once
#include "restore.h"

struct shared_vma {
    size_t model;         /* index of the task whose content it is filled with: the first of its relatives */
    size_t builder;       /* index of the task that fills it; SIZE_MAX: podinit */
    const struct vma *vma; /* of the model */
    uint64_t end;         /* of the longest among those that have it; all start at the same address */
    _Atomic bool there;   /* set by the builder: for some addresses the engine itself stands in the way */
};

/* Before podinit is forked; r->births is known. */
MUST_CHECK int shares_plan(struct restore *r, struct err *e);
/* In the builder, before it has children; and in podinit after all are there. */
MUST_CHECK int shares_build(struct restore *r, size_t builder, struct err *e);
void shares_forget(struct restore *r);
/* How much longer processes may take to come up because of it. */
uint64_t shares_patience_ns(const struct restore *r);

/* For the tracer: the mapping that a task keeps, or NULL. */
const struct shared_vma *share_of(const struct restore *r, size_t task, const struct vma *vma);
/* The same before anything is built. */
const struct shared_vma *share_planned(const struct restore *r, size_t task, const struct vma *vma);
bool share_is_in(const struct mm *model, const struct extent *x); /* with the same content */
void shares_plan_free(struct restore *r);
/* Has the process something there from its relatives? */
bool share_has(const struct restore *r, const struct shared_vma *s, uint64_t at, uint64_t len);
/* Those of its extents that are not in place already; and ranges of kept mappings in which the task has nothing and the model had something. */
struct range {
    uint64_t start, end;
};
void share_split(const struct restore *r, size_t task, struct extent **wanted, size_t *wanted_count, struct range **gone, size_t *gone_count);
