/* See sysv_save.c. */
#pragma once
#include "snapshot.h"

MUST_CHECK int sysv_save(struct snapshot *s, struct err *e);
MUST_CHECK int ipc_check(const struct pod *pod, const pid_t *pids, size_t count, struct refusals *out, struct err *e);
/* Runs fn in the pod's ipc namespace. */
MUST_CHECK int in_ipc_of(const struct pod *pod, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e);
/* In the pod's ipc namespace: */
void sysvsem_check(const pid_t *pids, size_t count, struct refusals *out);
MUST_CHECK int sysvsem_save(struct snapshot *s, struct err *e);
MUST_CHECK int sysvmsg_save(struct snapshot *s, struct err *e);
MUST_CHECK int mqueues_save(struct snapshot *s, struct err *e);
MUST_CHECK int mqueues_check(const struct pod *pod, struct refusals *out, struct err *e);
uint64_t sysv_memobj(const struct image *image, uint64_t shmid); /* 0: none */
