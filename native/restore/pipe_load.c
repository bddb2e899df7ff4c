/* Pipes and FIFOs: made with both ends, filled, then one description per file of the image; ends that nobody had are closed again.
 * Mirrors snapshot/pipe_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "nameless.h"
#include "spaces.h"

#define CAPACITY_MAX (1ul << 30)
#define PIPE_BYTES 65536ul /* of a new pipe */

struct ends {
    int reader, writer;      /* or -1 */
    bool reader_taken, writer_taken; /* as a description of the image */
};

static int packets_write(int fd, const struct bytes *data, struct err *e)
{
    for (size_t at = 0; at < data->len;) {
        uint32_t len;
        if (data->len - at < sizeof len)
            return err_set(e, E_BAD_IMAGE, "packets of a pipe end in the middle");
        memcpy(&len, data->data + at, sizeof len);
        at += sizeof len;
        if (len > data->len - at)
            return err_set(e, E_BAD_IMAGE, "packets of a pipe end in the middle");
        if (write(fd, data->data + at, len) != (ssize_t)len)
            return err_errno(e, "packet of %u bytes into a pipe", len);
        at += len;
    }
    return 0;
}

/* What an ordinary process may ask for; podinit could ask for more. */
static uint64_t capacity_allowed(void)
{
    AUTO_BUF struct buf text = {0};
    struct err ignored;
    return io_slurpf(&text, 64, &ignored, "/proc/sys/fs/pipe-max-size") < 0 ? PIPE_BYTES : strtoul((char *)text.data, NULL, 10);
}

static int pipe_fill(int writer, const struct pipe *p, struct err *e)
{
    if (p->capacity > CAPACITY_MAX || p->data.len > p->capacity + p->capacity)
        return err_set(e, E_BAD_IMAGE, "a pipe of %lu bytes", p->capacity);
    if (p->capacity > capacity_allowed() && p->capacity > PIPE_BYTES)
        return err_set(e, E_UNSUPPORTED, "a pipe of %lu bytes: this node allows %lu (fs.pipe-max-size)", p->capacity, capacity_allowed());
    if (fcntl(writer, F_SETPIPE_SZ, (int)p->capacity) < 0)
        return err_errno(e, "a pipe of %lu bytes", p->capacity);
    if (p->packet && fcntl(writer, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
        return err_errno(e, "a pipe of packets");
    if (p->packet)
        return packets_write(writer, &p->data, e);
    if (p->data.len && write(writer, p->data.data, p->data.len) != (ssize_t)p->data.len)
        return err_errno(e, "%zu bytes into a pipe", p->data.len);
    return 0;
}

static int fifo_make(int above, const char *name, const void *ctx)
{
    (void)ctx;
    if (mkfifoat(above, name, 0600) < 0)
        return -1;
    int fd = openat(above, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : (unlinkat(above, name, 0), -1);
}

/* A FIFO is opened for both first: that never waits. */
static int fifo_open(const struct restore *r, const struct pipe *p, struct ends *out, struct err *e)
{
    struct stat st;
    if (p->unlinked)
        return (out->writer = nameless_make(r, p->mount_space, p->path, 0, fifo_make, NULL, e)) < 0 ? -1 : 0;
    if (space_enter(r, p->mount_space, e) < 0)
        return -1;
    owner_rights_begin(r);
    out->writer = inside_open(p->path, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0);
    owner_rights_end(r);
    space_leave(r, p->mount_space);
    if (out->writer < 0 || fstat(out->writer, &st) < 0)
        return err_errno(e, "FIFO %s", p->path);
    return S_ISFIFO(st.st_mode) ? 0 : err_set(e, E_UNSUPPORTED, "%s is no FIFO any more", p->path);
}

static int pipe_make(const struct restore *r, const struct pipe *p, struct ends *out, struct err *e)
{
    int fds[2];
    *out = (struct ends){.reader = -1, .writer = -1};
    if (p->path[0]) {
        if (fifo_open(r, p, out, e) < 0)
            return -1;
    } else {
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK | (p->packet ? O_DIRECT : 0)) < 0)
            return err_errno(e, "a pipe");
        *out = (struct ends){.reader = fds[0], .writer = fds[1]};
    }
    if ((out->reader >= 0 && (out->reader = high_place(r, out->reader, e)) < 0) || (out->writer = high_place(r, out->writer, e)) < 0)
        return -1;
    return pipe_fill(out->writer, p, e);
}

/* The first description of an end is the one that pipe2 made; others are opened anew. */
static int end_open(const struct file *f, const struct pipe *p, struct ends *ends, struct err *e)
{
    uint64_t access = f->flags & O_ACCMODE;
    bool *taken = access == O_RDONLY ? &ends->reader_taken : &ends->writer_taken;
    if (p->path[0] || access == O_RDWR || *taken)
        return file_reopen(ends->writer, f->flags | O_NONBLOCK, e);
    *taken = true;
    int fd = fcntl(access == O_RDONLY ? ends->reader : ends->writer, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? err_errno(e, "end of a pipe") : fd;
}

static int end_take(struct restore *r, size_t index, const struct pipe *p, struct ends *ends, struct err *e)
{
    int fd = end_open(&r->image->files[index], p, ends, e);
    return fd < 0 || file_place(r, index, fd, e) < 0 ? -1 : file_flags_set(r, index, e);
}

static int pipe_load(struct restore *r, const struct pipe *p, struct err *e)
{
    struct ends ends;
    int result = pipe_make(r, p, &ends, e);
    for (size_t i = 0; i < r->image->files_count && result == 0; i++) {
        const struct file *f = &r->image->files[i];
        if ((f->kind == FILE_PIPE || f->kind == FILE_FIFO) && f->ref == p->id && (f->kind == FILE_FIFO) == (p->path[0] != 0))
            result = end_take(r, i, p, &ends, e);
    }
    cleanup_close(&ends.reader);
    cleanup_close(&ends.writer);
    return result;
}

int pipes_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->pipes_count; i++)
        if (pipe_load(r, &r->image->pipes[i], e) < 0)
            return err_wrap(e, "pipe %lu", r->image->pipes[i].id);
    return 0;
}
