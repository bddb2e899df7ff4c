/* Things whose name is gone: unlinked files, FIFOs, removed directories. They come back under their old name for a moment, so that link count
 * and kind of file system stay true. */
#include "nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "spaces.h"

#define TAKEN_TRIES 1000

static int one_make(const struct restore *r, uint64_t mount_space, const char *path, int removal, nameless_fn make, const void *ctx)
{
    const char *name;
    struct err ignored;
    if (space_enter(r, mount_space, &ignored) < 0)
        return -1;
    owner_rights_begin(r);
    AUTO_CLOSE int above = inside_parent(path, &name);
    struct inside_times times = inside_times_keep(above);
    int fd = above < 0 ? -1 : make(above, name, ctx), number = errno;
    owner_rights_end(r);
    space_leave(r, mount_space);
    if (fd >= 0)
        CHECK(unlinkat(above, name, removal) == 0 || errno == ENOENT); /* O_TMPFILE had none */
    if (fd >= 0)
        inside_times_set(above, &times);
    errno = number;
    return fd;
}

int nameless_make(const struct restore *r, uint64_t mount_space, const char *path, int removal, nameless_fn make, const void *ctx, struct err *e)
{
    const char *base = strrchr(path, '/');
    if (path[0] != '/' || strstr(path, "/../") || !base || !base[1])
        return err_set(e, E_BAD_IMAGE, "the path \"%s\" of something that was removed", path);
    bool elsewhere = false;
    for (int i = 0; i < TAKEN_TRIES; i++) {
        AUTO_FREE char *numbered = i ? xasprintf("%s%s.%d", elsewhere ? "/tmp" : "", elsewhere ? base : path, i) : xstrdup(path);
        int fd = one_make(r, mount_space, numbered, removal, make, ctx);
        if (fd >= 0)
            return fd;
        bool no_place = errno == ENOENT || errno == EACCES || errno == ENOTDIR;
        if (errno != EEXIST && (!no_place || elsewhere))
            return err_errno(e, "make %s, which has no name", path);
        elsewhere |= no_place; /* its directory is gone too */
    }
    return err_set(e, E_CONFLICT, "no free name for %s, which has none", path);
}
