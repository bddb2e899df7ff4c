/* Durable small files that must be written even on a full disk: a spare file, made and filled beforehand, takes the content and the name. */
#pragma once
#include "../base/base.h"

#define SPARE_BYTES 8192

/* Make the spare file if it is not there. */
MUST_CHECK int spare_make(int dirfd, const char *spare, struct err *e);
/* io_replace; without room (and at most SPARE_BYTES of data) by the spare. */
MUST_CHECK int spare_replace(int dirfd, const char *name, const char *spare, const void *data, size_t len, struct err *e);
