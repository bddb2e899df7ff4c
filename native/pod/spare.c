/* See spare.h. */
#include "spare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int spare_make(int dirfd, const char *spare, struct err *e)
{
    char blank[SPARE_BYTES];
    if (faccessat(dirfd, spare, F_OK, 0) == 0)
        return 0;
    memset(blank, ' ', sizeof blank);
    return io_replace_soon(dirfd, spare, blank, sizeof blank, 0600, e);
}

static int spare_use(int dirfd, const char *name, const char *spare, const void *data, size_t len, struct err *e)
{
    AUTO_CLOSE int fd = openat(dirfd, spare, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open %s", spare);
    if (io_pwrite_all(fd, data, len, 0, e) < 0)
        return -1;
    if (ftruncate(fd, (off_t)len) < 0 || fsync(fd) < 0 || renameat(dirfd, spare, dirfd, name) < 0)
        return err_errno(e, "put %s in the place of %s", spare, name);
    return 0;
}

int spare_replace(int dirfd, const char *name, const char *spare, const void *data, size_t len, struct err *e)
{
    struct err ignored;
    if (io_replace(dirfd, name, data, len, 0600, e) == 0)
        return 0;
    if (e->code != E_NO_SPACE || len > SPARE_BYTES || spare_use(dirfd, name, spare, data, len, e) < 0)
        return -1;
    if (spare_make(dirfd, spare, &ignored) < 0)
        return 0; /* the disk is still full: what was written stands */
    return 0;
}
