/* Directories that were removed while processes had them open or worked in them: empty for ever. One is made for each inode; descriptors and
 * working directories share it. Mirrors snapshot/file_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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
        AUTO_CLOSE int made = nameless_make(r, f->path, AT_REMOVEDIR, directory_make, f, e);
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
