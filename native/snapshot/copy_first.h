/* What forks do not copy and files of the pod: copied in the pause, named and written after it (store_later_begin). */
#pragma once
#include "snapshot.h"

uint64_t memory_available_bytes(void);
/* Before the stop: room for copies, as much as is expected made ready. */
MUST_CHECK int copy_first_prepare(struct snapshot *s, struct err *e);
/* After the pause: whatever of the image was only copied is put into the store. */
MUST_CHECK int copy_first_put(struct snapshot *s, struct err *e);
