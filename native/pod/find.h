#pragma once
#include "pod.h"

/* The directory of the pod that a process (as this machine numbers it) belongs to; E_NO_INPUT when it is in none. */
MUST_CHECK int pod_find(pid_t pid, char out[PATH_BYTES], struct err *e);
