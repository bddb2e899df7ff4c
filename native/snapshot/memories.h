/* The memory of all processes of a snapshot: which pages, through which door, when. */
#pragma once
#include "memory_plan.h"

struct memories { /* zeroed: empty; parallel to the snapshot's victims */
    struct victim *copies;        /* copy-on-write views, pid 0 where there is none */
    struct memory_plan *plans;
    size_t count;
    bool copied;                  /* some process was */
};
/* All stopped, calls may be injected: what was written, what is read, and a copy of each process of which much is to be read
 * (`live`: somebody waits for the end of the pause). */
MUST_CHECK int memories_cut(struct memories *m, struct snapshot *s, bool live, struct err *e);
/* In the pause: what is not read from copies. */
MUST_CHECK int memories_save(struct memories *m, struct snapshot *s, struct err *e);
/* After the pause: were the flags of mappings right (map_flags.h)? Any thread may ask, before the copies end. */
MUST_CHECK int memories_confirm(struct memories *m, struct snapshot *s, struct err *e);
/* After the pause, while the job runs on. Each copy ends as soon as it is read: what it holds back is the job's memory. */
MUST_CHECK int memories_finish(struct memories *m, struct snapshot *s, struct err *e);
/* Copies that are left end, and are waited for: the next look must not take one for a process of the job. */
void memories_end(struct memories *m);
