/* The parts of a core file: core.c (the file), core_notes.c (its notes), core_memory.c (its memory). */
#pragma once
#include "core.h"

void core_notes(struct buf *out, const struct task *t);

/* Content of a mapping, from below to above: what is mapped, then the process's own pages. */
struct layer {
    const struct extent *extents;
    size_t count;
    int64_t shift;  /* address = at + shift */
};
struct memory {
    const struct image *in;
    const struct mm *mm;
    struct store *store;
    int fd;
    uint8_t *room;  /* CHUNK_MAX bytes */
};
/* How many bytes from the start of the mapping have content: the rest is left out of the file. */
uint64_t core_content(const struct memory *m, const struct vma *v);
/* Write them at `offset` of the file. */
MUST_CHECK int core_content_write(const struct memory *m, const struct vma *v, uint64_t offset, struct err *e);
