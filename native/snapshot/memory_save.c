/* Contents of private pages. Which are read says a plan (memory_plan.h), or all that are there. */
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memory_plan.h"
#include "save.h"

static bool is_wanted(const struct vma *vma, enum memory_part part)
{
    return memory_is_private(vma) && (part == MEMORY_ALL || memory_is_forked(vma) == (part == MEMORY_COPIED));
}

static int ranges_find(const struct victim *v, const struct mm *mm, enum memory_part part, struct page_ranges *out, struct err *e)
{
    AUTO_CLOSE int pagemap = pagemap_open(v->pid, e);
    if (pagemap < 0)
        return -1;
    for (size_t k = 0; k < mm->vmas_count; k++)
        if (is_wanted(&mm->vmas[k], part) && pagemap_present(pagemap, mm->vmas[k].start, mm->vmas[k].end, out, e) < 0)
            return -1;
    return 0;
}

static void ranges_join(struct page_ranges *out, const struct page_ranges *more)
{
    for (size_t k = 0; k < more->count; k++)
        page_ranges_add(out, more->items[k].start, more->items[k].end);
}

static void ranges_planned(const struct memory_plan *plan, enum memory_part part, struct page_ranges *out)
{
    if (part != MEMORY_COPIED)
        ranges_join(out, &plan->inside);
    if (part != MEMORY_NOT_COPIED)
        ranges_join(out, &plan->copied);
}

/* process_vm_readv is the fastest way, but refuses pages that the process itself may not read, and un-shares the pages of a copy. */
static int memory_source(void *ctx, uint64_t at, void *out, size_t len, struct err *e)
{
    const struct victim *v = ctx;
    struct iovec here = {out, len}, there = {(void *)(uintptr_t)at, len};
    if (!v->expendable && process_vm_readv(v->pid, &here, 1, &there, 1, 0) == (ssize_t)len)
        return 0;
    return victim_read(v, at, out, len, e);
}

static int extent_order(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Ranks hold the same arrays at other addresses: what they have in common is the distance from the beginning of the mapping. */
static uint64_t mapping_start(const struct mm *mm, uint64_t at)
{
    size_t first = 0;
    for (size_t end = mm->vmas_count; end - first > 1;) {
        size_t middle = first + (end - first) / 2;
        *(mm->vmas[middle].start <= at ? &first : &end) = middle;
    }
    return mm->vmas_count && mm->vmas[first].start <= at ? mm->vmas[first].start : 0;
}

static int ranges_put(struct snapshot *s, const struct victim *v, struct mm *mm, const struct page_ranges *list, struct err *e)
{
    AUTO_FREE struct store_range *ranges = xcalloc(list->count + 1, sizeof *ranges);
    for (size_t k = 0; k < list->count; k++) {
        uint64_t at = list->items[k].start;
        ranges[k] = (struct store_range){at, list->items[k].end - at, mapping_start(mm, at)};
        s->image.raw_bytes += ranges[k].len;
    }
    return store_put_ranges(s->store, ranges, list->count, memory_source, (void *)(uintptr_t)v, &mm->extents, &mm->extents_count,
                            &s->image.new_bytes, e);
}

static void kept_take(struct snapshot *s, const struct memory_plan *plan, struct mm *mm)
{
    for (size_t k = 0; k < plan->kept_count; k++)
        *LIST_ADD(mm, extents) = plan->kept[k];
    s->image.raw_bytes += plan->kept_bytes;
    s->kept_bytes += plan->kept_bytes;
}

int memory_save(struct snapshot *s, const struct victim *v, struct mm *mm, const struct memory_plan *plan, enum memory_part part,
                struct err *e)
{
    PAGE_RANGES struct page_ranges list = {0};
    if (plan->made)
        ranges_planned(plan, part, &list);
    else if (ranges_find(v, mm, part, &list, e) < 0)
        return err_wrap(e, "memory of process %d", v->inner_pid);
    if (ranges_put(s, v, mm, &list, e) < 0)
        return err_wrap(e, "memory of process %d", v->inner_pid);
    if (plan->made && (part != MEMORY_COPIED || plan->later)) /* what was put off is known with the copy only */
        kept_take(s, plan, mm);
    if (mm->extents_count)
        qsort(mm->extents, mm->extents_count, sizeof *mm->extents, extent_order);
    return 0;
}
