/* What can be seen wrong in a decoded image by itself: an image may be anybody's bytes, and what restores it relies on
 * these: extents do not wrap, mappings lie in user space in ascending order, pids are possible and unique, every
 * number that refers to something refers to something that is there. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define USER_END 0x7ffffffff000ul
#define PID_MAX 4194304ul
#define FD_MAX (1ul << 20)
#define MESSAGE_PRIORITIES 32768u /* MQ_PRIO_MAX of linux/limits.h */

struct ids {
    uint64_t *items;
    size_t count;
};
struct checks {
    struct ids files, memobjs;
};

static int bad(struct err *e, const char *what, uint64_t number)
{
    return err_set(e, E_BAD_IMAGE, "%s (%lu)", what, number);
}

/* ---- ids: sorted, then searched */
static void ids_add(struct ids *ids, uint64_t id)
{
    *(uint64_t *)list_add((void **)&ids->items, &ids->count, sizeof id) = id;
}

static int id_compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int ids_close(struct ids *ids, const char *what, struct err *e)
{
    if (ids->count)
        qsort(ids->items, ids->count, sizeof *ids->items, id_compare);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->items[i] == 0 || (i && ids->items[i] == ids->items[i - 1]))
            return bad(e, what, ids->items[i]);
    return 0;
}

static bool ids_has(const struct ids *ids, uint64_t id)
{
    return ids->count && bsearch(&id, ids->items, ids->count, sizeof id, id_compare);
}

/* ---- one struct each; the walk below calls them wherever the schema has such a struct */
static int extent_check(const struct extent *x, const struct checks *c, struct err *e)
{
    (void)c;
    if (x->len == 0 || x->at > INT64_MAX || x->len > INT64_MAX - x->at)
        return bad(e, "an extent of an impossible place or length", x->at);
    if (!digest_is_zero(&x->digest) && x->len > CHUNK_MAX)
        return bad(e, "an extent longer than a chunk", x->len);
    if (x->whole ? x->whole > CHUNK_MAX || x->skip > x->whole || x->len > x->whole - x->skip || digest_is_zero(&x->digest) : x->skip != 0)
        return bad(e, "an extent outside of its chunk", x->at);
    return 0;
}

static int vma_check(const struct vma *v, const struct checks *c, struct err *e)
{
    if (v->start >= v->end || v->end > USER_END || v->start % PAGE_BYTES || v->end % PAGE_BYTES)
        return bad(e, "a mapping outside of user space", v->start);
    if (v->offset % PAGE_BYTES || v->offset > INT64_MAX - (v->end - v->start))
        return bad(e, "a mapping of an impossible offset", v->offset);
    if (v->kind == VMA_MEMOBJ && !ids_has(&c->memobjs, v->memobj))
        return bad(e, "a mapping of a memory object that is not there", v->memobj);
    return 0;
}

static int mm_check(const struct mm *m, const struct checks *c, struct err *e)
{
    (void)c;
    for (size_t i = 1; i < m->vmas_count; i++)
        if (m->vmas[i].start < m->vmas[i - 1].end)
            return bad(e, "mappings overlap or are out of order", m->vmas[i].start);
    for (size_t i = 0; i < m->extents_count; i++) {
        const struct extent *x = &m->extents[i];
        if (x->at >= USER_END || x->len > USER_END - x->at || x->at % PAGE_BYTES || x->len % PAGE_BYTES)
            return bad(e, "memory content outside of user space", x->at);
        if (i && x->at < x[-1].at + x[-1].len)
            return bad(e, "memory contents overlap or are out of order", x->at);
    }
    return 0;
}

static int fd_check(const struct fd *f, const struct checks *c, struct err *e)
{
    if (f->number >= FD_MAX)
        return bad(e, "an impossible descriptor number", f->number);
    return ids_has(&c->files, f->file) ? 0 : bad(e, "a descriptor of a file that is not there", f->file);
}

static int message_check(const struct unix_message *m, const struct checks *c, struct err *e)
{
    if (m->rights_count > RIGHTS_MAX)
        return bad(e, "a message with too many descriptors", m->rights_count);
    for (size_t i = 0; i < m->rights_count; i++)
        if (!ids_has(&c->files, m->rights[i].file))
            return bad(e, "a message with a file that is not there", m->rights[i].file);
    return 0;
}

static int file_check(const struct file *f, const struct checks *c, struct err *e)
{
    (void)c;
    if (f->told > f->names_count || (f->names_count && (f->kind != FILE_DIRECTORY || f->told == 0)))
        return bad(e, "an open file of which more names were told than it has", f->told);
    for (size_t i = 0; i < f->names_count; i++)
        if (!f->names[i].name[0] || strlen(f->names[i].name) > NAME_MAX || strchr(f->names[i].name, '/'))
            return bad(e, "a name that no directory has", i);
    return 0;
}

static int mqueue_check(const struct mqueue *q, const struct checks *c, struct err *e)
{
    (void)c;
    if (q->messages_count > q->max_messages)
        return bad(e, "a POSIX message queue that is more than full", q->messages_count);
    for (size_t i = 0; i < q->messages_count; i++) {
        if (q->messages[i].priority >= MESSAGE_PRIORITIES || (i && q->messages[i].priority > q->messages[i - 1].priority))
            return bad(e, "a message of an impossible priority, or out of order", q->messages[i].priority);
        if (q->messages[i].data.len > q->message_bytes)
            return bad(e, "a message that is longer than its queue takes", q->messages[i].data.len);
    }
    return 0;
}

static int none_check(const void *x, const struct checks *c, struct err *e)
{
    (void)x, (void)c, (void)e;
    return 0;
}

#define STRUCT(name) \
    static int name##_visit(const struct name *in, const struct checks *c, struct err *e) \
    { \
        if (_Generic(in, const struct extent *: extent_check, const struct vma *: vma_check, \
                     const struct mm *: mm_check, const struct fd *: fd_check, \
                     const struct unix_message *: message_check, const struct mqueue *: mqueue_check, \
                     const struct file *: file_check, default: none_check)(in, c, e)) \
            return -1;
#define END(name) \
        return 0; \
    }
#define U(field)
#define I(field)
#define S(field)
#define B(field)
#define D(field)
#define L(type, field) \
        for (size_t i = 0; i < in->field##_count; i++) \
            if (type##_visit(&in->field[i], c, e)) \
                return -1;
#define O(type, field) if (type##_visit(&in->field, c, e)) return -1;
#include "schema.def"

/* ---- across the image */
static int pids_check(const struct image *in, struct err *e)
{
    struct ids tids = {0};
    int result = 0;
    for (size_t i = 0; i < in->tasks_count && !result; i++) {
        const struct task *t = &in->tasks[i];
        if (!t->threads_count)
            ids_add(&tids, t->pid);
        for (size_t k = 0; k < t->threads_count; k++)
            ids_add(&tids, t->threads[k].tid);
        if (t->threads_count && t->threads[0].tid != t->pid)
            result = bad(e, "a process whose first thread is not its leader", t->pid);
    }
    result = result ? result : ids_close(&tids, "a pid that comes twice, or is 0", e);
    if (!result && tids.count && tids.items[tids.count - 1] > PID_MAX)
        result = bad(e, "an impossible pid", tids.items[tids.count - 1]);
    free(tids.items);
    return result;
}

static int references_check(const struct image *in, struct checks *c, struct err *e)
{
    for (size_t i = 0; i < in->files_count; i++)
        ids_add(&c->files, in->files[i].id);
    for (size_t i = 0; i < in->memobjs_count; i++)
        ids_add(&c->memobjs, in->memobjs[i].id);
    if (ids_close(&c->files, "a file's id that comes twice, or is 0", e) ||
        ids_close(&c->memobjs, "a memory object's id that comes twice, or is 0", e))
        return -1;
    return image_visit(in, c, e);
}

int image_check(const struct image *in, struct err *e)
{
    struct checks c = {0};
    int result = pids_check(in, e) || references_check(in, &c, e) || paths_check(in, e) ? -1 : 0;
    free(c.files.items);
    free(c.memobjs.items);
    return result;
}
