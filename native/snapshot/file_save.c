/* What has a name: regular files, directories, O_PATH descriptors, device nodes without state, files of /proc and /sys,
 * and the run's own log files. Content travels with the captured trees; of a file in the host's part of the root
 * the identity is kept here (size and a hash of its first bytes), and its content as a hostfile. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../store/sha256.h"
#include "files_save.h"

#define PREFIX_BYTES (64ul * 1024)

static int identity_save(struct source *src, struct err *e)
{
    AUTO_CLOSE int fd = source_reopen(src->fd, O_RDONLY, e);
    if (fd < 0)
        return -1;
    struct file *file = src->file;
    file->size = (uint64_t)src->facts.st.st_size;
    file->prefix_len = file->size < PREFIX_BYTES ? file->size : PREFIX_BYTES;
    AUTO_FREE uint8_t *data = xcalloc(1, file->prefix_len + 1);
    if (io_pread_all(fd, data, file->prefix_len, 0, e) < 0)
        return -1;
    sha256_of(data, file->prefix_len, &file->prefix_digest);
    file->host_part = 1;
    return 0;
}

/* A place in the middle of a directory means nothing in another one with the same names: only the beginning and the end do. */
static int position_save(struct saving *v, struct source *src, struct err *e)
{
    _Alignas(8) char names[4096];
    AUTO_CLOSE int fd = source_reopen(src->fd, O_RDONLY | O_DIRECTORY, e);
    if (fd < 0)
        return -1;
    if (lseek(fd, (off_t)src->facts.offset, SEEK_SET) < 0)
        return err_errno(e, "position in directory %s", src->facts.link);
    long n = syscall(SYS_getdents64, fd, names, sizeof names);
    if (n < 0)
        return err_errno(e, "names in directory %s", src->facts.link);
    src->file->at_end = n == 0;
    return n == 0 ? 0 : source_busy(v, src, e, "a directory that is half read: %s", src->facts.link);
}

/* The cut of the logs: what was written before it belongs to this generation. */
static void log_mark(struct saving *v, const struct source *src)
{
    uint64_t *mark = src->kind == FILE_STDOUT ? &v->s->image.pod.stdout_bytes : &v->s->image.pod.stderr_bytes;
    *mark = (uint64_t)src->facts.st.st_size;
}

int file_save(struct saving *v, struct source *src, struct err *e)
{
    free(src->file->path);
    src->file->path = xstrdup(src->facts.link);
    if (src->kind == FILE_STDOUT || src->kind == FILE_STDERR)
        log_mark(v, src);
    if (src->kind == FILE_DIRECTORY && src->facts.offset && !(src->facts.flags & O_PATH))
        return position_save(v, src, e);
    if (src->kind == FILE_REGULAR && view_in_host_part(&v->view, &src->facts))
        return identity_save(src, e);
    return 0;
}
