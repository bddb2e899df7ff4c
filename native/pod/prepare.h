/* What can be checked and made before any process of a pod: the directory, the facts, the log files, names that nobody else has. */
#pragma once
#include "pod.h"
#include "root.h"

/* Fills `out` from the spec. Refuses a directory that holds a pod already (E_CONFLICT) and whatever is not well formed (E_USAGE). */
MUST_CHECK int pod_prepare(const struct pod_spec *spec, struct pod *out, struct err *e);
/* What root_build needs from outside; the texts live until plan_free. */
MUST_CHECK int root_plan(const struct pod_spec *spec, struct pod_root *out, struct err *e);
void root_plan_free(struct pod_root *plan);
