/* Stopping the whole tree of a pod, and letting it go. */
#pragma once
#include "snapshot.h"

/* Seize and stop every process of the pod but podinit; two looks must agree. A frozen pod is thawed once all are seized:
 * no instruction of the job runs in between. On failure everything runs on. */
MUST_CHECK int tree_stop(const struct pod *pod, struct victim **victims, size_t *count, struct err *e);
/* Injected areas out, all run on (or, when the pod should be frozen, stand frozen). Always releases; the first error comes back. */
MUST_CHECK int tree_release(const struct pod *pod, struct victim *victims, size_t count, bool freeze, struct err *e);
/* All threads of a seized process that was interrupted stand. 0, or 2 when one does not stop in time. Threads that ended are forgotten. */
MUST_CHECK int threads_wait(struct victim *v, uint64_t deadline_ns, struct err *e);
void victim_drop(struct victim *victims, size_t *count, size_t index);
void victims_free(struct victim *victims, size_t count);
/* One process alone: all its threads stopped (undo). 0, or 1 if it is gone. */
MUST_CHECK int victim_stop(pid_t pid, struct victim *out, struct err *e);
MUST_CHECK int victim_release(struct victim *v, struct err *e);
