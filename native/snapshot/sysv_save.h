/* See sysv_save.c. */
#pragma once
#include "snapshot.h"

MUST_CHECK int sysv_save(struct snapshot *s, struct err *e);
MUST_CHECK int ipc_check(const struct pod *pod, const struct spaces *spaces, const pid_t *pids, size_t count, struct refusals *out, struct err *e);
/* What a process has attached is told by a number that may be another segment's in another namespace: as many mappings as the kernel counts. */
MUST_CHECK int sysv_attachments_check(const struct snapshot *s, struct err *e);
/* Runs fn in the pod's ipc namespace. */
MUST_CHECK int in_ipc_of(const struct pod *pod, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e);
/* In the pod's ipc namespace, or in one of the job's (`space`): */
void sysvsem_check(const pid_t *pids, size_t count, struct refusals *out);
MUST_CHECK int sysvsem_save(struct snapshot *s, uint64_t space, struct err *e);
MUST_CHECK int sysvmsg_save(struct snapshot *s, struct err *e);
MUST_CHECK int mqueues_save(struct snapshot *s, struct err *e);
MUST_CHECK int mqueues_check(const struct pod *pod, struct refusals *out, struct err *e);
uint64_t ipc_space_of(const struct spaces *spaces, pid_t pid);
uint64_t sysv_memobj(const struct image *image, uint64_t ipc_space, uint64_t shmid); /* 0: none */
