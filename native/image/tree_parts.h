/* What the files of tree_*.c share. */
#pragma once
#include <sys/stat.h>

#include "tree.h"

/* A device number that a captured tree may hold: a whiteout of overlayfs or one of the harmless nodes. */
bool tree_device_allowed(uint64_t mode, uint64_t rdev);
/* An attribute that travels: overlayfs's own notes on copied-up files (origin, impure, …) do not. */
bool tree_xattr_travels(const char *name);

/* A relative path of plain names, or ".". */
bool tree_path_sane(const char *path);

/* tree_file.c. `previous_*` is what the parent image knows of the same path, or NULL: content is then only read again if
 * it may have changed. `stamp` false: this file's times cannot prove that it stays unchanged. */
struct content {
    struct extent *extents;
    size_t count;
};
MUST_CHECK int content_save(int fd, const struct stat *st, const struct content *previous, struct store *store,
                            struct content *out, uint64_t *new_bytes, struct err *e);
bool stamp_is_firm(const struct stat *st);
