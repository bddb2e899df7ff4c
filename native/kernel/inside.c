/* See inside.h. */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_ONLY_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW)

int inside_open(const char *path, int flags, mode_t mode)
{
    struct open_how how = {.mode = flags & O_CREAT ? mode : 0, .resolve = RESOLVE_NO_MAGICLINKS};
    how.flags = (unsigned)((flags & O_PATH ? flags & PATH_ONLY_FLAGS : flags) | O_CLOEXEC);
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

int inside_parent(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) {
        errno = EINVAL;
        return -1;
    }
    AUTO_FREE char *above = slash == path ? xstrdup("/") : slash ? xasprintf("%.*s", (int)(slash - path), path) : xstrdup(".");
    return inside_open(above, O_PATH | O_DIRECTORY, 0);
}

bool inside_is_linked(const char *path)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    return fd < 0 && errno == ELOOP;
}

/* One directory more: `path` is the whole path so far. */
static int step(int above, const char *path, mode_t mode)
{
    int fd = inside_open(path, O_PATH | O_DIRECTORY, 0);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    return mkdirat(above, strrchr(path, '/') + 1, mode) < 0 && errno != EEXIST ? -1 : inside_open(path, O_PATH | O_DIRECTORY, 0);
}

int inside_mkdirs(const char *path, mode_t mode, struct err *e)
{
    AUTO_FREE char *copy = xstrdup(path);
    int fd = path[0] == '/' ? inside_open("/", O_PATH | O_DIRECTORY, 0) : (errno = EINVAL, -1);
    for (char *at = copy; fd >= 0 && at && at[strspn(at, "/")];) {
        char *end = strchr(at + strspn(at, "/"), '/');
        if (end)
            *end = 0;
        int next = step(fd, copy, mode), number = errno;
        if (end)
            *end = '/';
        close(fd);
        errno = number;
        fd = next;
        at = end;
    }
    return fd < 0 ? err_errno(e, "make the directory %s", path) : fd;
}

struct inside_times inside_times_keep(int dir)
{
    struct stat st = {0};
    if (fstat(dir, &st) < 0)
        return (struct inside_times){{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    return (struct inside_times){st.st_atim, st.st_mtim};
}

void inside_times_set(int dir, const struct inside_times *times)
{
    (void)!utimensat(dir, ".", (struct timespec[]){times->access, times->change}, 0);
}
