/* A crew of threads that works through numbered pieces: one thread per processor, pinned
 * (this kernel packs threads onto one processor until they are) unless it goes first (base/urgent.h), all signals blocked. */
#pragma once
#include "../base/base.h"

#define CREW_MAX 8

/* Remember the caller's affinity; the first call counts. store_open does it, before the caller pins itself for other work. */
void crew_prepare(void);

/* Calls piece(ctx, worker, i) for each i below count, in about ascending order, until one fails; its error comes back.
 * `worker` is below CREW_MAX and stands for one thread. Few pieces are done by the caller itself, as worker 0. */
MUST_CHECK int crew_work(size_t count, int (*piece)(void *ctx, size_t worker, size_t i, struct err *e), void *ctx,
                         struct err *e);
