/* The content of one file, read or taken over from the parent image. Times alone do not prove that a file is unchanged:
 * a shared mapping is written without them, and two writes of one clock tick look alike. So content is taken over only if nobody has
 * the file open for writing (a read lease can be had), and a file changed a moment ago gets a stamp that matches nothing. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tree_parts.h"

#define TICK_NS 20000000u /* more than the coarsest clock tick (100 Hz) */

bool tree_device_allowed(uint64_t mode, uint64_t rdev)
{
    static const struct {
        unsigned major, minor;
    } allowed[] = {{0, 0}, {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}};
    for (size_t i = 0; i < ARRAY_LENGTH(allowed); i++)
        if (S_ISCHR((mode_t)mode) && makedev(allowed[i].major, allowed[i].minor) == rdev)
            return true;
    return false;
}

bool tree_xattr_travels(const char *name)
{
    static const char *const overlay[] = {"trusted.overlay.", "user.overlay."};
    for (size_t i = 0; i < ARRAY_LENGTH(overlay); i++) {
        size_t len = strlen(overlay[i]);
        if (strncmp(name, overlay[i], len) == 0)
            return strcmp(name + len, "opaque") == 0 || strcmp(name + len, "whiteout") == 0 || strcmp(name + len, "redirect") == 0;
    }
    return strcmp(name, "security.selinux") != 0; /* labels belong to the node's policy */
}

bool stamp_is_firm(const struct stat *st)
{
    uint64_t changed = (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec;
    return changed + TICK_NS < clock_ns(CLOCK_REALTIME);
}

/* Whoever opens the file for writing while the lease stands makes the kernel signal us: SIGIO would kill, SIGURG is ignored. */
static bool nobody_writes(int fd)
{
    return fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

static bool chunks_there(const struct content *c, struct store *store)
{
    for (size_t i = 0; i < c->count; i++)
        if (!store_has(store, &c->extents[i].digest))
            return false;
    return true;
}

int content_save(int fd, const struct stat *st, const struct content *previous, struct store *store, struct content *out,
                 uint64_t *new_bytes, struct err *e)
{
    if (!previous || !nobody_writes(fd) || !chunks_there(previous, store))
        return store_put_file(store, fd, (uint64_t)st->st_size, &out->extents, &out->count, new_bytes, e);
    for (size_t i = 0; i < previous->count; i++)
        *(struct extent *)list_add((void **)&out->extents, &out->count, sizeof *out->extents) = previous->extents[i];
    return 0;
}

static bool hostfile_same(const struct hostfile *a, const struct hostfile *b)
{
    return a->ino && a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_s == b->mtime_s &&
           a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns;
}

int hostfile_save(int fd, const char *path, const struct hostfile *previous, struct store *store, struct hostfile *out,
                  uint64_t *new_bytes, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "stat %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, E_UNSUPPORTED, "%s is no regular file", path);
    *out = (struct hostfile){.path = xstrdup(path), .mode = st.st_mode, .uid = st.st_uid, .gid = st.st_gid,
                             .size = (uint64_t)st.st_size, .mtime_s = st.st_mtim.tv_sec, .mtime_ns = (uint64_t)st.st_mtim.tv_nsec,
                             .dev = st.st_dev, .ino = stamp_is_firm(&st) ? st.st_ino : 0, .ctime_s = st.st_ctim.tv_sec,
                             .ctime_ns = (uint64_t)st.st_ctim.tv_nsec};
    struct content old = {0}, now = {0};
    bool same = previous && hostfile_same(out, previous);
    if (same)
        old = (struct content){previous->extents, previous->extents_count};
    int result = content_save(fd, &st, same ? &old : NULL, store, &now, new_bytes, e);
    out->extents = now.extents;
    out->extents_count = now.count;
    if (!result)
        return 0;
    hostfile_free(out);
    return err_wrap(e, "%s", path);
}
