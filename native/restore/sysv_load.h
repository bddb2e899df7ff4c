/* See sysv_load.c. */
#pragma once
#include "load.h"

/* ---- in podinit, before the processes (ipc_load.c) */
MUST_CHECK int ipc_load(struct restore *r, struct err *e);        /* the pod's, before /proc/sys is sealed */
MUST_CHECK int ipc_spaces_load(struct restore *r, struct err *e); /* those of the job */
MUST_CHECK int ipc_load_finish(struct restore *r, struct err *e); /* when all are attached */
MUST_CHECK int ipc_next_id(const struct restore *r, const char *kind, uint64_t id, struct err *e);

/* ---- in the namespace `space` */
MUST_CHECK int sysv_load(struct restore *r, uint64_t space, struct err *e);
MUST_CHECK int sysvsem_load(struct restore *r, uint64_t space, struct err *e);
MUST_CHECK int sysvmsg_load(struct restore *r, uint64_t space, struct err *e);
MUST_CHECK int sysv_load_finish(struct restore *r, uint64_t space, struct err *e);
const struct sysv_segment *sysv_of(const struct image *image, uint64_t memobj); /* NULL: not one of these */
