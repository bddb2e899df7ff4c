/* The mounts of a namespace of the job, in a fresh copy of the pod's. Everything is taken from that copy first (clones of what stands at paths of the
 * pod) or made on the side; then it is put together upon a new root, which takes the old one's place. Overlays, and what stands upon them, come last: their
 * layers are told by paths below that root. Mirrors snapshot/mounts_plan.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/mountinfo.h"
#include "spaces.h"

#define ROOT_PLACE "/tmp" /* of the copy: both are there in every pod, and go with the old root */
#define SIDE_PLACE "/run"

struct builder {
    const struct mount_space *space;
    const struct space_asks *asks;
    int *mounts;                /* by mount: its root; -1: not reachable */
    int *sides;                 /* by file system: its root, mounted aside */
};

static int plain_open(int root, const char *path, uint64_t more)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | more};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static int clone_of(int fd, bool deep)
{
    return open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (deep ? AT_RECURSIVE : 0u));
}

static int attach(int mount_fd, int at, const char *path)
{
    return move_mount(mount_fd, "", at, path, MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0u : MOVE_MOUNT_T_EMPTY_PATH));
}

/* ---- of the pod */
static int sources_take(struct builder *b, struct err *e)
{
    for (size_t k = 0; k < b->space->mounts_count; k++) {
        const struct mounted *m = &b->space->mounts[k];
        if (m->kind != MOUNTED_POD)
            continue;
        AUTO_CLOSE int fd = plain_open(AT_FDCWD, m->source, 0);
        b->mounts[k] = fd < 0 ? -1 : clone_of(fd, m->deep);
        if (b->mounts[k] < 0)
            return err_errno(e, "bind %s", m->source);
    }
    return 0;
}

/* ---- of the job */
static int option_set(int fs, char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return fsconfig(fs, FSCONFIG_SET_FLAG, word, NULL, 0);
    *value = 0;
    return fsconfig(fs, FSCONFIG_SET_STRING, word, value + 1, 0);
}

static bool is_overlay(const struct own_fs *fs)
{
    return strcmp(fs->type, "overlay") == 0;
}

static int filesystem_make(const struct own_fs *fs, struct err *e)
{
    AUTO_FREE char *options = xstrdup(fs->options);
    AUTO_CLOSE int making = fsopen(fs->type, FSOPEN_CLOEXEC);
    char *save = NULL;
    if (making < 0 || fsconfig(making, FSCONFIG_SET_STRING, "source", fs->source[0] ? fs->source : fs->type, 0) < 0)
        return err_errno(e, "make a %s", fs->type);
    for (char *word = strtok_r(options, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (option_set(making, word) < 0)
            return err_errno(e, "make a %s with %s", fs->type, fs->options);
    if (fsconfig(making, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return is_overlay(fs) ? err_set(e, E_UNSUPPORTED, "an overlay of the job cannot be mounted here: %s", strerror(errno)) : err_errno(e, "make a %s", fs->type);
    int fd = fsmount(making, FSMOUNT_CLOEXEC, 0);
    return fd < 0 ? err_errno(e, "make a %s", fs->type) : fd;
}

static int part_directory(int side, const char *root, struct err *e)
{
    AUTO_FREE char *path = xstrdup(root);
    for (char *slash = strchr(path + 1, '/'); path[1]; slash = slash ? strchr(slash + 1, '/') : NULL) {
        if (slash)
            *slash = 0;
        if (mkdirat(side, path + 1, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "make the directory %s", path);
        if (!slash)
            break;
        *slash = '/';
    }
    AUTO_CLOSE int place = plain_open(side, root, RESOLVE_IN_ROOT);
    int fd = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open %s", root) : fd;
}

static int filesystems_make(struct builder *b, struct err *e)
{
    for (size_t k = 0; k < b->space->filesystems_count; k++) {
        const struct own_fs *fs = &b->space->filesystems[k];
        if (is_overlay(fs))
            continue;
        b->sides[k] = filesystem_make(fs, e);
        if (b->sides[k] < 0)
            return -1;
        if (attach(b->sides[k], AT_FDCWD, SIDE_PLACE) < 0)
            return err_errno(e, "mount a %s aside", fs->type);
        for (size_t n = 0; n < fs->parts_count; n++) {
            AUTO_CLOSE int dir = part_directory(b->sides[k], fs->parts[n].root, e);
            if (dir < 0 || b->asks->fill(b->asks->ctx, k, n, dir, e) < 0)
                return -1;
        }
    }
    return 0;
}

static int own_take(struct builder *b, size_t k, struct err *e)
{
    const struct mounted *m = &b->space->mounts[k];
    if (is_overlay(&b->space->filesystems[m->fs - 1]))
        return (b->mounts[k] = filesystem_make(&b->space->filesystems[m->fs - 1], e)) < 0 ? -1 : 0;
    AUTO_CLOSE int fd = plain_open(b->sides[m->fs - 1], m->source, RESOLVE_IN_ROOT);
    b->mounts[k] = fd < 0 ? -1 : clone_of(fd, false);
    return b->mounts[k] < 0 ? err_errno(e, "%s of a file system of the job", m->source) : 0;
}

/* ---- put together */
static int place_open(const struct builder *b, const struct mounted *m, struct err *e)
{
    int above = b->mounts[m->parent - 1];
    if (above < 0)
        return err_set(e, E_UNSUPPORTED, "a mount at %s of something that this pod has not", m->place);
    int fd = strcmp(m->place, "/") == 0 ? fcntl(above, F_DUPFD_CLOEXEC, 0) : plain_open(above, m->place, RESOLVE_IN_ROOT);
    return fd < 0 ? err_errno(e, "the mount point %s", m->place) : fd;
}

/* The pod has mounted over it, where it mounted it: it came along covered. */
static bool is_covered(const struct builder *b, const struct mounted *m)
{
    for (size_t k = 0; m->hidden && k < b->space->mounts_count; k++) {
        const struct mounted *other = &b->space->mounts[k];
        if (other != m && other->kind == MOUNTED_ALONG && other->parent == m->parent && path_below(m->place, other->place))
            return true;
    }
    return b->mounts[m->parent - 1] < 0 || strcmp(m->place, "/") == 0;
}

/* It came with the mount above it. */
static void along_find(struct builder *b, size_t k)
{
    const struct mounted *m = &b->space->mounts[k];
    struct err gone;
    if (is_covered(b, m))
        return;
    AUTO_CLOSE int fd = place_open(b, m, &gone);
    if (fd >= 0 && mount_id_of(fd) != mount_id_of(b->mounts[m->parent - 1])) /* else: a mount of the other machine, which this pod has not */
        b->mounts[k] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int one_place(struct builder *b, size_t k, struct err *e)
{
    const struct mounted *m = &b->space->mounts[k];
    if (m->kind == MOUNTED_ALONG) {
        along_find(b, k);
        return 0;
    }
    if (m->kind == MOUNTED_OWN && b->mounts[k] < 0 && own_take(b, k, e) < 0)
        return -1;
    AUTO_CLOSE int at = m->parent ? place_open(b, m, e) : open(ROOT_PLACE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return m->parent ? -1 : err_errno(e, "open %s", ROOT_PLACE);
    if (m->parent && mount_id_of(at) != mount_id_of(b->mounts[m->parent - 1]))
        return err_set(e, E_BAD_IMAGE, "a mount at %s, where another is already", m->place);
    return attach(b->mounts[k], at, "") < 0 ? err_errno(e, "mount at %s", m->place) : 0;
}

static int attributes_set(const struct builder *b, size_t k, struct err *e)
{
    const struct mounted *m = &b->space->mounts[k];
    struct mount_attr attributes = {.attr_set = m->attributes, .attr_clr = MOUNT_ATTR__ATIME, .propagation = m->propagation};
    if (b->mounts[k] >= 0 && mount_setattr(b->mounts[k], "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
        return err_errno(e, "options of the mount at %s", m->place);
    return 0;
}

static int root_change(const struct builder *b, struct err *e)
{
    if (fchdir(b->mounts[0]) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, "change the root of a mount namespace");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(e, "leave the old root of a mount namespace");
    return 0;
}

/* An overlay, or upon one. */
static bool is_last(const struct builder *b, const struct mounted *m)
{
    while (m->parent && !(m->kind == MOUNTED_OWN && is_overlay(&b->space->filesystems[m->fs - 1])))
        m = &b->space->mounts[m->parent - 1];
    return m->parent;
}

static int place_those(struct builder *b, bool last, struct err *e)
{
    for (size_t k = 0; k < b->space->mounts_count; k++)
        if (is_last(b, &b->space->mounts[k]) == last && one_place(b, k, e) < 0)
            return -1;
    for (size_t k = 0; k < b->space->mounts_count; k++)
        if (is_last(b, &b->space->mounts[k]) == last && attributes_set(b, k, e) < 0)
            return -1;
    return 0;
}

/* What was mounted aside goes with the old root. */
static int upon_take(struct builder *b, struct err *e)
{
    for (size_t k = 0; k < b->space->mounts_count; k++) {
        const struct mounted *m = &b->space->mounts[k];
        if (is_last(b, m) && m->kind == MOUNTED_OWN && !is_overlay(&b->space->filesystems[m->fs - 1]) && own_take(b, k, e) < 0)
            return -1;
    }
    return 0;
}

static int all_load(struct builder *b, struct err *e)
{
    if (sources_take(b, e) < 0 || filesystems_make(b, e) < 0 || place_those(b, false, e) < 0 || upon_take(b, e) < 0 || root_change(b, e) < 0)
        return -1;
    return place_those(b, true, e);
}

int mounts_load(const struct mount_space *space, const struct space_asks *asks, struct err *e)
{
    AUTO_FREE int *mounts = xcalloc(space->mounts_count + 1, sizeof *mounts), *sides = xcalloc(space->filesystems_count + 1, sizeof *sides);
    struct builder b = {space, asks, mounts, sides};
    for (size_t k = 0; k < space->mounts_count; k++)
        mounts[k] = -1;
    return all_load(&b, e); /* its descriptors go with the helper */
}
