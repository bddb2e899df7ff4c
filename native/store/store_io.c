/* See store_io.h. */
#include "store_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int fault_of(const char *operation)
{
    return store_io_fault ? store_io_fault(operation) : 0;
}

static bool faulty(const char *operation)
{
    int number = fault_of(operation);
    errno = number ? abs(number) : errno;
    return number != 0;
}

int store_io_create(int dirfd, const char *name, int *fd, struct err *e)
{
    *fd = faulty("create") ? -1 : openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *fd < 0 ? err_errno(e, "create %s", name) : 0;
}

int store_io_write(int fd, const void *data, size_t len, uint64_t offset, struct err *e)
{
    int number = fault_of("write");
    if (number < 0 && io_pwrite_all(fd, data, len / 2 & ~(PAGE_BYTES - 1), offset, e))
        return -1;
    errno = abs(number);
    return number ? err_errno(e, "write at %lu", offset) : io_pwrite_all(fd, data, len, offset, e);
}

int store_io_sync(int fd, const char *what, struct err *e)
{
    return faulty("sync") || fsync(fd) < 0 ? err_errno(e, "fsync %s", what) : 0;
}

int store_io_rename(int dirfd, const char *from, const char *to, struct err *e)
{
    return faulty("rename") || renameat(dirfd, from, dirfd, to) < 0 ? err_errno(e, "rename %s", from) : 0;
}

int store_io_unlink(int dirfd, const char *name, struct err *e)
{
    if (faulty("unlink") || (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT))
        return err_errno(e, "unlink %s", name);
    return 0;
}

int store_io_touch(int dirfd, const char *name, struct err *e)
{
    /* opened first: a client of a file server asks again then whether the name is still there */
    AUTO_CLOSE int fd = faulty("touch") ? -1 : openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && futimens(fd, NULL) == 0)
        return 0;
    return errno == ENOENT ? err_set(e, E_NO_INPUT, "%s is gone", name) : err_errno(e, "touch %s", name);
}

int store_io_move(int fromfd, int tofd, const char *name, struct err *e)
{
    if (!faulty("move") && renameat(fromfd, name, tofd, name) == 0)
        return 0;
    return errno == ENOENT ? err_set(e, E_NO_INPUT, "%s is gone", name) : err_errno(e, "move %s", name);
}

static int mkdir_durable(const char *path, struct err *e)
{
    if (faulty("mkdir"))
        return err_errno(e, "mkdir %s", path);
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : err_errno(e, "mkdir %s", path);
    AUTO_FREE char *parent = xasprintf("%s/..", path);
    AUTO_CLOSE int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open %s", parent) : store_io_sync(fd, parent, e);
}

int store_io_mkdirs(const char *path, struct err *e)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *at = copy; *at; at++) {
        if (*at != '/' || at == copy)
            continue;
        *at = 0;
        if (mkdir_durable(copy, e))
            return -1;
        *at = '/';
    }
    return mkdir_durable(copy, e);
}

static int replace_by(int dirfd, const char *temporary, const char *name, const void *data, size_t len, struct err *e)
{
    AUTO_CLOSE int fd = -1;
    if (store_io_create(dirfd, temporary, &fd, e) || store_io_write(fd, data, len, 0, e) ||
        store_io_sync(fd, temporary, e) || store_io_rename(dirfd, temporary, name, e))
        return -1;
    return store_io_sync(dirfd, "its directory", e);
}

int store_io_replace(int dirfd, const char *name, const void *data, size_t len, struct err *e)
{
    uint64_t random;
    CHECK(getrandom(&random, sizeof random, 0) == (ssize_t)sizeof random);
    AUTO_FREE char *temporary = xasprintf("%s.%016lx.tmp", name, random);
    if (!replace_by(dirfd, temporary, name, data, len, e))
        return 0;
    unlinkat(dirfd, temporary, 0);
    return err_wrap(e, "write %s", name);
}
