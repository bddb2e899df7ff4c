/* tree_load: makes a captured tree in an empty directory. See tree.h. Names are not trusted: every parent is opened
 * below the root without following a link, everything is made anew (O_EXCL), and only what a pod's owner could have made. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tree_parts.h"

struct load {
    int rootfd;
    struct store *store;
    const struct tree *in;
    const char **link_paths; /* by group: where its first name is */
    size_t group_count;
    char *parent;            /* path of parentfd */
    int parentfd;
};

/* ---- names */
bool tree_path_sane(const char *path)
{
    if (strcmp(path, ".") == 0)
        return true;
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > 255 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += len;
        if (!*part)
            return true;
    }
}

static int beneath(int rootfd, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    return (int)syscall(SYS_openat2, rootfd, path, &how, sizeof how);
}

/* The descriptor of the directory that holds `path`, and the last part of `path` in *name. */
static int parent_open(struct load *l, const char *path, const char **name, struct err *e)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *parent = slash ? strndup(path, (size_t)(slash - path)) : xstrdup(".");
    CHECK(parent);
    *name = slash ? slash + 1 : path;
    if (l->parent && strcmp(l->parent, parent) == 0)
        return 0;
    cleanup_close(&l->parentfd);
    l->parentfd = beneath(l->rootfd, parent, O_RDONLY | O_DIRECTORY);
    free(l->parent);
    l->parent = NULL;
    if (l->parentfd < 0)
        return errno == EXDEV || errno == ELOOP || errno == ENOTDIR || errno == ENOENT
                   ? err_set(e, E_BAD_IMAGE, "its parent is no directory of the tree")
                   : err_errno(e, "open its parent");
    l->parent = xstrdup(parent);
    return 0;
}

/* ---- content */
static int regular_load(struct load *l, const char *name, const struct entry *in, struct err *e)
{
    AUTO_CLOSE int fd = openat(l->parentfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "create");
    return store_get_file(l->store, fd, in->size, in->extents, in->extents_count, e);
}

static int directory_load(struct load *l, const char *name, struct err *e)
{
    struct stat st;
    if (mkdirat(l->parentfd, name, 0700) == 0)
        return 0;
    bool there = errno == EEXIST && fstatat(l->parentfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    return there ? 0 : err_errno(e, "make the directory");
}

static int node_load(struct load *l, const char *name, const struct entry *in, struct err *e)
{
    mode_t mode = (mode_t)in->mode;
    bool device = S_ISCHR(mode) || S_ISBLK(mode);
    if (device && !tree_device_allowed(in->mode, in->rdev))
        return err_set(e, E_BAD_IMAGE, "a device node that no pod may have");
    if (!device && !S_ISFIFO(mode) && !S_ISSOCK(mode))
        return err_set(e, E_BAD_IMAGE, "of an impossible kind (mode %lo)", in->mode);
    return mknodat(l->parentfd, name, mode, device ? in->rdev : 0) < 0 ? err_errno(e, "make the node") : 0;
}

static int kind_load(struct load *l, const char *name, const struct entry *in, struct err *e)
{
    mode_t mode = (mode_t)in->mode;
    if (S_ISREG(mode))
        return regular_load(l, name, in, e);
    if (S_ISDIR(mode))
        return directory_load(l, name, e);
    if (S_ISLNK(mode))
        return symlinkat(in->target, l->parentfd, name) < 0 ? err_errno(e, "make the link") : 0;
    return node_load(l, name, in, e);
}

/* ---- what is not content: owner first (it clears set-uid bits and capabilities), times last */
static int xattrs_load(const char *at, const struct entry *in, struct err *e)
{
    for (size_t i = 0; i < in->xattrs_count; i++) {
        const struct xattr *x = &in->xattrs[i];
        if (!tree_xattr_travels(x->name))
            return err_set(e, E_BAD_IMAGE, "attribute %s, which does not travel", x->name);
        if (lsetxattr(at, x->name, x->value.data ? (const void *)x->value.data : "", x->value.len, 0) < 0)
            return err_errno(e, "attribute %s", x->name);
    }
    return 0;
}

static int times_load(int dirfd, const char *name, const struct entry *in, struct err *e)
{
    if (in->mtime_ns >= 1000000000u)
        return err_set(e, E_BAD_IMAGE, "an impossible time");
    struct timespec when = {in->mtime_s, (long)in->mtime_ns};
    return utimensat(dirfd, name, (struct timespec[]){when, when}, AT_SYMLINK_NOFOLLOW) < 0 ? err_errno(e, "times") : 0;
}

static int facts_load(int dirfd, const char *name, const struct entry *in, struct err *e)
{
    AUTO_FREE char *at = xasprintf("/proc/self/fd/%d/%s", dirfd, name);
    if (in->uid >= UINT32_MAX || in->gid >= UINT32_MAX)
        return err_set(e, E_BAD_IMAGE, "an impossible owner");
    if (io_chown(dirfd, name, in->uid, in->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "owner %lu:%lu", in->uid, in->gid);
    if (!S_ISLNK((mode_t)in->mode) && fchmodat(dirfd, name, (mode_t)in->mode & 07777, 0) < 0)
        return err_errno(e, "mode %lo", in->mode);
    return xattrs_load(at, in, e) || times_load(dirfd, name, in, e) ? -1 : 0;
}

/* ---- hard links */
/* *done when this name is one more of a file that is there. */
static int link_load(struct load *l, const char *name, const struct entry *in, bool *done, struct err *e)
{
    *done = false;
    if (!in->link_group)
        return 0;
    if (in->link_group > l->group_count || S_ISDIR((mode_t)in->mode))
        return err_set(e, E_BAD_IMAGE, "an impossible group of links");
    const char **first = &l->link_paths[in->link_group - 1];
    if (!*first) {
        *first = in->path;
        return 0;
    }
    const char *slash = strrchr(*first, '/');
    AUTO_FREE char *parent = slash ? strndup(*first, (size_t)(slash - *first)) : xstrdup(".");
    AUTO_CLOSE int fd = beneath(l->rootfd, parent, O_PATH | O_DIRECTORY);
    *done = true;
    if (fd < 0 || linkat(fd, slash ? slash + 1 : *first, l->parentfd, name, 0) < 0)
        return err_errno(e, "link to %s", *first);
    return 0;
}

static int entry_load(struct load *l, const struct entry *in, struct err *e)
{
    const char *name;
    bool done;
    if (!tree_path_sane(in->path))
        return err_set(e, E_BAD_IMAGE, "a name that may not be in a tree");
    if (strcmp(in->path, ".") == 0)
        return S_ISDIR((mode_t)in->mode) ? facts_load(l->rootfd, ".", in, e) : err_set(e, E_BAD_IMAGE, "no directory");
    if (parent_open(l, in->path, &name, e) || link_load(l, name, in, &done, e))
        return -1;
    if (done)
        return 0;
    return kind_load(l, name, in, e) || facts_load(l->parentfd, name, in, e) ? -1 : 0;
}

/* Children change the times of their directory: put them right from the inside out. */
static int folder_times_load(struct load *l, struct err *e)
{
    for (size_t i = l->in->entries_count; i-- > 0;) {
        const struct entry *in = &l->in->entries[i];
        const char *name = ".";
        if (!S_ISDIR((mode_t)in->mode))
            continue;
        bool root = strcmp(in->path, ".") == 0;
        if (!root && parent_open(l, in->path, &name, e))
            return err_wrap(e, "%s", in->path);
        if (times_load(root ? l->rootfd : l->parentfd, name, in, e))
            return err_wrap(e, "%s", in->path);
    }
    return 0;
}

static int entries_load(struct load *l, struct err *e)
{
    for (size_t i = 0; i < l->in->entries_count; i++)
        if (entry_load(l, &l->in->entries[i], e))
            return err_wrap(e, "%s", l->in->entries[i].path);
    return folder_times_load(l, e);
}

int tree_load(int dirfd, const struct tree *in, struct store *store, struct err *e)
{
    struct load l = {.rootfd = dirfd, .store = store, .in = in, .parentfd = -1, .group_count = in->entries_count};
    l.link_paths = xcalloc(l.group_count, sizeof *l.link_paths);
    int result = entries_load(&l, e) ? err_wrap(e, "tree %s", in->name) : 0;
    cleanup_close(&l.parentfd);
    free(l.link_paths);
    free(l.parent);
    return result;
}

int tree_check_powers(const struct tree *in, uint64_t uid, uint64_t gid, struct err *e)
{
    for (size_t i = 0; i < in->entries_count; i++) {
        const struct entry *x = &in->entries[i];
        bool executable = S_ISREG((mode_t)x->mode);
        bool powerful = executable && ((x->mode & S_ISUID && x->uid != uid) || (x->mode & S_ISGID && x->gid != gid));
        for (size_t k = 0; k < x->xattrs_count; k++)
            powerful = powerful || strcmp(x->xattrs[k].name, "security.capability") == 0;
        if (powerful)
            return err_set(e, E_BAD_IMAGE, "tree %s: %s has powers that its owner could not have given it", in->name, x->path);
    }
    return 0;
}
