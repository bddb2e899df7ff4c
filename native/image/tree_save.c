/* tree_save: walks a directory by descriptors, never by a name that could lead out of it. See tree.h.
 * Entries come parents first, names in byte order: equal trees give equal manifests. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/index.h"
#include "tree_parts.h"

#define XATTR_LIST_MAX 65536
#define DEPTH_MAX 512

struct walk {
    struct store *store;
    struct tree *out;
    uint64_t *new_bytes;
    const struct entry **previous; /* sorted by path */
    size_t previous_count;
    struct index links;            /* files of several names: (inode, device) as a digest; offset is their group */
    dev_t dev;
    const struct stand_ins *instead;
};

/* ---- the parent image's entries by path */
static int previous_compare(const void *a, const void *b)
{
    const struct entry *x, *y;
    memcpy(&x, a, sizeof(struct entry *));
    memcpy(&y, b, sizeof(struct entry *));
    return strcmp(x->path, y->path);
}

static void previous_sort(struct walk *w, const struct tree *previous)
{
    w->previous_count = previous ? previous->entries_count : 0;
    w->previous = xcalloc(w->previous_count, sizeof *w->previous);
    for (size_t i = 0; i < w->previous_count; i++)
        w->previous[i] = &previous->entries[i];
    if (w->previous_count)
        qsort(w->previous, w->previous_count, sizeof *w->previous, previous_compare);
}

static const struct entry *previous_find(const struct walk *w, const struct entry *now)
{
    if (!w->previous_count)
        return NULL;
    const struct entry **found = bsearch(&now, w->previous, w->previous_count, sizeof *w->previous, previous_compare);
    const struct entry *p = found ? *found : NULL;
    bool same = p && p->ino && S_ISREG((mode_t)p->mode) && p->ino == now->ino && p->size == now->size && p->mtime_s == now->mtime_s &&
                p->mtime_ns == now->mtime_ns && p->ctime_s == now->ctime_s && p->ctime_ns == now->ctime_ns;
    return same && (p->link_group == 0 || p->extents_count || p->size == 0) ? p : NULL;
}

/* ---- one entry. `at` is "/proc/self/fd/N/NAME": the last part of a path is not followed by the l… calls. */
static int xattr_save(const char *at, const char *name, struct entry *out, struct err *e)
{
    if (!tree_xattr_travels(name))
        return 0;
    AUTO_FREE char *value = xcalloc(XATTR_LIST_MAX, 1);
    ssize_t len = lgetxattr(at, name, value, XATTR_LIST_MAX);
    if (len < 0)
        return errno == ENODATA ? 0 : err_errno(e, "attribute %s", name);
    struct xattr *x = LIST_ADD(out, xattrs);
    x->name = xstrdup(name);
    bytes_set(&x->value, value, (size_t)len);
    return 0;
}

static int xattrs_save(const char *at, struct entry *out, struct err *e)
{
    char small[1024];
    ssize_t len = llistxattr(at, small, sizeof small);
    if (len == 0 || (len < 0 && errno == ENOTSUP))
        return 0;
    AUTO_FREE char *names = xcalloc(XATTR_LIST_MAX, 1);
    len = llistxattr(at, names, XATTR_LIST_MAX);
    if (len < 0)
        return err_errno(e, "attributes");
    for (const char *name = names; name < names + len; name += strlen(name) + 1)
        if (xattr_save(at, name, out, e))
            return -1;
    return 0;
}

static int target_save(int dirfd, const char *name, struct entry *out, struct err *e)
{
    char target[PATH_BYTES + 1];
    ssize_t len = readlinkat(dirfd, name, target, PATH_BYTES);
    if (len < 0)
        return err_errno(e, "read the link");
    target[len] = 0;
    out->target = xstrdup(target);
    return 0;
}

static int file_open(int dirfd, const char *name)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(dirfd, name, flags | O_NOATIME);
    return fd < 0 && errno == EPERM ? openat(dirfd, name, flags) : fd;
}

static int instead_of(const struct walk *w, const struct stat *st)
{
    for (size_t i = 0; w->instead && i < w->instead->count; i++)
        if (w->instead->items[i].ino == st->st_ino && w->instead->items[i].dev == st->st_dev)
            return w->instead->items[i].fd;
    return -1;
}

static int regular_save(struct walk *w, int dirfd, const char *name, const struct stat *seen, struct entry *out, struct err *e)
{
    struct stat st = *seen;
    int other = instead_of(w, seen);
    AUTO_CLOSE int fd = other >= 0 ? fcntl(other, F_DUPFD_CLOEXEC, 0) : file_open(dirfd, name);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "open");
    out->size = (uint64_t)st.st_size;
    const struct entry *p = previous_find(w, out);
    struct content old = {p ? p->extents : NULL, p ? p->extents_count : 0}, now = {0};
    int result = content_save(fd, &st, p ? &old : NULL, w->store, &now, w->new_bytes, e);
    out->extents = now.extents;
    out->extents_count = now.count;
    return result;
}

/* The number of the group of hard links; *first when its content is to be saved here. */
static uint64_t link_group(struct walk *w, const struct stat *st, bool *first)
{
    *first = true;
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return 0;
    struct place key = {.offset = w->links.count + 1, .state = PLACE_READY};
    memcpy(key.digest.bytes, &st->st_ino, sizeof st->st_ino);
    memcpy(key.digest.bytes + 8, &st->st_dev, sizeof st->st_dev);
    *first = index_add(&w->links, &key);
    return index_find(&w->links, &key.digest)->offset;
}

static int kind_save(struct walk *w, int dirfd, const char *name, const struct stat *st, struct entry *out, struct err *e)
{
    mode_t mode = (mode_t)out->mode;
    if (S_ISREG(mode))
        return regular_save(w, dirfd, name, st, out, e);
    if (S_ISLNK(mode))
        return target_save(dirfd, name, out, e);
    if ((S_ISCHR(mode) || S_ISBLK(mode)) && !tree_device_allowed(out->mode, out->rdev))
        return err_set(e, E_UNSUPPORTED, "a device node");
    return 0;
}

static void stat_keep(const struct stat *st, struct entry *out)
{
    out->mode = st->st_mode;
    out->uid = st->st_uid;
    out->gid = st->st_gid;
    out->rdev = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? st->st_rdev : 0;
    out->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    out->mtime_s = st->st_mtim.tv_sec;
    out->mtime_ns = (uint64_t)st->st_mtim.tv_nsec;
    out->ctime_s = st->st_ctim.tv_sec;
    out->ctime_ns = (uint64_t)st->st_ctim.tv_nsec;
    out->ino = stamp_is_firm(st) ? st->st_ino : 0;
}

static int entry_save(struct walk *w, int dirfd, const char *name, const char *path, const struct stat *st, struct err *e)
{
    bool first;
    AUTO_FREE char *at = xasprintf("/proc/self/fd/%d/%s", dirfd, name);
    struct entry *out = LIST_ADD(w->out, entries);
    out->path = xstrdup(path);
    stat_keep(st, out);
    out->link_group = link_group(w, st, &first);
    if (!first)
        return 0;
    if (xattrs_save(at, out, e) || kind_save(w, dirfd, name, st, out, e))
        return err_wrap(e, "%s", path);
    return 0;
}

/* ---- directories */
static int name_compare(const void *a, const void *b)
{
    const char *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return strcmp(x, y);
}

static void names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static int names_read(int dirfd, char ***names, size_t *count, struct err *e)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open");
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            *(char **)list_add((void **)names, count, sizeof **names) = xstrdup(entry->d_name);
    if (errno)
        return err_errno(e, "read");
    if (*count)
        qsort(*names, *count, sizeof **names, name_compare);
    return 0;
}

static int folder_save(struct walk *w, int dirfd, const char *path, int depth, struct err *e);

static int child_save(struct walk *w, int dirfd, const char *name, const char *folder, int depth, struct err *e)
{
    struct stat st;
    AUTO_FREE char *path = strcmp(folder, ".") ? xasprintf("%s/%s", folder, name) : xstrdup(name);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "%s: stat", path);
    if (entry_save(w, dirfd, name, path, &st, e))
        return -1;
    if (!S_ISDIR(st.st_mode) || st.st_dev != w->dev) /* a mount point is kept as the empty directory that it covers */
        return 0;
    AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s: open", path);
    return folder_save(w, fd, path, depth + 1, e);
}

static int folder_save(struct walk *w, int dirfd, const char *path, int depth, struct err *e)
{
    char **names = NULL;
    size_t count = 0;
    if (depth > DEPTH_MAX)
        return err_set(e, E_UNSUPPORTED, "%.200s…: more than %d directories deep", path, DEPTH_MAX);
    int result = names_read(dirfd, &names, &count, e) ? err_wrap(e, "%s", path) : 0;
    for (size_t i = 0; i < count && !result; i++)
        result = child_save(w, dirfd, names[i], path, depth, e);
    names_free(names, count);
    return result;
}

int tree_save(int dirfd, const char *name, const struct tree *previous, const struct stand_ins *instead, struct store *store, struct tree *out,
              uint64_t *new_bytes, struct err *e)
{
    struct stat st;
    if (fstat(dirfd, &st) < 0)
        return err_errno(e, "tree %s: stat", name);
    struct walk w = {.store = store, .out = out, .new_bytes = new_bytes, .dev = st.st_dev, .instead = instead};
    *out = (struct tree){.name = xstrdup(name)};
    previous_sort(&w, previous);
    int result = entry_save(&w, dirfd, ".", ".", &st, e) || folder_save(&w, dirfd, ".", 0, e) ? -1 : 0;
    free(w.previous);
    index_free(&w.links);
    if (!result)
        return 0;
    tree_free(out);
    return err_wrap(e, "tree %s", name);
}
