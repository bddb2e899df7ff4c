/* See sysv_save.c. */
#pragma once
#include "snapshot.h"

MUST_CHECK int sysv_save(struct snapshot *s, struct err *e);
MUST_CHECK int sysv_check(const struct pod *pod, struct refusals *out, struct err *e);
uint64_t sysv_memobj(const struct image *image, uint64_t shmid); /* 0: none */
