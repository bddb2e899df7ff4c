/* See huge.h. The kernel sets pages aside when memory is mapped, for whole mappings; a child of fork(2) has in common with its parent what neither has
 * written, and nothing set aside for the rest. What is counted is what the restore will take, per size of page. */
#include <stdlib.h>
#include <string.h>

#include "../kernel/hugepool.h"
#include "huge.h"
#include "share.h"

struct stretch {
    uint64_t from, to;
};
struct stretches {
    struct stretch *items;
    size_t items_count;
};

static uint64_t pages_up(uint64_t bytes, uint64_t page_bytes)
{
    return bytes / page_bytes + (bytes % page_bytes != 0);
}

/* ---- private memory */

/* Content of a mapping, whole pages of it; without what `model` has just so. */
static uint64_t content_pages(const struct mm *mm, const struct vma *v, const struct mm *model)
{
    uint64_t pages = 0, counted = v->start;
    for (size_t k = 0; k < mm->extents_count && mm->extents[k].at < v->end; k++) {
        const struct extent *x = &mm->extents[k];
        uint64_t from = x->at > counted ? x->at : counted, to = x->at + x->len < v->end ? x->at + x->len : v->end;
        if (from >= to || (model && share_is_in(model, x)))
            continue;
        from -= (from - v->start) % v->page_bytes;
        counted = from + pages_up(to - from, v->page_bytes) * v->page_bytes;
        pages += (counted - from) / v->page_bytes;
    }
    return pages;
}

static uint64_t private_pages(const struct restore *r, size_t task, const struct vma *v)
{
    const struct mm *mm = &r->image->tasks[task].mm;
    const struct shared_vma *s = share_planned(r, task, v);
    if (s && s->model != task)
        return content_pages(mm, v, &r->image->tasks[s->model].mm);
    return v->flags & VMAF_NORESERVE ? content_pages(mm, v, NULL) : (v->end - v->start) / v->page_bytes;
}

static uint64_t tasks_pages(const struct restore *r, uint64_t page_bytes)
{
    uint64_t pages = 0;
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        const struct mm *mm = &r->image->tasks[k].mm;
        for (size_t n = 0; n < mm->vmas_count; n++)
            if (mm->vmas[n].page_bytes == page_bytes && !(mm->vmas[n].flags & VMAF_SHARED))
                pages += private_pages(r, k, &mm->vmas[n]);
    }
    return pages;
}

/* ---- what processes share: what is mapped, and what has content */

static int stretch_order(const void *a, const void *b)
{
    const struct stretch *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

static void stretch_add(struct stretches *s, uint64_t page_bytes, uint64_t from, uint64_t to)
{
    *LIST_ADD(s, items) = (struct stretch){from / page_bytes, pages_up(to, page_bytes)};
}

static uint64_t stretches_pages(struct stretches *s)
{
    uint64_t pages = 0, end = 0;
    qsort(s->items, s->items_count, sizeof *s->items, stretch_order);
    for (size_t k = 0; k < s->items_count; k++) {
        uint64_t from = s->items[k].from > end ? s->items[k].from : end;
        pages += s->items[k].to > from ? s->items[k].to - from : 0;
        end = s->items[k].to > end ? s->items[k].to : end;
    }
    return pages;
}

static void mappings_add(const struct image *image, const struct memobj *m, struct stretches *s)
{
    for (size_t k = 0; k < image->tasks_count; k++)
        for (size_t n = 0; n < image->tasks[k].mm.vmas_count; n++) {
            const struct vma *v = &image->tasks[k].mm.vmas[n];
            if (v->kind == VMA_MEMOBJ && v->memobj == m->id && v->flags & VMAF_SHARED && !(v->flags & VMAF_NORESERVE))
                stretch_add(s, m->page_bytes, v->offset, v->offset + (v->end - v->start));
        }
}

static uint64_t memobj_pages(const struct image *image, const struct memobj *m)
{
    struct stretches s = {0};
    if (m->kind == MEMOBJ_SYSV)
        return pages_up(m->size, m->page_bytes);
    for (size_t k = 0; k < m->extents_count; k++)
        stretch_add(&s, m->page_bytes, m->extents[k].at, m->extents[k].at + m->extents[k].len);
    mappings_add(image, m, &s);
    uint64_t pages = s.items_count ? stretches_pages(&s) : 0;
    free(s.items);
    return pages;
}

static uint64_t memobjs_pages(const struct image *image, uint64_t page_bytes)
{
    uint64_t pages = 0;
    for (size_t k = 0; k < image->memobjs_count; k++)
        if (image->memobjs[k].page_bytes == page_bytes)
            pages += memobj_pages(image, &image->memobjs[k]);
    return pages;
}

/* ---- this machine */

static uint64_t pages_here(uint64_t page_bytes, enum huge_where where)
{
    struct hugepool pool;
    hugepool_read(page_bytes, &pool);
    return pool.further + (where == HUGE_FREE ? pool.free : pool.total);
}

static int size_check(const struct restore *r, uint64_t page_bytes, enum huge_where where, struct err *e)
{
    uint64_t needed = memobjs_pages(r->image, page_bytes) + tasks_pages(r, page_bytes), here = pages_here(page_bytes, where);
    if (needed <= here)
        return 0;
    return err_set(e, E_UNSUPPORTED, "it needs %lu huge pages of %lu KiB, %s: %lu", needed, page_bytes / 1024,
                   where == HUGE_FREE ? "free on this machine" : "on this machine", here);
}

/* Sizes are powers of two: a bit each. */
static uint64_t sizes_of(const struct image *image)
{
    uint64_t sizes = 0;
    for (size_t k = 0; k < image->memobjs_count; k++)
        sizes |= image->memobjs[k].page_bytes;
    for (size_t k = 0; k < image->tasks_count; k++)
        for (size_t n = 0; n < image->tasks[k].mm.vmas_count; n++)
            sizes |= image->tasks[k].mm.vmas[n].page_bytes;
    return sizes;
}

int huge_check(const struct restore *r, enum huge_where where, struct err *e)
{
    for (uint64_t sizes = sizes_of(r->image), size; sizes; sizes -= size) {
        size = sizes & -sizes;
        if (size_check(r, size, where, e) < 0)
            return -1;
    }
    return 0;
}

int huge_fit(const struct image *image, enum huge_where where, struct err *e)
{
    struct restore r = {.image = image};
    if (!sizes_of(image))
        return 0;
    int result = births_plan(image, &r.births, e) < 0 || shares_plan(&r, e) < 0 || huge_check(&r, where, e) < 0 ? -1 : 0;
    shares_plan_free(&r);
    free(r.births);
    return result;
}
