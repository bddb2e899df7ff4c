/* See outside_cut.h. */
#include "outside_cut.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "files_load.h"

#define MARKS_BEGIN (1l << 62)
#define COPY_BYTES (1ul << 20)
#define TAIL_TRIES 100

/* In memory that podinit and the tracer see. */
struct outside_cut {
    size_t file;             /* index in the image */
    int fd;                  /* podinit's, for reading; it holds the mark; -1: nothing to do */
    uint64_t seen_bytes;     /* how long it had become */
    char tail[PATH_BYTES];   /* where what was added is kept now; empty: it was not cut */
    char why[ERR_MESSAGE_MAX];
};

bool outside_is_cut(const struct image *image, const struct file *f)
{
    uint64_t access = f->flags & O_ACCMODE;
    for (size_t k = 0; k < image->locks_count; k++)
        for (size_t i = 0; i < image->files_count; i++)
            if (image->files[i].id == image->locks[k].file && strcmp(image->files[i].path, f->path) == 0)
                return false;
    return f->outside && f->kind == FILE_REGULAR && !(f->flags & O_PATH) && access != O_RDONLY && f->size < MARKS_BEGIN;
}

void outside_cuts_choose(struct restore *r)
{
    size_t count = 0;
    for (size_t k = 0; k < r->image->files_count; k++)
        count += outside_is_cut(r->image, &r->image->files[k]);
    if (!count)
        return;
    r->cuts = mmap(NULL, count * sizeof *r->cuts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(r->cuts != MAP_FAILED);
    for (size_t k = 0; k < r->image->files_count; k++)
        if (outside_is_cut(r->image, &r->image->files[k]))
            r->cuts[r->cuts_count++] = (struct outside_cut){.file = k, .fd = -1};
}

/* ---- before `ready` */
static bool mark_set(int fd, uint64_t size)
{
    struct flock mark = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = MARKS_BEGIN + (off_t)size, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &mark) == 0;
}

static bool is_marked_behind(int fd, uint64_t size)
{
    struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = MARKS_BEGIN + (off_t)size + 1};
    return fcntl(fd, F_OFD_GETLK, &mark) < 0 || mark.l_type != F_UNLCK;
}

static bool is_earlier(const struct restore *r, const struct outside_cut *c)
{
    for (const struct outside_cut *before = r->cuts; before < c; before++)
        if (before->fd >= 0 && strcmp(r->image->files[before->file].path, r->image->files[c->file].path) == 0)
            return true;
    return false;
}

static void mark(const struct restore *r, struct outside_cut *c)
{
    const struct file *f = &r->image->files[c->file];
    struct stat st;
    struct err refused;
    if (is_earlier(r, c))
        return;
    owner_rights_begin(r);
    int low = file_reopen(r->file_fds[c->file], O_RDONLY, &refused);
    owner_rights_end(r);
    int fd = low < 0 ? -1 : high_place(r, low, &refused);
    bool grown = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > f->size && outside_prefix_is(fd, f);
    if (grown && mark_set(fd, f->size)) {
        c->fd = fd;
        c->seen_bytes = (uint64_t)st.st_size;
        return;
    }
    if (fd < 0 || grown)
        snprintf(c->why, sizeof c->why, "%s", fd < 0 ? "it cannot be read" : "its storage has no locks");
    if (fd >= 0)
        close(fd);
}

void outside_cuts_mark(const struct restore *r)
{
    for (size_t k = 0; k < r->cuts_count; k++)
        mark(r, &r->cuts[k]);
}

/* ---- on `go` */

/* Before the file is cut its tail has to be durable, its name too. */
static int name_keep(int above)
{
    AUTO_CLOSE int dir = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : fsync(dir);
}

static int tail_create(const struct file *f, char path[PATH_BYTES], mode_t mode, struct err *e)
{
    const char *name;
    char stamp[32];
    time_t now = time(NULL);
    struct tm parts;
    CHECK(strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", gmtime_r(&now, &parts)));
    for (int tries = 0; tries < TAIL_TRIES; tries++) {
        if ((size_t)snprintf(path, PATH_BYTES, "%s.tail-%s-%d", f->path, stamp, tries) >= PATH_BYTES)
            break;
        AUTO_CLOSE int above = inside_parent(path, &name);
        int fd = above < 0 ? -1 : openat(above, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0 || name_keep(above) == 0)
            return fd < 0 ? err_errno(e, "make %s", path) : fd;
        err_errno(e, "keep the name %s", path);
        unlinkat(above, name, 0);
        close(fd);
        return -1;
    }
    return err_set(e, E_CONFLICT, "there is no free name beside it");
}

static int tail_copy(int from, int to, uint64_t at, uint64_t end, struct err *e)
{
    AUTO_FREE uint8_t *data = xcalloc(1, COPY_BYTES);
    for (uint64_t len; at < end; at += len) {
        len = end - at < COPY_BYTES ? end - at : COPY_BYTES;
        if (io_pread_all(from, data, len, at, e) < 0 || io_write_all(to, data, len, e) < 0)
            return -1;
    }
    return fsync(to) < 0 ? err_errno(e, "what was added") : 0;
}

/* Half of it beside a file that was not cut would only mislead. */
static void tail_forget(const char *path)
{
    const char *name;
    AUTO_CLOSE int above = inside_parent(path, &name);
    if (above >= 0)
        unlinkat(above, name, 0);
}

static int tail_keep(const struct restore *r, struct outside_cut *c, struct err *e)
{
    const struct file *f = &r->image->files[c->file];
    char path[PATH_BYTES];
    struct stat st;
    if (fstat(c->fd, &st) < 0 || (uint64_t)st.st_size != c->seen_bytes || is_marked_behind(c->fd, f->size))
        return err_set(e, E_CONFLICT, "another pod had more of it");
    owner_rights_begin(r);
    int fd = tail_create(f, path, st.st_mode, e);
    owner_rights_end(r);
    int result = fd < 0 ? -1 : tail_copy(c->fd, fd, f->size, c->seen_bytes, e);
    if (fd >= 0)
        close(fd);
    if (result == 0 && ftruncate(r->file_fds[c->file], (off_t)f->size) < 0)
        result = err_errno(e, "cut it");
    if (result == 0)
        memcpy(c->tail, path, sizeof path);
    else if (fd >= 0)
        tail_forget(path);
    return result;
}

void outside_cuts_make(const struct restore *r)
{
    for (size_t k = 0; k < r->cuts_count; k++) {
        struct outside_cut *c = &r->cuts[k];
        struct err e;
        if (c->fd < 0)
            continue;
        if (tail_keep(r, c, &e) < 0)
            snprintf(c->why, sizeof c->why, "%s", e.message);
        close(c->fd);
    }
}

void outside_cuts_tell(const struct restore *r)
{
    for (size_t k = 0; k < r->cuts_count; k++) {
        const struct outside_cut *c = &r->cuts[k];
        const struct file *f = &r->image->files[c->file];
        if (!c->tail[0] && !c->why[0])
            continue;
        AUTO_FREE char *words = c->tail[0] ? xasprintf("the open file %s had grown and was cut back to %lu bytes; what was added is in %s", f->path, f->size, c->tail)
                                           : xasprintf("the open file %s, which no image carries, has grown since the snapshot and stays so: %s", f->path, c->why);
        AUTO_FREE char *quoted = json_quote(words);
        output_event("warn", "\"message\":%s", quoted);
    }
}
