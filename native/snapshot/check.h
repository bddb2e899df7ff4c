/* Can this pod be captured? Looks from outside, touches nothing. */
#pragma once
#include "snapshot.h"

MUST_CHECK int snapshot_check(const struct pod *pod, struct refusals *out, struct err *e);
void refusals_free(struct refusals *r);
