/* Memory that is made ready before a job stands: the first touch of a page costs some microseconds, on a virtual machine more, and thousands of them
 * were a good part of a pause. */
#pragma once
#include <stddef.h>

/* What the calling thread allocates from now on comes, as long as it is no more than `bytes`, from pages that are there; what is freed is kept. */
void warm_heap(size_t bytes);
/* Stacks of the calling thread's fibers. */
void warm_fibers(void);
