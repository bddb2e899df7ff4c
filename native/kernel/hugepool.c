/* See hugepool.h. */
#include "hugepool.h"

#include <stdlib.h>

#define POOLS "/sys/kernel/mm/hugepages/hugepages-%lukB/%s"

static bool figure(uint64_t page_bytes, const char *name, uint64_t *out)
{
    AUTO_BUF struct buf text = {0};
    struct err none;
    *out = 0;
    if (io_slurpf(&text, 64, &none, POOLS, page_bytes / 1024, name) < 0)
        return false;
    *out = strtoul((char *)text.data, NULL, 10);
    return true;
}

static uint64_t without(uint64_t of, uint64_t less)
{
    return of > less ? of - less : 0;
}

bool hugepool_read(uint64_t page_bytes, struct hugepool *out)
{
    uint64_t idle, promised, most, made;
    *out = (struct hugepool){.page_bytes = page_bytes};
    bool there = figure(page_bytes, "nr_hugepages", &out->total) && figure(page_bytes, "free_hugepages", &idle) &&
                 figure(page_bytes, "resv_hugepages", &promised) && figure(page_bytes, "nr_overcommit_hugepages", &most) &&
                 figure(page_bytes, "surplus_hugepages", &made);
    if (!there)
        return false;
    out->free = without(idle, promised);
    out->further = without(most, made);
    return true;
}
