/* The memory of a core file: for each mapping its layers, clipped to it, in the order in which they cover each other. */
#include <string.h>

#include "core_parts.h"

#define LAYERS_MAX 2

static const struct hostfile *hostfile_of(const struct image *in, const char *path)
{
    for (size_t i = 0; i < in->hostfiles_count; i++)
        if (strcmp(in->hostfiles[i].path, path) == 0)
            return &in->hostfiles[i];
    return NULL;
}

static const struct entry *entry_of(const struct image *in, const char *path)
{
    while (*path == '/')
        path++;
    for (size_t t = 0; t < in->trees_count; t++)
        for (size_t i = 0; strcmp(in->trees[t].name, "root") == 0 && i < in->trees[t].entries_count; i++)
            if (strcmp(in->trees[t].entries[i].path, path) == 0)
                return &in->trees[t].entries[i];
    return NULL;
}

static const struct memobj *memobj_of(const struct image *in, uint64_t id)
{
    for (size_t i = 0; i < in->memobjs_count; i++)
        if (in->memobjs[i].id == id)
            return &in->memobjs[i];
    return NULL;
}

/* What is mapped, where the image holds it. A file of the pod's own tree covers the host's of that path. */
static bool mapped_layer(const struct image *in, const struct vma *v, struct layer *out)
{
    const struct memobj *object = v->kind == VMA_MEMOBJ ? memobj_of(in, v->memobj) : NULL;
    const struct entry *entry = v->kind == VMA_FILE ? entry_of(in, v->path) : NULL;
    const struct hostfile *file = v->kind == VMA_FILE && !entry ? hostfile_of(in, v->path) : NULL;
    if (!object && !entry && !file)
        return false;
    out->extents = object ? object->extents : entry ? entry->extents : file->extents;
    out->count = object ? object->extents_count : entry ? entry->extents_count : file->extents_count;
    out->shift = (int64_t)(v->start - v->offset);
    return true;
}

static size_t layers_of(const struct memory *m, const struct vma *v, struct layer layers[LAYERS_MAX])
{
    size_t count = mapped_layer(m->in, v, &layers[0]) ? 1 : 0;
    layers[count++] = (struct layer){m->mm->extents, m->mm->extents_count, 0};
    return count;
}

/* The part of an extent that lies in the mapping: its first address and length, 0 if none does. */
static uint64_t clip(const struct extent *x, int64_t shift, const struct vma *v, uint64_t *from)
{
    uint64_t start = x->at + (uint64_t)shift, end = start + x->len;
    if (shift < 0 && x->at < (uint64_t)-shift) { /* begins before the address space: cannot be in the mapping from its start */
        start = 0;
        end = x->at + x->len > (uint64_t)-shift ? x->at + x->len - (uint64_t)-shift : 0;
    }
    *from = start > v->start ? start : v->start;
    uint64_t to = end < v->end ? end : v->end;
    return to > *from ? to - *from : 0;
}

uint64_t core_content(const struct memory *m, const struct vma *v)
{
    struct layer layers[LAYERS_MAX];
    uint64_t last = v->kind == VMA_VDSO && m->mm->vdso.len <= v->end - v->start ? m->mm->vdso.len : 0, from;
    size_t count = layers_of(m, v, layers);
    for (size_t l = 0; l < count; l++)
        for (size_t i = 0; i < layers[l].count; i++) {
            uint64_t len = digest_is_zero(&layers[l].extents[i].digest) ? 0 : clip(&layers[l].extents[i], layers[l].shift, v, &from);
            if (len && from + len - v->start > last)
                last = from + len - v->start;
        }
    return last;
}

static int extent_write(const struct memory *m, const struct extent *x, uint64_t skip, uint64_t len, uint64_t offset, struct err *e)
{
    if (x->len > CHUNK_MAX)
        return err_set(e, E_BAD_IMAGE, "a stretch of memory is longer than a chunk");
    if (store_get(m->store, &x->digest, m->room, x->len, e))
        return err_wrap(e, "memory at %#lx", x->at);
    return io_pwrite_all(m->fd, m->room + skip, len, offset, e);
}

int core_content_write(const struct memory *m, const struct vma *v, uint64_t offset, struct err *e)
{
    struct layer layers[LAYERS_MAX];
    uint64_t from, room = core_content(m, v);
    size_t count = layers_of(m, v, layers);
    if (v->kind == VMA_VDSO && room && io_pwrite_all(m->fd, m->mm->vdso.data, m->mm->vdso.len, offset, e))
        return -1;
    for (size_t l = 0; l < count; l++)
        for (size_t i = 0; i < layers[l].count; i++) {
            const struct extent *x = &layers[l].extents[i];
            uint64_t len = clip(x, layers[l].shift, v, &from), at = from - v->start;
            uint64_t skip = from - (x->at + (uint64_t)layers[l].shift);
            if (len == 0 || at >= room || (l == 0 && digest_is_zero(&x->digest)))
                continue;
            if (len > room - at)
                len = room - at;
            if (extent_write(m, x, skip, len, offset + at, e))
                return -1;
        }
    return 0;
}
