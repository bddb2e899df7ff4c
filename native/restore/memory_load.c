/* Contents of private pages, written from outside by the store's threads. Mirrors snapshot/memory_save.c. */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "load.h"
#include "share.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

struct target {
    const struct restore *r;
    size_t task;
    struct victim *v;
    const struct mm *mm;
};

/* Fresh anonymous memory is zero already; a page of a mapped file that the process had zeroed is not. */
static bool is_fresh_zero(const struct mm *mm, uint64_t at, size_t len)
{
    for (size_t k = 0; k < mm->vmas_count; k++) {
        const struct vma *v = &mm->vmas[k];
        if (v->start < at + len && v->end > at && (v->kind == VMA_FILE || v->kind == VMA_MEMOBJ))
            return false;
    }
    return true;
}

static bool is_kept(const struct target *t, uint64_t at, size_t len)
{
    for (size_t k = 0; k < t->mm->vmas_count; k++)
        if (t->mm->vmas[k].start < at + len && t->mm->vmas[k].end > at && share_of(t->r, t->task, &t->mm->vmas[k]))
            return true;
    return false;
}

static int pages_write(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    struct iovec here = {(void *)(uintptr_t)data, len}, there = {(void *)(uintptr_t)at, len};
    if (process_vm_writev(t->v->pid, &here, 1, &there, 1, 0) == (ssize_t)len)
        return 0;
    return victim_write(t->v, at, data, len, e);
}

/* Only the pages that differ: the others stay what the process has in common with its relatives. */
static int pages_differing_write(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    AUTO_FREE uint8_t *now = xcalloc(1, len); /* not on the stack: this may be a fiber's */
    if (victim_read(t->v, at, now, len, e) < 0)
        return -1;
    for (size_t from = 0, to; from < len; from = to + PAGE_BYTES) {
        while (from < len && memcmp(now + from, data + from, PAGE_BYTES) == 0)
            from += PAGE_BYTES;
        for (to = from; to < len && memcmp(now + to, data + to, PAGE_BYTES) != 0;)
            to += PAGE_BYTES;
        if (to > from && pages_write(t, at + from, data + from, to - from, e) < 0)
            return -1;
    }
    return 0;
}

static int memory_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    static const uint8_t zeros[CHUNK_MAX];
    const struct target *t = ctx;
    bool kept = is_kept(t, at, len);
    if (!data && !kept && is_fresh_zero(t->mm, at, len))
        return 0;
    if (kept)
        return pages_differing_write(t, at, data ? data : zeros, len, e);
    return pages_write(t, at, data ? data : zeros, len, e);
}

/* Pages that a relative had and this process has not. */
static int ranges_drop(struct victim *v, const struct range *gone, size_t count, struct err *e)
{
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .what = "drop pages of its relatives"};
    for (size_t k = 0; k < count; k++)
        if (CALL(l, e, SYS_madvise, gone[k].start, gone[k].end - gone[k].start, MADV_DONTNEED_LOCKED, 0, 0, 0) < 0)
            return -1;
    return call_flush(l, e);
}

int memory_load(struct restore *r, struct victim *v, const struct task *task, struct err *e)
{
    struct target target = {r, (size_t)(task - r->image->tasks), v, &task->mm};
    AUTO_FREE struct extent *wanted = NULL;
    AUTO_FREE struct range *gone = NULL;
    size_t wanted_count = 0, gone_count = 0;
    share_split(r, target.task, &wanted, &wanted_count, &gone, &gone_count);
    if (ranges_drop(v, gone, gone_count, e) < 0 || store_get_ranges(r->store, wanted, wanted_count, memory_sink, &target, e) < 0)
        return err_wrap(e, "contents of its memory");
    return 0;
}
