/* Huge pages of hugetlbfs: how many an image needs here, checked before anything is begun, and its objects of such pages. See huge_check.c, huge_load.c. */
#pragma once
#include "load.h"

enum huge_where { HUGE_FREE, HUGE_IN_ALL }; /* a trial beforehand: what runs still may be ended first */

/* E_UNSUPPORTED: "needs N huge pages of …, free: M". r->births and the shares are planned. */
MUST_CHECK int huge_check(const struct restore *r, enum huge_where where, struct err *e);
/* The same for an image alone. */
MUST_CHECK int huge_fit(const struct image *image, enum huge_where where, struct err *e);
MUST_CHECK int huge_memobj_fill(struct restore *r, int fd, const struct memobj *m, struct err *e);
bool huge_size_is_known(uint64_t page_bytes);
/* MAP_HUGETLB, MFD_HUGETLB and SHM_HUGETLB say the size of a page alike. */
uint64_t huge_size_flags(uint64_t page_bytes);
/* Private ones are writable until their content is there: nobody writes those from outside otherwise. */
uint64_t huge_first_prot(const struct vma *v);
