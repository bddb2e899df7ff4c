/* The names of a directory in the order in which the kernel tells them, each with the position behind it. "." and ".." are among them. */
#pragma once
#include "../base/base.h"

struct dirent_at {
    char *name;
    int64_t next;
};
struct dirents {
    struct dirent_at *items;
    size_t count;
};

/* What a name is called while it gets another place (restore/directory_load.c). */
#define DIRENT_ASIDE ".clusteros-order"

/* From the descriptor's position `from` to the end; the position is then anywhere. */
MUST_CHECK int dirents_read(int fd, int64_t from, struct dirents *out, struct err *e);
void dirents_free(struct dirents *d);
