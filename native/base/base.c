/* Memory, cleanup, buffers, whole reads and writes, clocks. See base.h. */
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLURP_BYTES 8192ul

void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

void cleanup_free(void *p)
{
    void *pointer;
    memcpy(&pointer, p, sizeof pointer);
    free(pointer);
}

void cleanup_file(FILE **f)
{
    if (*f)
        fclose(*f);
}

void cleanup_dir(void *d)
{
    DIR *dir;
    memcpy(&dir, d, sizeof dir);
    if (dir)
        closedir(dir);
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    CHECK(p);
    return p;
}

void *xrealloc(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count ? count : 1, size ? size : 1);
    CHECK(q);
    return q;
}

char *xstrdup(const char *s)
{
    char *copy = strdup(s);
    CHECK(copy);
    return copy;
}

char *xasprintf(const char *format, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&out, format, args);
    va_end(args);
    CHECK(n >= 0);
    return out;
}

static void buf_reserve(struct buf *b, size_t more)
{
    CHECK(more < SIZE_MAX - b->len - 1);
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    b->data = xrealloc(b->data, cap, 1);
    b->cap = cap;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    buf_reserve(b, len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buf_addf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    CHECK(n >= 0);
    buf_add(b, text, (size_t)n);
    free(text);
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

int io_read_all(int fd, void *data, size_t len, struct err *e)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = read(fd, (char *)data + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "read");
        if (n == 0)
            return err_set(e, E_IO, "read: the end came after %zu of %zu bytes", at, len);
        at += (size_t)n;
    }
    return 0;
}

int io_write_all(int fd, const void *data, size_t len, struct err *e)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)data + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "write");
        if (n == 0)
            return err_set(e, E_IO, "write: nothing is taken after %zu of %zu bytes", at, len);
        at += (size_t)n;
    }
    return 0;
}

int io_pread_all(int fd, void *data, size_t len, uint64_t offset, struct err *e)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(fd, (char *)data + at, len - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "read at %lu", offset + at);
        if (n == 0)
            return err_set(e, E_IO, "read at %lu: the end came after %zu of %zu bytes", offset, at, len);
        at += (size_t)n;
    }
    return 0;
}

int io_pwrite_all(int fd, const void *data, size_t len, uint64_t offset, struct err *e)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pwrite(fd, (const char *)data + at, len - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "write at %lu", offset + at);
        if (n == 0) /* the memory of a process that has ended */
            return err_set(e, E_IO, "write at %lu: nothing is taken there", offset + at);
        at += (size_t)n;
    }
    return 0;
}

int io_slurp(int dirfd, const char *path, struct buf *out, size_t max, struct err *e)
{
    AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open %s", path);
    for (;;) {
        size_t room = out->len < SLURP_BYTES ? SLURP_BYTES : out->len; /* procfs gives a page at a time, files more and more */
        buf_reserve(out, room);
        ssize_t n = read(fd, out->data + out->len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "read %s", path);
        out->len += (size_t)n;
        out->data[out->len] = 0;
        if (n == 0)
            return 0;
        if (out->len > max)
            return err_set(e, E_IO, "%s is longer than %zu bytes", path, max);
    }
}

int io_slurpf(struct buf *out, size_t max, struct err *e, const char *format, ...)
{
    char path[PATH_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    return io_slurp(AT_FDCWD, path, out, max, e);
}

int io_put(int dirfd, const char *path, const void *data, size_t len, struct err *e)
{
    AUTO_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open %s", path);
    ssize_t n = write(fd, data, len); /* one write: procfs and cgroupfs want the whole text at once */
    if (n < 0)
        return err_errno(e, "write %s", path);
    return (size_t)n == len ? 0 : err_set(e, E_IO, "write %s: %zd of %zu bytes", path, n, len);
}

int io_putf(struct err *e, const char *path, const char *format, ...)
{
    AUTO_BUF struct buf text = {0};
    va_list args;
    va_start(args, format);
    char line[8192];
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(n >= 0 && (size_t)n < sizeof line);
    return io_put(AT_FDCWD, path, line, (size_t)n, e);
}

static int replace_in(int dirfd, const char *name, const char *temporary, const void *data, size_t len,
                      mode_t mode, bool durable, struct err *e)
{
    AUTO_CLOSE int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, "create %s", temporary);
    if (io_write_all(fd, data, len, e) < 0)
        return err_wrap(e, "%s", temporary);
    if (durable && fsync(fd) < 0)
        return err_errno(e, "fsync %s", temporary);
    if (renameat(dirfd, temporary, dirfd, name) < 0)
        return err_errno(e, "rename %s", name);
    return 0;
}

static int replaced(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool durable, struct err *e)
{
    AUTO_FREE char *temporary = xasprintf("%s.%d.tmp", name, (int)getpid());
    if (replace_in(dirfd, name, temporary, data, len, mode, durable, e) == 0)
        return 0;
    unlinkat(dirfd, temporary, 0);
    return -1;
}

int io_replace_soon(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
    return replaced(dirfd, name, data, len, mode, false, e);
}

int io_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
    if (replaced(dirfd, name, data, len, mode, true, e) < 0)
        return -1;
    AUTO_FREE char *parent = xstrdup(name);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = 0;
    AUTO_CLOSE int dir = openat(dirfd, slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_errno(e, "fsync the directory of %s", name);
    return 0;
}

int io_chown(int dirfd, const char *name, uint64_t uid, uint64_t gid, int flags)
{
    const uint64_t ids[][2] = {{uid, UINT32_MAX}, {UINT32_MAX, gid}};
    if (fchownat(dirfd, name, (uid_t)uid, (gid_t)gid, flags) == 0)
        return 0;
    for (size_t k = 0; errno == EINVAL && k < ARRAY_LENGTH(ids); k++)
        if (fchownat(dirfd, name, (uid_t)ids[k][0], (gid_t)ids[k][1], flags) < 0 && errno != EINVAL)
            return -1;
    return errno == EINVAL ? 0 : -1;
}

int io_mkdirs(const char *path, mode_t mode, struct err *e)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *at = copy + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = 0;
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_errno(e, "mkdir %s", copy);
        *at = '/';
    }
    if (mkdir(copy, mode) < 0 && errno != EEXIST)
        return err_errno(e, "mkdir %s", copy);
    return 0;
}

uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
