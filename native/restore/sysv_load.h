/* See sysv_load.c. */
#pragma once
#include "load.h"

MUST_CHECK int sysv_load(struct restore *r, struct err *e);        /* in podinit, before the processes */
MUST_CHECK int sysvsem_load(struct restore *r, struct err *e);
MUST_CHECK int sysvmsg_load(struct restore *r, struct err *e);
MUST_CHECK int sysv_load_finish(struct restore *r, struct err *e); /* in podinit, when all are attached */
const struct sysv_segment *sysv_of(const struct image *image, uint64_t memobj); /* NULL: not one of these */
