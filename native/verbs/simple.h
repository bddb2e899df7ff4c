/* The shape of verbs that take --pod and little else. */
#pragma once
#include "../base/base.h"

/* Opens the output, runs, prints `failed` if it must; returns the exit status. The function prints `done` itself. */
int verb_outcome(int argc, char **argv, int (*run)(int argc, char **argv, struct err *e));
/* --pod alone. */
MUST_CHECK int options_pod(int argc, char **argv, const char *usage, const char **dir, struct err *e);
