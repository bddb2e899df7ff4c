/* Contents of private pages. Which there are says PAGEMAP_SCAN: present or swapped, not of a file, not the shared zero page. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "save.h"

#define REGIONS 4096

#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
struct page_region {
    uint64_t start, end, categories;
};
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask,
        return_mask;
};
#endif

struct range_list {
    struct store_range *items;
    size_t count;
};

static void range_add(struct range_list *l, uint64_t start, uint64_t end)
{
    if (l->count && l->items[l->count - 1].at + l->items[l->count - 1].len == start) {
        l->items[l->count - 1].len += end - start;
        return;
    }
    if ((l->count & (l->count - 1)) == 0)
        l->items = xrealloc(l->items, l->count ? 2 * l->count : 1, sizeof *l->items);
    l->items[l->count++] = (struct store_range){start, end - start};
}

static int vma_scan(int pagemap, const struct vma *vma, struct range_list *out, struct err *e)
{
    static struct page_region regions[REGIONS];
    for (uint64_t at = vma->start; at < vma->end;) {
        struct pm_scan_arg scan = {
            .size = sizeof scan, .start = at, .end = vma->end, .vec = (uint64_t)(uintptr_t)regions, .vec_len = REGIONS,
            .category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO, .category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO,
            .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED, .return_mask = PAGE_IS_PRESENT,
        };
        int n = ioctl(pagemap, PAGEMAP_SCAN, &scan);
        if (n < 0)
            return err_errno(e, "scan pages at 0x%lx", at);
        for (int k = 0; k < n; k++)
            range_add(out, regions[k].start, regions[k].end);
        if (scan.walk_end <= at)
            return err_set(e, E_OS, "scan of pages at 0x%lx does not get on", at);
        at = scan.walk_end;
    }
    return 0;
}

static bool is_wanted(const struct vma *vma, enum memory_part part)
{
    bool special = vma->kind == VMA_VDSO || vma->kind == VMA_VVAR || vma->kind == VMA_VVAR_CLOCK;
    bool copied = !(vma->advice & (ADV_DONTFORK | ADV_WIPEONFORK));
    if (special || (vma->flags & VMAF_SHARED))
        return false;
    return part == MEMORY_ALL || copied == (part == MEMORY_COPIED);
}

static int ranges_find(const struct victim *v, const struct mm *mm, enum memory_part part, struct range_list *out, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/pagemap", v->pid);
    AUTO_CLOSE int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return err_errno(e, "open %s", path);
    for (size_t k = 0; k < mm->vmas_count; k++)
        if (is_wanted(&mm->vmas[k], part) && vma_scan(pagemap, &mm->vmas[k], out, e) < 0)
            return -1;
    return 0;
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

int memory_save(struct snapshot *s, const struct victim *v, struct mm *mm, enum memory_part part, struct err *e)
{
    struct range_list list = {0};
    uint64_t stored = 0;
    int result = ranges_find(v, mm, part, &list, e);
    if (result == 0)
        result = store_put_ranges(s->store, list.items, list.count, memory_source, (void *)(uintptr_t)v, &mm->extents,
                                  &mm->extents_count, &stored, e);
    for (size_t k = 0; result == 0 && k < list.count; k++)
        s->image.raw_bytes += list.items[k].len;
    free(list.items);
    if (result < 0)
        return err_wrap(e, "memory of process %d", v->inner_pid);
    s->image.new_bytes += stored;
    if (mm->extents_count)
        qsort(mm->extents, mm->extents_count, sizeof *mm->extents, extent_order);
    return 0;
}
