/* seccomp filters of the job's own, per thread; the pod's own filter (io_uring) is the oldest of each and not told. While calls are made in such
 * a thread its filters are set aside. If the tracer died then, they would hold again at once: so no call is made that they would end the
 * process for, or that must not fail (remote_guard). Mirrored by restore/seccomp_load.c. */
#pragma once
#include "snapshot.h"

/* How many of its filters are the pod's. */
unsigned filters_of_pod(const struct pod *pod);
MUST_CHECK int seccomp_save(const struct pod *pod, const struct victim_thread *t, struct thread *out, struct err *e);
/* Sets remote_guard: of the one pod that this process takes a snapshot of. */
void seccomp_guard(const struct pod *pod);
