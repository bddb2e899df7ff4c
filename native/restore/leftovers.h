/* See leftovers.c. */
#pragma once
#include "../base/base.h"

MUST_CHECK int leftovers_begin(const char *dir, struct err *e);
MUST_CHECK int leftovers_end(const char *dir, bool failed, struct err *e);
