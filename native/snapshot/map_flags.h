/* The flags of mappings (madvise, mlock, …). Only smaps tells them, and it looks at every page: 11 ms per GiB. So they are read before the stop, given to
 * the mappings that are still the same at the stop, and compared once more after the pause: what was the same before and after was so between. */
#pragma once
#include "../pod/pod.h"
#include "../kernel/remote.h"

struct map_flags_of {
    pid_t pid;
    uint64_t start_time;
    struct proc_maps maps;
};
struct map_flags { /* zeroed: nothing is known */
    struct map_flags_of *items;
    size_t count;
};
/* While the job runs. */
MUST_CHECK int map_flags_look(const struct pod *pod, struct map_flags *out, struct err *e);
void map_flags_free(struct map_flags *f);
/* Fill in the flags of the stopped victim's maps. False: some mapping is new, read them all. */
bool map_flags_give(const struct map_flags *f, struct victim *v);
/* Were they right? In the victim's copy, where it has one (0: none), else in itself, which runs on. E_BUSY when they changed meanwhile. */
MUST_CHECK int map_flags_confirm(const struct victim *v, pid_t copy, struct err *e);
