/* A restore fills POD/upper. While it is at work POD/restoring stands; if it fails, or died, what it had filled goes away again, and only
 * that: a directory that was filled by somebody else is refused by tree_load. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leftovers.h"

#define OPEN_DIRECTORIES 32

static int entry_remove(const char *path, const struct stat *s, int kind, struct FTW *at)
{
    (void)s;
    if (at->level == 0)
        return 0;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static int upper_clear(const char *dir, struct err *e)
{
    AUTO_FREE char *upper = xasprintf("%s/upper", dir);
    if (nftw(upper, entry_remove, OPEN_DIRECTORIES, FTW_PHYS | FTW_DEPTH | FTW_MOUNT) != 0 && errno != ENOENT)
        return err_errno(e, "clear %s", upper);
    return 0;
}

int leftovers_begin(const char *dir, struct err *e)
{
    AUTO_FREE char *marker = xasprintf("%s/restoring", dir), *state = xasprintf("%s/state", dir);
    if (access(state, F_OK) == 0)
        return err_set(e, E_CONFLICT, "there is a pod in %s already", dir);
    if (io_mkdirs(dir, 0700, e) < 0)
        return -1;
    if (access(marker, F_OK) == 0)
        return upper_clear(dir, e);
    AUTO_CLOSE int fd = open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(e, "make %s", marker) : 0;
}

int leftovers_end(const char *dir, bool failed, struct err *e)
{
    AUTO_FREE char *marker = xasprintf("%s/restoring", dir);
    if (failed && upper_clear(dir, e) < 0)
        return -1;
    return unlink(marker) < 0 && errno != ENOENT ? err_errno(e, "remove %s", marker) : 0;
}
