/* A process of an image as an ELF core file (elf(5), core(5)), so that a debugger opens the past. Memory is what the process
 * would find: its own pages over the content of mapped files and shared memory, as far as the image holds them. x86-64. */
#pragma once
#include "image.h"

struct core_result {
    uint64_t threads, segments, bytes; /* of memory */
};
/* Into fd, an empty file. E_NOT_FOUND: the image has no such process; E_UNSUPPORTED: it has no memory (a zombie). */
MUST_CHECK int core_write(const struct image *in, struct store *s, uint64_t pid, int fd, struct core_result *out, struct err *e);
