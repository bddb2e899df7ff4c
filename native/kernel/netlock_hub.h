/* The network lock's half at the hub, for an engine that enters an ordinary user's pod: in there it has no power over the hub any more, so a child
 * of it stays outside and works there for it. The child ends with the engine. */
#pragma once
#include "../pod/pod.h"

#define NETLOCK_TABLE "clusteros-lock" /* inside */

/* Before the caller leaves its user namespace. */
MUST_CHECK int netlock_leave_child(const struct pod *pod, struct err *e);
/* Cut (or open again) the pod's port: by that child if there is one. Waits (a while) for the child of an engine that died to end. */
MUST_CHECK int netlock_ask_hub(const struct pod *pod, bool cut, struct err *e);
/* The same, always by the caller itself (netlock.c); and the half inside of a pod, in that network namespace. */
MUST_CHECK int netlock_at_hub(const struct pod *pod, bool cut, struct err *e);
MUST_CHECK int netlock_inside(int nsfd, bool cut, struct err *e);
