/* The network lock in the network namespaces that the job made: what it says to itself there would otherwise go on while one end after the
 * other is captured. */
#pragma once
#include "snapshot.h"

MUST_CHECK int nets_cut(const struct spaces *spaces, struct err *e);
/* In all namespaces of the pod's processes, whether they are cut or not: also for whoever finds an engine dead. */
MUST_CHECK int nets_open(const struct pod *pod, struct err *e);
