/* The pod's directory trees, and those files of the host's part of its root that are another version here: the pod gets the old one at
 * its path, in its own upper directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "../image/tree.h"
#include "../store/sha256.h"
#include "load.h"

#define RESOLVE_IN_ROOT_ 0x10
#define RESOLVE_BENEATH_NOLINKS 0x0c /* RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS */

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

static int open_below(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct {
        uint64_t flags, mode, resolve;
    } how = {flags | O_CLOEXEC, mode, resolve};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static bool is_same_content(int fd, const struct hostfile *h)
{
    uint8_t chunk[4096 * 64];
    _Static_assert(sizeof chunk == CHUNK_MAX, "one chunk");
    uint64_t at = 0;
    for (size_t k = 0; k < h->extents_count; k++) {
        const struct extent *x = &h->extents[k];
        struct digest digest;
        struct err ignored;
        if (x->at < at || x->len > sizeof chunk || io_pread_all(fd, chunk, x->len, x->at, &ignored) < 0)
            return false;
        sha256_of(chunk, x->len, &digest);
        if (!digest_is_zero(&x->digest) && memcmp(&digest, &x->digest, sizeof digest) != 0)
            return false;
        at = x->at + x->len;
    }
    return true;
}

/* The very file that was captured, or one that is equal. */
static bool is_here(int lower, const struct hostfile *h)
{
    struct stat s;
    AUTO_CLOSE int fd = open_below(lower, h->path, O_RDONLY | O_NONBLOCK, 0, RESOLVE_IN_ROOT_);
    if (fd < 0 || fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || (uint64_t)s.st_size != h->size)
        return false;
    bool untouched = s.st_dev == h->dev && s.st_ino == h->ino && s.st_ctim.tv_sec == h->ctime_s && (uint64_t)s.st_ctim.tv_nsec == h->ctime_ns;
    return untouched || is_same_content(fd, h);
}

/* Directories above a file in the upper directory, as they are below it. */
static int parents_make(int upper, int lower, const char *path, struct err *e)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
        struct stat s = {.st_mode = 0755};
        *slash = 0;
        (void)fstatat(lower, copy, &s, 0);
        bool made = mkdirat(upper, copy, s.st_mode & 07777) == 0;
        if (!made && errno != EEXIST)
            return err_errno(e, "make %s in the pod", copy);
        if (made && (io_chown(upper, copy, s.st_uid, s.st_gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(upper, copy, s.st_mode & 07777, 0) < 0))
            return err_errno(e, "make %s in the pod", copy);
        *slash = '/';
    }
    return 0;
}

static int put_in_upper(struct restore *r, int upper, int lower, const struct hostfile *h, struct err *e)
{
    const char *path = h->path + strspn(h->path, "/");
    if (parents_make(upper, lower, path, e) < 0)
        return -1;
    AUTO_CLOSE int fd = open_below(upper, path, O_RDWR | O_CREAT | O_EXCL, h->mode & 07777, RESOLVE_BENEATH_NOLINKS);
    if (fd < 0)
        return errno == EEXIST ? 0 : err_errno(e, "put %s into the pod", h->path);
    if (store_get_file(r->store, fd, h->size, h->extents, h->extents_count, e) < 0)
        return err_wrap(e, "%s", h->path);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {h->mtime_s, (long)h->mtime_ns}};
    if (io_chown(fd, "", h->uid, h->gid, AT_EMPTY_PATH) < 0 || fchmod(fd, h->mode & 0777) < 0 || futimens(fd, times) < 0)
        return err_errno(e, "put %s into the pod", h->path);
    return 0;
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
        if (h->path[0] != '/' || strstr(h->path, "/../"))
            return err_set(e, E_BAD_IMAGE, "a file without a path");
        if (!is_here(lower, h) && put_in_upper(r, upper, lower, h, e) < 0)
            return -1;
    }
    return 0;
}
