/* See stale.c. */
#pragma once
#include "../kernel/procfs.h"
#include "snapshot.h"

/* 1: saved as the memory object *id. 0: the mapping shows what its path shows. */
MUST_CHECK int stale_save(struct snapshot *s, const struct victim *v, const struct proc_map *m, uint64_t *id, struct err *e);
