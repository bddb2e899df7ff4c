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

static int part_read(const struct victim *v, const struct store_part *part, struct err *e)
{
    struct iovec here = {part->out, part->len}, there = {(void *)(uintptr_t)part->at, part->len};
    if (!v->expendable && process_vm_readv(v->pid, &here, 1, &there, 1, 0) == (ssize_t)part->len)
        return 0;
    return victim_read(v, part->at, part->out, part->len, e);
}

/* process_vm_readv is the fastest way, but refuses pages that the process itself may not read, and un-shares the pages of a copy. */
static int memory_source(void *ctx, const struct store_part *parts, size_t count, struct err *e)
{
    const struct victim *v = ctx;
    struct iovec here[STORE_PARTS_MAX], there[STORE_PARTS_MAX];
    ssize_t bytes = 0;
    for (size_t k = 0; k < count; k++) {
        here[k] = (struct iovec){parts[k].out, parts[k].len};
        there[k] = (struct iovec){(void *)(uintptr_t)parts[k].at, parts[k].len};
        bytes += (ssize_t)parts[k].len;
    }
    if (!v->expendable && count > 1 && process_vm_readv(v->pid, here, count, there, count, 0) == bytes)
        return 0;
    for (size_t k = 0; k < count; k++)
        if (part_read(v, &parts[k], e) < 0)
            return -1;
    return 0;
}

static int extent_order(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The mapping that holds an address. */
static size_t mapping_of(const struct mm *mm, uint64_t at)
{
    return FIRST_NOT(mm->vmas_count, k, mm->vmas[k].end <= at);
}

static bool is_large(const struct vma *v)
{
    return v->end - v->start >= CHUNK_MAX;
}

/* What is side by side in memory need not be so in a relative, or another rank: large mappings are cut for themselves, small ones go together. */
static struct store_range range_first(const struct mm *mm, uint64_t at, uint64_t end)
{
    size_t k = mapping_of(mm, at);
    uint64_t origin = k < mm->vmas_count && mm->vmas[k].start <= at ? mm->vmas[k].start : 0;
    for (; k + 1 < mm->vmas_count && mm->vmas[k].end < end; k++)
        if (is_large(&mm->vmas[k]) || is_large(&mm->vmas[k + 1]))
            return (struct store_range){at, mm->vmas[k].end - at, origin};
    return (struct store_range){at, end - at, origin};
}

struct ranges {
    struct store_range *items;
    size_t items_count;
};

static int ranges_put(struct snapshot *s, const struct victim *v, struct mm *mm, const struct page_ranges *list, struct err *e)
{
    struct ranges cut = {0};
    for (size_t k = 0; k < list->count; k++) {
        struct store_range next;
        for (uint64_t at = list->items[k].start, end = list->items[k].end; at < end; at += next.len)
            *LIST_ADD(&cut, items) = next = range_first(mm, at, end);
    }
    s->image.raw_bytes += page_ranges_bytes(list);
    int result = store_put_ranges(s->store, cut.items, cut.items_count, memory_source, (void *)(uintptr_t)v, &mm->extents, &mm->extents_count,
                                  &s->image.new_bytes, e);
    free(cut.items);
    return result;
}

int memory_save(struct snapshot *s, const struct victim *v, struct mm *mm, const struct memory_plan *plan, enum memory_part part,
                struct err *e)
{
    PAGE_RANGES struct page_ranges list = {0};
    if (plan->made)
        ranges_planned(plan, part, &list);
    else if (ranges_find(v, mm, part, &list, e) < 0)
        return err_wrap(e, "memory of process %d", v->inner_pid);
    return ranges_put(s, v, mm, &list, e) < 0 ? err_wrap(e, "memory of process %d", v->inner_pid) : 0;
}

void memory_keep(struct snapshot *s, const struct memory_plan *plan, struct mm *mm)
{
    for (size_t k = 0; k < plan->kept_count; k++)
        *LIST_ADD(mm, extents) = plan->kept[k];
    s->image.raw_bytes += plan->kept_bytes;
    s->kept_bytes += plan->kept_bytes;
    if (mm->extents_count)
        qsort(mm->extents, mm->extents_count, sizeof *mm->extents, extent_order);
}
