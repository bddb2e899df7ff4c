/* A parent inside vfork(2) cannot be stopped before its child has its own memory or is gone: it sleeps in the kernel, uninterruptibly. Such a
 * state passes by itself when the child runs, so it is no reason to refuse a pod, and the child alone is let run when everything else stands. */
#pragma once
#include "snapshot.h"

/* Is some thread of the process waiting for a child of vfork(2), clone(2) or clone3(2)? */
bool vfork_waits(pid_t pid);
/* Of the stopped tree: children whose parents wait for them run until these have stopped, and are stopped again. *ran says if there were any. 0,
 * or 2 when a parent waits on. */
MUST_CHECK int vfork_run_children(struct victim *victims, size_t count, uint64_t deadline_ns, bool *ran, struct err *e);
