/* Stopping one process: its threads seized, waited for, and looked at where they stand. The pod's tree of them: stop.h. */
#pragma once
#include "snapshot.h"

#define STOP_DEADLINE_NS 500000000ul

MUST_CHECK int victim_open(pid_t pid, struct victim *v, struct err *e);
/* Every thread that is not yet. *fresh: there was one. */
MUST_CHECK int threads_seize(struct victim *v, bool *fresh, struct err *e);
/* 0, or 2 when it does not stop in time. */
MUST_CHECK int thread_wait_stop(struct victim_thread *t, uint64_t deadline_ns, struct err *e);
/* All its threads have stopped: who stands for it, and its memory. */
MUST_CHECK int victim_stands(struct victim *v, struct err *e);
/* What /proc says of some of its threads; any thread of the engine may ask. */
MUST_CHECK int threads_look(struct victim *v, size_t first, size_t count, struct err *e);
/* Then registers and masks; filters set aside, interrupted waits and rseq sections brought to where they can begin anew. */
MUST_CHECK int threads_settle(struct victim *v, struct err *e);
