/* The words of a coordinated act, on standard input. End of file is `abort`. */
#pragma once
#include "../base/base.h"

/* 0 when the wanted word came, -1 with E_ABORTED for abort or the end, E_PROTOCOL for anything else. */
MUST_CHECK int barrier_wait(const char *wanted, struct err *e);
