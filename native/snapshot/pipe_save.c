/* Pipes and FIFOs: one struct pipe per inode with the bytes inside, any number of descriptions of its ends. The bytes are
 * copied by tee(2), which takes nothing out. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "files_save.h"

static uint64_t access_of(const struct source *src)
{
    return src->facts.flags & O_ACCMODE;
}

/* The first description of the same pipe; it carries the content. */
static struct source *pipe_first(struct saving *v, const struct source *src)
{
    for (struct source *other = v->sources; other < src; other++)
        if (other->kind == src->kind && other->facts.st.st_ino == src->facts.st.st_ino &&
            other->facts.st.st_dev == src->facts.st.st_dev)
            return other;
    return NULL;
}

/* Does anybody write packets now? Then a single one is one too. */
static bool is_packet(const struct saving *v, const struct source *src)
{
    for (size_t i = 0; i < v->sources_count; i++) {
        const struct source *other = &v->sources[i];
        if (other->kind == src->kind && other->facts.st.st_ino == src->facts.st.st_ino && other->facts.flags & O_DIRECT)
            return true;
    }
    return false;
}

/* A read ends behind a packet, whatever the pipe's flags say by now: if one read gives all, there are none. Else each stretch is kept with its
 * length in front. */
static int content_read(int fd, size_t total, uint64_t *packet, struct buf *out, struct err *e)
{
    AUTO_FREE uint8_t *data = xcalloc(1, total);
    for (size_t got = 0; got < total;) {
        ssize_t n = read(fd, data, total);
        if (n <= 0)
            return err_errno(e, "content of a pipe");
        uint32_t len = (uint32_t)n;
        *packet |= len < total;
        if (*packet)
            buf_add(out, &len, sizeof len);
        buf_add(out, data, len);
        got += len;
    }
    return 0;
}

static int content_copy(int reader, size_t total, int capacity, uint64_t *packet, struct buf *out, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, "a pipe to copy into");
    AUTO_CLOSE int to_read = ends[0];
    AUTO_CLOSE int to_write = ends[1];
    if (fcntl(to_write, F_SETPIPE_SZ, capacity) < 0)
        return err_errno(e, "a pipe of %d bytes to copy into", capacity);
    ssize_t n = tee(reader, to_write, (size_t)capacity, SPLICE_F_NONBLOCK);
    if (n < 0 || (size_t)n != total)
        return err_set(e, E_OS, "copied %zd of %zu bytes in the pipe", n, total);
    return content_read(to_read, total, packet, out, e);
}

static int content_save(struct source *src, struct pipe *p, struct err *e)
{
    int total = 0, capacity = fcntl(src->fd, F_GETPIPE_SZ);
    if (capacity < 0 || ioctl(src->fd, FIONREAD, &total) < 0)
        return err_errno(e, "state of a pipe");
    p->capacity = (uint64_t)capacity;
    if (total == 0)
        return 0;
    AUTO_CLOSE int reopened = access_of(src) == O_WRONLY ? source_reopen(src->fd, O_RDONLY | O_NONBLOCK, e) : -1;
    int reader = access_of(src) == O_WRONLY ? reopened : src->fd;
    AUTO_BUF struct buf data = {0};
    if (reader < 0 || content_copy(reader, (size_t)total, capacity, &p->packet, &data, e) < 0)
        return -1;
    bytes_set(&p->data, data.data, data.len);
    return 0;
}

int pipe_save(struct saving *v, struct source *src, struct err *e)
{
    const struct source *first = pipe_first(v, src);
    if (first) {
        src->file->ref = first->file->ref;
        return 0;
    }
    struct pipe *p = LIST_ADD(&v->s->image, pipes);
    p->id = src->file->ref = v->s->image.pipes_count;
    p->path = src->kind == FILE_FIFO ? facts_path(&src->facts) : xstrdup("");
    p->unlinked = src->kind == FILE_FIFO && src->facts.st.st_nlink == 0;
    p->mount_space = src->kind == FILE_FIFO && src->facts.own ? src->facts.space : 0;
    p->packet = is_packet(v, src);
    return content_save(src, p, e);
}

/* An end that nobody in the pod holds must be held by nobody: else the other side is outside of the pod. */
static int ends_check(const struct saving *v, const struct source *src, bool has_reader, bool has_writer, struct err *e)
{
    struct pollfd state = {.fd = src->fd, .events = 0};
    if (poll(&state, 1, 0) < 0)
        return err_errno(e, "state of a pipe");
    if (!has_reader && access_of(src) == O_WRONLY && !(state.revents & POLLERR))
        return source_refuse(v, src, e, "a pipe whose reader is outside of the pod");
    if (!has_writer && access_of(src) == O_RDONLY && !(state.revents & POLLHUP) && src->kind == FILE_PIPE)
        return source_refuse(v, src, e, "a pipe whose writer is outside of the pod");
    return 0;
}

int pipes_finish(struct saving *v, struct err *e)
{
    AUTO_FREE bool *ends = xcalloc(2 * (v->s->image.pipes_count + 1), sizeof *ends);
    for (size_t i = 0; i < v->sources_count; i++) {
        const struct source *src = &v->sources[i];
        if (src->kind != FILE_PIPE && src->kind != FILE_FIFO)
            continue;
        ends[2 * src->file->ref] |= access_of(src) != O_WRONLY;
        ends[2 * src->file->ref + 1] |= access_of(src) != O_RDONLY;
    }
    for (size_t i = 0; i < v->sources_count; i++) {
        const struct source *src = &v->sources[i];
        if ((src->kind == FILE_PIPE || src->kind == FILE_FIFO) &&
            ends_check(v, src, ends[2 * src->file->ref], ends[2 * src->file->ref + 1], e) < 0)
            return -1;
    }
    return 0;
}
