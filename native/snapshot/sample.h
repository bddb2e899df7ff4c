/* Some of a process's memory is watched to learn whether it writes most of it, before all of it is (decision 46): a huge page that is written while it is
 * watched becomes small ones. */
#pragma once
#include "../kernel/uffd.h"

/* Watch some pieces of a process whose memory is registered; appended to both: what is watched, which counts as written until now. */
void sample_arm(pid_t pid, struct page_ranges *sample, struct page_ranges *written);
/* Was more than half of it written since? */
bool sample_tells_most(pid_t pid, const struct page_ranges *sample);
