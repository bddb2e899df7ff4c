/* Directories that were removed while processes had them open or worked in them: empty for ever. One is made for each inode; descriptors and
 * working directories share it. Directories that were half read: their names get the order that they had, and the descriptor its place. Mirrors
 * snapshot/file_save.c and snapshot/directory_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../kernel/dirents.h"
#include "nameless.h"

static int directory_make(int above, const char *name, const void *ctx)
{
    const struct file *f = ctx;
    if (mkdirat(above, name, 0700) < 0)
        return -1;
    int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchmod(fd, (mode_t)(f->mode & 01777)) == 0)
        return fd;
    cleanup_close(&fd);
    CHECK(unlinkat(above, name, AT_REMOVEDIR) == 0);
    return -1;
}

/* An own description; of a directory that forbids reading only its owner's rights matter, and those it had. */
static int again(int fd, uint64_t flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (flags & O_PATH ? O_PATH : O_RDONLY) | O_DIRECTORY | O_CLOEXEC);
}

int removed_directory_open(struct restore *r, const struct file *f, struct err *e)
{
    size_t first;
    if (f->ref == f->id) {
        AUTO_CLOSE int made = nameless_make(r, 0, f->path, AT_REMOVEDIR, directory_make, f, e);
        int fd = made < 0 ? -1 : again(made, f->flags);
        return made < 0 || fd >= 0 ? fd : err_errno(e, "removed directory %s", f->path);
    }
    if (file_index(r, f->ref, &first, e) < 0)
        return -1;
    if (r->file_fds[first] < 0 || r->image->files[first].kind != FILE_DIRECTORY)
        return err_set(e, E_BAD_IMAGE, "removed directory %s has no first description", f->path);
    int fd = again(r->file_fds[first], f->flags);
    return fd < 0 ? err_errno(e, "removed directory %s", f->path) : fd;
}

/* ---- half read */
static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* From the name number `from` on. */
static bool order_is(const struct dirents *now, const struct file *f, size_t from)
{
    if (now->count != f->names_count - from)
        return false;
    for (size_t i = 0; i < now->count; i++)
        if (strcmp(now->items[i].name, f->names[from + i].name))
            return false;
    return true;
}

/* tmpfs tells the name first that was made last, and a name that comes by rename(2) is a new one. */
static int order_make(int fd, const struct file *f, struct err *e)
{
    static const char aside[] = DIRENT_ASIDE;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "stat");
    for (size_t i = f->names_count; i-- > 0;) {
        const char *name = f->names[i].name;
        if (is_dots(name))
            continue;
        if (renameat2(fd, name, fd, aside, RENAME_NOREPLACE) < 0 || renameat2(fd, aside, fd, name, RENAME_NOREPLACE) < 0)
            return err_errno(e, "give the name %s its place", name);
    }
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    return futimens(fd, times) < 0 ? err_errno(e, "times") : 0;
}

static int order_set(int fd, const struct file *f, struct dirents *now, struct err *e)
{
    if (order_is(now, f, 0))
        return 0;
    dirents_free(now);
    if (order_make(fd, f, e) < 0 || dirents_read(fd, 0, now, e) < 0)
        return -1;
    return order_is(now, f, 0) ? 0 : err_set(e, E_CONFLICT, "its names do not come in the order in which they were told");
}

static int place_set(int fd, const struct file *f, int64_t place, struct err *e)
{
    struct dirents left = {0};
    if (dirents_read(fd, place, &left, e) < 0)
        return -1;
    bool good = order_is(&left, f, f->told);
    dirents_free(&left);
    if (!good)
        return err_set(e, E_CONFLICT, "other names are left than were left to be told");
    return lseek(fd, place, SEEK_SET) < 0 ? err_errno(e, "position") : 0;
}

static int half_load(int fd, const struct file *f, struct err *e)
{
    struct statfs fs;
    struct dirents now = {0};
    if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        return err_set(e, E_BAD_IMAGE, "half read, and not on a file system of the pod");
    int result = dirents_read(fd, 0, &now, e);
    if (result == 0)
        result = order_set(fd, f, &now, e);
    if (result == 0)
        result = place_set(fd, f, now.items[f->told - 1].next, e);
    dirents_free(&now);
    return result;
}

int directories_load_half(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->files_count; i++) {
        const struct file *f = &r->image->files[i];
        if (!f->names_count || r->file_fds[i] < 0)
            continue;
        owner_rights_begin(r);
        int result = half_load(r->file_fds[i], f, e);
        owner_rights_end(r);
        if (result < 0)
            return err_wrap(e, "directory %s", f->path);
    }
    return 0;
}
