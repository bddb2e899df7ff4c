/* Directories whose names were partly told. A place in the middle means an order of names. In the pod's own tmpfs that is the order in which they
 * were made, last first, so that a restore can make it anew: the names are kept, and how many were told. Elsewhere the order is the file
 * system's (a hash, a cookie), and another one would tell other names twice, or never: such a directory is waited for. Mirrored by
 * restore/directory_load.c. */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <unistd.h>

#include "../kernel/dirents.h"
#include "files_save.h"

#define NAMES_MAX 100000u
#define OWNER_MAY 0300

/* The pod's user could give its names another order: it owns the directory and may write there. */
static bool can_be_ordered(const struct saving *v, const struct source *src)
{
    const struct stat *st = &src->facts.st;
    return src->facts.fs_type == TMPFS_MAGIC && !view_is_outside(&src->facts) && st->st_uid == v->s->pod->facts.uid && (st->st_mode & OWNER_MAY) == OWNER_MAY;
}

static bool has_name(const struct dirents *d, const char *name)
{
    for (size_t i = 0; i < d->count; i++)
        if (!strcmp(d->items[i].name, name))
            return true;
    return false;
}

static bool is_tail(const struct dirents *whole, const struct dirents *tail)
{
    size_t told = whole->count - tail->count;
    for (size_t i = 0; tail->count <= whole->count && i < tail->count; i++)
        if (strcmp(whole->items[told + i].name, tail->items[i].name))
            return false;
    return tail->count < whole->count;
}

static void names_keep(struct file *file, const struct dirents *whole, size_t left)
{
    for (size_t i = 0; i < whole->count; i++)
        LIST_ADD(file, names)->name = xstrdup(whole->items[i].name);
    file->told = whole->count - left;
}

static int half_save(struct saving *v, struct source *src, int fd, const struct dirents *left, struct err *e)
{
    struct dirents whole = {0};
    if (dirents_read(fd, 0, &whole, e) < 0)
        return -1;
    bool good = can_be_ordered(v, src) && is_tail(&whole, left) && whole.count <= NAMES_MAX && !has_name(&whole, DIRENT_ASIDE);
    if (good)
        names_keep(src->file, &whole, left->count);
    dirents_free(&whole);
    return good ? 0 : source_busy(v, src, e, "a directory that is half read: %s", src->facts.link);
}

int directory_place_save(struct saving *v, struct source *src, struct err *e)
{
    struct dirents left = {0};
    AUTO_CLOSE int fd = source_reopen(src->fd, O_RDONLY | O_DIRECTORY, e);
    if (fd < 0 || dirents_read(fd, (int64_t)src->facts.offset, &left, e) < 0)
        return err_wrap(e, "directory %s", src->facts.link);
    src->file->at_end = left.count == 0;
    int result = left.count ? half_save(v, src, fd, &left, e) : 0;
    dirents_free(&left);
    return result;
}
