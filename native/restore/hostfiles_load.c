/* The pod's directory trees, and those files of the host's part of its root that are another version here: the pod gets the old one at
 * its path, in its own upper directory. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../image/tree.h"
#include "load.h"

int trees_load(struct restore *r, struct pod *pod, struct err *e)
{
    for (size_t k = 0; k < r->image->trees_count; k++) {
        const struct tree *tree = &r->image->trees[k];
        bool known = false;
        for (const char *const *name = pod_tree_names; *name; name++)
            known |= strcmp(*name, tree->name) == 0;
        if (!known)
            return err_set(e, E_BAD_IMAGE, "the image holds a tree of an unknown name");
        AUTO_CLOSE int dir = pod_tree_open(pod, tree->name, e);
        if (dir < 0 || tree_load(dir, tree, r->store, e) < 0)
            return err_wrap(e, "files of the pod (%s)", tree->name);
    }
    return 0;
}

/* The very file that was captured, or one that is equal. The number of its device says nothing: the pod saw it through its overlay. That another
 * file has the same number, size and times to the nanosecond happens where the whole disk was copied, and then it is equal. */
static bool is_here(int lower, const struct hostfile *h)
{
    struct stat s;
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, lower, h->path, &how, sizeof how);
    if (fd < 0 || fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || (uint64_t)s.st_size != h->size)
        return false;
    bool untouched = s.st_ino == h->ino && s.st_ctim.tv_sec == h->ctime_s && (uint64_t)s.st_ctim.tv_nsec == h->ctime_ns &&
                     s.st_mtim.tv_sec == h->mtime_s && (uint64_t)s.st_mtim.tv_nsec == h->mtime_ns;
    return untouched || hostfile_matches(fd, h);
}

int hostfiles_load(struct restore *r, struct pod *pod, struct err *e)
{
    AUTO_CLOSE int upper = pod_tree_open(pod, "root", e);
    AUTO_CLOSE int lower = open(r->lower ? r->lower : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (upper < 0)
        return -1;
    if (lower < 0)
        return err_errno(e, "open the root below the pod");
    for (size_t k = 0; k < r->image->hostfiles_count; k++) {
        const struct hostfile *h = &r->image->hostfiles[k];
        if (!is_here(lower, h) && hostfile_load(upper, lower, h, r->store, e) < 0)
            return -1;
    }
    return 0;
}
