/* Memory that several processes may share and that has no path: shared anonymous mappings, memfds, unlinked files. One
 * memobj per inode, its content saved once, holes kept. Mappings and descriptors refer to it by its id. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files_save.h"
#include "spaces.h"

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif

bool memobj_is_saved(const struct snapshot *s, dev_t dev, ino_t ino, uint64_t *id)
{
    for (size_t i = 0; i < s->image.memobjs_count; i++)
        if (s->image.memobjs[i].dev == dev && s->image.memobjs[i].ino == ino) {
            *id = s->image.memobjs[i].id;
            return true;
        }
    return false;
}

/* "/memfd:name (deleted)" -> "name", "/tmp/x (deleted)" -> "/tmp/x" */
static char *memobj_name(uint64_t kind, const char *link)
{
    static const char deleted[] = " (deleted)", memfd[] = "/memfd:";
    if (kind == MEMOBJ_MEMFD && !strncmp(link, memfd, strlen(memfd)))
        link += strlen(memfd);
    char *name = xstrdup(link);
    size_t len = strlen(name), tail = strlen(deleted);
    if (len >= tail && !strcmp(name + len - tail, deleted))
        name[len - tail] = 0;
    return name;
}

/* The kernel calls files of O_TMPFILE by their number. */
static bool is_tmpfile(const char *path)
{
    const char *base = strrchr(path, '/');
    return base && base[1] == '#' && base[2] && !base[2 + strspn(base + 2, "0123456789")];
}

static void memobj_describe(struct memobj *m, int fd, const struct stat *st)
{
    struct statfs fs;
    int seals = fcntl(fd, F_GET_SEALS);
    m->page_bytes = fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 0;
    m->dev = st->st_dev;
    m->ino = st->st_ino;
    m->size = (uint64_t)st->st_size;
    m->mode = st->st_mode;
    m->uid = st->st_uid;
    m->gid = st->st_gid;
    m->seals = seals > 0 ? (uint64_t)seals : 0;
}

int memobj_save(struct snapshot *s, int fd, uint64_t kind, const char *name, uint64_t *id, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "shared memory %s", name);
    return memobj_save_as(s, fd, &st, kind, name, id, e);
}

int memobj_save_as(struct snapshot *s, int fd, const struct stat *as, uint64_t kind, const char *name, uint64_t *id, struct err *e)
{
    if (memobj_is_saved(s, as->st_dev, as->st_ino, id))
        return 0;
    /* Read through a description of our own: store_put_file moves the offset, which the victim shares. */
    AUTO_CLOSE int reader = source_reopen(fd, O_RDONLY, e);
    if (reader < 0)
        return err_wrap(e, "shared memory %s", name);
    struct memobj *m = LIST_ADD(&s->image, memobjs);
    m->id = *id = s->image.memobjs_count;
    m->kind = kind;
    m->name = memobj_name(kind, name);
    memobj_describe(m, fd, as);
    m->mount_space = kind == MEMOBJ_UNLINKED ? spaces_of_device(s->spaces, as->st_dev) : 0;
    m->linkable = kind == MEMOBJ_UNLINKED && is_tmpfile(m->name);
    uint64_t stored = 0;
    if (store_put_file(s->store, reader, m->size, &m->extents, &m->extents_count, &stored, e) < 0)
        return err_wrap(e, "content of %s", name);
    s->image.raw_bytes += m->size;
    s->image.new_bytes += stored;
    return 0;
}

int memfile_save(struct saving *v, struct source *src, struct err *e)
{
    uint64_t kind = strncmp(src->facts.link, "/memfd:", 7) ? MEMOBJ_UNLINKED : MEMOBJ_MEMFD;
    if (memobj_save(v->s, src->fd, kind, src->facts.link, &src->file->ref, e) < 0)
        return -1;
    struct memobj *m = &v->s->image.memobjs[src->file->ref - 1];
    if (kind == MEMOBJ_UNLINKED && src->facts.own && !m->mount_space) /* a file of an overlay may tell another device than its mount */
        m->mount_space = src->facts.space;
    return 0;
}
