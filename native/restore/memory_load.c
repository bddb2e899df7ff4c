/* Contents of private pages, written from outside by the store's threads. Mirrors snapshot/memory_save.c. */
#include <string.h>
#include <sys/uio.h>

#include "load.h"

struct target {
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

static int memory_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    static const uint8_t zeros[CHUNK_MAX];
    const struct target *t = ctx;
    if (!data && is_fresh_zero(t->mm, at, len))
        return 0;
    struct iovec here = {(void *)(uintptr_t)(data ? data : zeros), len}, there = {(void *)(uintptr_t)at, len};
    if (process_vm_writev(t->v->pid, &here, 1, &there, 1, 0) == (ssize_t)len)
        return 0;
    return victim_write(t->v, at, here.iov_base, len, e);
}

int memory_load(struct restore *r, struct victim *v, const struct task *task, struct err *e)
{
    struct target target = {v, &task->mm};
    if (store_get_ranges(r->store, task->mm.extents, task->mm.extents_count, memory_sink, &target, e) < 0)
        return err_wrap(e, "contents of its memory");
    return 0;
}
