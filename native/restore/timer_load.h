/* See timer_load.c. */
#pragma once
#include "load.h"

MUST_CHECK int timers_load(struct victim *v, const struct task *task, struct err *e);
