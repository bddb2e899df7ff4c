/* Which memory of an image may come when its processes run already (pod/pager.h): large private memory without anything special, but for what
 * the kernel itself may look for where nobody can wait: when a thread ends, and while we set it up. */
#pragma once
#include "../pod/pager.h"
#include "restore.h"

/* Before podinit is forked; r->pager stays NULL when nothing is worth it. */
MUST_CHECK int lazy_plan(struct restore *r, struct err *e);
void lazy_plan_free(struct restore *r);
/* Does this piece of a task's memory come later? */
bool lazy_is(const struct pager *p, size_t task, const struct extent *x);
/* What the keeper's filler must know: POD/filling. */
MUST_CHECK int lazy_note(const struct restore *r, const struct pod *pod, struct err *e);
/* For the tracer, when all that does not come later is there: */
/* Does it hold locks that are to be given back by a thread's end? Then all of its memory must be there. */
bool lazy_is_refused(struct victim *v, const struct task *t);
/* podinit gets the descriptors. */
MUST_CHECK int lazy_give(struct restore *r, struct err *e);
