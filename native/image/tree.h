/* A captured directory tree (overlay upper, tmpfs): every entry with mode, owner, times, xattrs, links,
 * nodes, sparse content; whiteouts of overlayfs are character devices 0/0 and travel like any node. */
#pragma once
#include <sys/types.h>

#include "image.h"

/* Files that must not be opened, and a copy of each. */
struct stand_in {
    dev_t dev;
    ino_t ino;
    int fd;
};
struct stand_ins {
    const struct stand_in *items;
    size_t count;
};

/* `previous` (may be NULL): the same tree in the parent image; a regular file with the same path, size, mtime,
 * ctime and inode reuses its extents without being read. Sockets are recorded (mode, owner), never read. `instead` may be NULL.
 * Files never leave the tree: symbolic links and mount points are not followed. */
MUST_CHECK int tree_save(int dirfd, const char *name, const struct tree *previous, const struct stand_ins *instead, struct store *store,
                         struct tree *out, uint64_t *new_bytes, struct err *e);
/* Into an empty directory. Paths are checked ("..", absolute, through links: E_BAD_IMAGE). */
MUST_CHECK int tree_load(int dirfd, const struct tree *in, struct store *store, struct err *e);
/* One file of the host's part of the root. */
MUST_CHECK int hostfile_save(int fd, const char *path, const struct hostfile *previous, struct store *store,
                             struct hostfile *out, uint64_t *new_bytes, struct err *e);

/* Before tree_load for a pod whose owner is not root: files that would give the owner powers that it could not have given to
 * files itself (set-uid or set-gid for others, file capabilities): E_BAD_IMAGE. Device nodes other than whiteouts and the harmless
 * ones (null, zero, full, random, urandom, tty, ptmx) are refused by tree_save and tree_load always. */
MUST_CHECK int tree_check_powers(const struct tree *in, uint64_t uid, uint64_t gid, struct err *e);

/* ---- for restore: files of the host's part of the root on a host that may have others.
 * Does the open file hold exactly the captured content, the stretches of zeros too? A read error is "no". */
bool hostfile_matches(int fd, const struct hostfile *in);
/* Make the file at its path below `upperfd`, without following a link there (a captured tree may hold links that lead out of it:
 * E_BAD_IMAGE); directories that are missing get owner and mode of the same ones below `lowerfd`. What stands at the path already
 * stays. Never with set-id bits. */
MUST_CHECK int hostfile_load(int upperfd, int lowerfd, const struct hostfile *in, struct store *store, struct err *e);
