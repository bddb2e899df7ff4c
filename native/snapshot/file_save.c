/* What has a name: regular files, directories, O_PATH descriptors, device nodes without state, files of /proc and /sys,
 * and the run's own log files. Content travels with the captured trees; of a file in the host's part of the root
 * the identity is kept here (size and a hash of its first bytes), and its content as a hostfile. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../store/sha256.h"
#include "files_save.h"

#define PREFIX_BYTES (64ul * 1024)

static int identity_save(struct source *src, struct err *e)
{
    struct file *file = src->file;
    file->size = (uint64_t)src->facts.st.st_size;
    AUTO_CLOSE int fd = source_reopen(src->fd, O_RDONLY, e);
    if (fd < 0)
        return file->outside ? 0 : -1; /* storage of others may deny root: then the size must do */
    file->prefix_len = file->size < PREFIX_BYTES ? file->size : PREFIX_BYTES;
    AUTO_FREE uint8_t *data = xcalloc(1, file->prefix_len + 1);
    if (io_pread_all(fd, data, file->prefix_len, 0, e) < 0)
        return -1;
    sha256_of(data, file->prefix_len, &file->prefix_digest);
    return 0;
}

/* The first description of the same directory; itself if there is none. */
static uint64_t removed_first(const struct saving *v, const struct source *src)
{
    for (const struct source *other = v->sources; other < src; other++)
        if (other->kind == FILE_DIRECTORY && other->facts.st.st_ino == src->facts.st.st_ino && other->facts.st.st_dev == src->facts.st.st_dev)
            return other->file->id;
    return src->file->id;
}

static int removed_save(const struct saving *v, struct source *src)
{
    free(src->file->path);
    src->file->path = facts_path(&src->facts);
    src->file->deleted = 1;
    src->file->at_end = src->facts.offset != 0;
    src->file->ref = removed_first(v, src);
    return 0;
}

/* ---- working directories */
static struct file *removed_of(struct saving *v, const struct stat *st)
{
    for (size_t i = 0; i < v->sources_count; i++)
        if (v->sources[i].kind == FILE_DIRECTORY && v->sources[i].facts.st.st_ino == st->st_ino && v->sources[i].facts.st.st_dev == st->st_dev)
            return v->sources[i].file;
    return NULL;
}

/* A file that no descriptor names: the place for it was left by entries_make. */
static struct file *removed_add(struct saving *v, const struct stat *st, const char *link)
{
    struct facts f = {.st = *st, .link = xstrdup(link)};
    struct image *image = &v->s->image;
    struct file *file = &image->files[image->files_count++];
    *file = (struct file){.id = image->files_count, .kind = FILE_DIRECTORY, .flags = O_RDONLY | O_DIRECTORY, .path = facts_path(&f),
                          .deleted = 1, .ref = image->files_count, .mode = st->st_mode};
    facts_free(&f);
    return file;
}

static int directory_of_task(struct saving *v, size_t victim, struct err *e)
{
    char path[64], link[PATH_BYTES];
    struct stat st;
    struct task *task = &v->s->image.tasks[victim];
    snprintf(path, sizeof path, "/proc/%d/cwd", v->s->victims[victim].pid);
    ssize_t n = task->state == TASK_ZOMBIE ? 0 : readlink(path, link, sizeof link - 1);
    if (n < 0 || (n && stat(path, &st) < 0))
        return err_errno(e, "working directory of process %lu", task->pid);
    if (n == 0 || st.st_nlink)
        return 0;
    link[n] = 0;
    for (size_t i = 0; i < victim; i++) { /* most are where their parent is */
        struct stat other;
        snprintf(path, sizeof path, "/proc/%d/cwd", v->s->victims[i].pid);
        if (v->s->image.tasks[i].cwd_file && stat(path, &other) == 0 && other.st_ino == st.st_ino && other.st_dev == st.st_dev)
            task->cwd_file = v->s->image.tasks[i].cwd_file;
    }
    const struct file *file = task->cwd_file ? NULL : removed_of(v, &st);
    task->cwd_file = task->cwd_file ? task->cwd_file : file ? file->ref : removed_add(v, &st, link)->id;
    return 0;
}

int directories_save(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->s->victim_count; i++)
        if (directory_of_task(v, i, e) < 0)
            return -1;
    return 0;
}

/* The cut of the logs: what was written before it belongs to this generation. */
static void log_mark(struct saving *v, const struct source *src)
{
    uint64_t *mark = src->kind == FILE_STDOUT ? &v->s->image.pod.stdout_bytes : &v->s->image.pod.stderr_bytes;
    *mark = (uint64_t)src->facts.st.st_size;
}

static int other_name_save(struct saving *v, struct source *src, struct err *e)
{
    char *other = view_find_name(&v->view, &src->facts.st);
    if (!other)
        return source_refuse(v, src, e, "file whose name is gone while it has others: %s", src->facts.link);
    free(src->file->path);
    src->file->path = other;
    return 0;
}

/* Opened anew where it was: what is mounted below a directory, and whether it may be written, is that mount's. */
static void place_save(struct source *src)
{
    src->file->mount_space = src->facts.space;
    if (src->facts.space) {
        free(src->file->place);
        src->file->place = xstrdup(src->facts.place);
    }
}

int file_save(struct saving *v, struct source *src, struct err *e)
{
    free(src->file->path);
    src->file->path = xstrdup(src->facts.link);
    if (src->kind == FILE_REGULAR || src->kind == FILE_DIRECTORY || src->kind == FILE_PATH_ONLY)
        place_save(src);
    if (src->kind == FILE_REGULAR && !view_path_is(&v->view, src->facts.link, &src->facts.st))
        return other_name_save(v, src, e);
    if (src->kind == FILE_STDOUT || src->kind == FILE_STDERR)
        log_mark(v, src);
    if (src->kind == FILE_DIRECTORY && src->facts.st.st_nlink == 0)
        return removed_save(v, src);
    if (src->kind == FILE_DIRECTORY && src->facts.offset && !(src->facts.flags & O_PATH))
        return directory_place_save(v, src, e);
    if (src->kind != FILE_REGULAR)
        return 0;
    src->file->host_part = view_in_host_part(&v->view, &src->facts);
    src->file->outside = view_is_outside(&src->facts);
    return src->file->host_part || src->file->outside ? identity_save(src, e) : 0;
}
