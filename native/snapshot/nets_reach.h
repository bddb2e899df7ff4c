/* Whether the addresses of a socket still mean something in the network namespace of the job that it is in: there the job may take them away again. In the
 * pod's own network nobody can. */
#pragma once
#include "files_save.h"

/* Where it could not be bound and connected anew: E_UNSUPPORTED. `remote` may be empty. Nothing for a socket of the pod's network. */
MUST_CHECK int net_reach_check(const struct saving *v, const struct source *src, const struct bytes *local, const struct bytes *remote, struct err *e);
