/* Pieces of work side by side in one thread: while one waits for its process, the others go on. For tracers, since what is traced
 * belongs to the thread that traces. A piece gives way only inside fiber_waitpid, so that between two waits it owns all data; what it
 * holds pointers into must not be moved by the others. Not nested. */
#pragma once
#include "base.h"

#define FIBERS_MAX 64

typedef int fiber_piece(void *ctx, size_t i, struct err *e);
/* Pieces 0 to count-1, at most FIBERS_MAX at once. After a failure none is begun any more, those begun come to their end;
 * the first failure is given. */
MUST_CHECK int fibers_run(size_t count, fiber_piece *piece, void *ctx, struct err *e);
/* waitpid(pid, status, __WALL) while the others work. 0; 1 when the deadline (CLOCK_MONOTONIC ns; 0: none) passed; or -1 with errno. */
MUST_CHECK int fiber_waitpid(pid_t pid, int *status, uint64_t deadline_ns);
