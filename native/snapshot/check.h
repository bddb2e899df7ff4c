/* Can this pod be captured? Looks from outside, touches nothing. Where the pod has a user namespace of its own (an ordinary user's), the
 * calling process enters it for good, so that users have their names; it must be single-threaded. */
#pragma once
#include "snapshot.h"

MUST_CHECK int snapshot_check(const struct pod *pod, struct refusals *out, struct err *e);
/* Again of one stopped process, what may have come since: rights, namespaces, memory shared with others. E_UNSUPPORTED says what. */
MUST_CHECK int stopped_check(const struct snapshot *s, struct victim *v, struct err *e);
void refusals_free(struct refusals *r);
