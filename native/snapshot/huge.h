/* Huge pages that a copy made small. After a fork the kernel splits a huge page at the first write to any byte of it, and the program would go on with small
 * ones: slower itself, and with a longer fork in its next pause. So what was huge before the stop is made whole again after the generation. */
#pragma once
#include "memories.h"
#include "map_flags.h"

struct huge_of {
    pid_t pid;
    uint64_t start_time;
    struct page_ranges pages;
};
struct huge { /* zeroed: nothing was huge */
    struct huge_of *items;
    size_t count;
};
/* While the job runs; its mappings were read just now. Nothing here fails a snapshot. */
void huge_look(const struct map_flags *maps, const struct tracks *tracks, struct huge *out);
void huge_free(struct huge *h);
/* The image is written, the copies have ended: a process of its own makes the pages whole, one by one, with as much rest between as work, as long as nobody
 * works on the pod. It holds nothing that needs to be undone, and may be killed at any moment. */
void huge_give_back(const struct pod *pod, const struct huge *h);
