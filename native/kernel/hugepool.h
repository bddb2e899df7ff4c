/* The machine's pools of huge pages (hugetlbfs), as /sys tells them. Reads only. */
#pragma once
#include "../base/base.h"

struct hugepool {
    uint64_t page_bytes, total;
    uint64_t free;              /* and promised to nobody */
    uint64_t further;           /* which the kernel may make when they are asked for */
};
#define HUGEPOOL_SMALLEST (16ul << 10)
#define HUGEPOOL_LARGEST (16ul << 30)
/* Is there such a pool? Else all is 0. */
bool hugepool_read(uint64_t page_bytes, struct hugepool *out);
