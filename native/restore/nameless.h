/* See nameless.c. */
#pragma once
#include "files_load.h"

/* Makes something in directory `above` under `name` and opens it: a descriptor, or -1 with errno. */
typedef int (*nameless_fn)(int above, const char *name, const void *ctx);
/* Something that once stood at `path` and has no name any more, made with the rights of the pod's owner: under that name or the nearest free one, its
 * name taken away at once. Where its directory is gone too: in /tmp. The descriptor. `removal`: flags of unlinkat(2). */
MUST_CHECK int nameless_make(const struct restore *r, uint64_t mount_space, const char *path, int removal, nameless_fn make, const void *ctx, struct err *e);
