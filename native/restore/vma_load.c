/* The address space: the engine's own mappings go, the kernel's pages move to where they were, the image's mappings come. Files are
 * opened by the process itself, inside the pod, under the rights of the pod's user. Mirrors snapshot/vma_save.c. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "huge.h"
#include "share.h"
#include "sysv_load.h"
#include "vdso.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define GAP_BYTES (2ul << 20)
#define TEMPORARY_AT (1ul << 20)
#define GAP_MARGIN (1ul << 20)
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static bool is_free(const struct proc_maps *now, const struct mm *mm, uint64_t at)
{
    uint64_t from = at - GAP_MARGIN, to = at + GAP_BYTES + GAP_MARGIN;
    for (size_t k = 0; k < now->count; k++)
        if (now->items[k].start < to && now->items[k].end > from)
            return false;
    for (size_t k = 0; k < mm->vmas_count; k++)
        if (mm->vmas[k].start < to && mm->vmas[k].end > from)
            return false;
    return true;
}

/* Free both in what is and in what shall be. */
static int gap_find(const struct proc_maps *now, const struct mm *mm, uint64_t *at, struct err *e)
{
    for (*at = 0x10000000; *at < 0x7e0000000000; *at += *at < 0x1000000000 ? 0x1000000 : 0x1000000000)
        if (is_free(now, mm, *at))
            return 0;
    return err_set(e, E_UNSUPPORTED, "no free address range for the work of the restore");
}

/* The kernel writes to a registered rseq area whenever the process runs: forget the engine's before it is unmapped. */
static int rseq_forget(struct call_list *l, struct err *e)
{
    struct __ptrace_rseq_configuration c = {0};
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, l->v->threads[0].tid, (void *)sizeof c, &c) < 0 || !c.rseq_abi_pointer)
        return 0;
    return CALL(l, e, SYS_rseq, c.rseq_abi_pointer, c.rseq_abi_size, 1 /* unregister */, c.signature, 0, 0);
}

/* All of it but what the process keeps (share.h). */
static int unmap(struct call_list *l, const struct restore *r, const struct task *t, uint64_t start, uint64_t end, struct err *e)
{
    for (size_t k = 0; k < t->mm.vmas_count && start < end; k++) {
        const struct vma *v = &t->mm.vmas[k];
        if (v->end <= start || v->start >= end || !share_of(r, (size_t)(t - r->image->tasks), v))
            continue;
        if (v->start > start && CALL(l, e, SYS_munmap, start, v->start - start, 0, 0, 0, 0) < 0)
            return -1;
        start = v->end;
    }
    return start < end ? CALL(l, e, SYS_munmap, start, end - start, 0, 0, 0, 0) : 0;
}

static bool is_own(const struct proc_map *m)
{
    return !vdso_kind(m->path) && strcmp(m->path, "[vsyscall]") != 0;
}

/* The first behind `k` that does not go with it in one call: the work area may lie between. */
static size_t own_end(const struct proc_maps *now, size_t k, uint64_t work)
{
    size_t end = k + 1;
    while (end < now->count && is_own(&now->items[end]) && !(now->items[end - 1].end <= work && work < now->items[end].start))
        end++;
    return end;
}

static int own_away(struct call_list *l, const struct restore *r, const struct task *t, const struct proc_maps *now, uint64_t work, struct err *e)
{
    uint64_t temporary = work + TEMPORARY_AT;
    for (size_t k = 0, next; k < now->count; k = next) {
        const struct proc_map *m = &now->items[k];
        uint64_t len = m->end - m->start;
        next = is_own(m) ? own_end(now, k, work) : k + 1;
        if (is_own(m) && unmap(l, r, t, m->start, now->items[next - 1].end, e) < 0)
            return -1;
        if (!vdso_kind(m->path))
            continue;
        if (CALL(l, e, SYS_mremap, m->start, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, temporary, 0) < 0)
            return -1;
        temporary += len;
    }
    return 0;
}

static int own_replace(struct call_list *l, const struct restore *r, const struct task *task, struct err *e)
{
    PROC_MAPS struct proc_maps now = {0};
    uint64_t gap, gap_data, aside;
    if (proc_maps_read(l->v->pid, false, &now, e) < 0 || gap_find(&now, &task->mm, &gap, e) < 0 ||
        vdso_aside(&task->mm, &now, gap, gap + GAP_BYTES, &aside, e) < 0)
        return -1;
    l->v->scratch_wish = gap;
    if (remote_put(l->v, 0, &(char){0}, 1, &gap_data, e) < 0) /* the work area, while the vDSO is where it was */
        return -1;
    if (rseq_forget(l, e) < 0 || own_away(l, r, task, &now, gap, e) < 0)
        return -1;
    return vdso_back(l, &now, &task->mm, gap + TEMPORARY_AT, aside, e);
}

/* ---- the image's mappings */
static bool is_taken(const struct restore *r, const struct task *t, uint64_t number)
{
    for (size_t k = 0; k < t->fds_count; k++)
        if (t->fds[k].number == number)
            return true;
    for (size_t k = 0; k < r->image->memobjs_count; k++)
        if ((uint64_t)r->memobj_fds[k] == number)
            return true;
    return false;
}

static uint64_t lowest_free_fd(const struct restore *r, const struct task *t)
{
    uint64_t number = 0;
    while (is_taken(r, t, number))
        number++;
    return number;
}

static uint64_t mmap_flags(const struct vma *v)
{
    uint64_t flags = MAP_FIXED_NOREPLACE | (v->flags & VMAF_SHARED ? MAP_SHARED : MAP_PRIVATE);
    if (v->flags & VMAF_GROWSDOWN)
        flags |= MAP_GROWSDOWN;
    if (v->flags & VMAF_NORESERVE)
        flags |= MAP_NORESERVE;
    if (v->flags & VMAF_HUGETLB && v->kind == VMA_ANON)
        flags |= MAP_HUGETLB | huge_size_flags(v->page_bytes);
    return flags;
}

static int expect(struct call_list *l, uint64_t value)
{
    l->wanted[l->count - 1] = (int64_t)value;
    return 0;
}

static bool is_same_file(const struct vma *a, const struct vma *b)
{
    return a->kind == VMA_FILE && b->kind == VMA_FILE && a->mode == b->mode && strcmp(a->path, b->path) == 0;
}

/* Opened once for mappings that stand side by side. */
static int map_file(struct call_list *l, const struct mm *mm, const struct vma *v, uint64_t free_fd, struct err *e)
{
    uint64_t len = v->end - v->start;
    bool first = v == mm->vmas || !is_same_file(v - 1, v), last = v + 1 == mm->vmas + mm->vmas_count || !is_same_file(v, v + 1);
    if (first && (call_open(l, v->path, v->mode == O_RDWR ? O_RDWR : O_RDONLY, e) < 0 || expect(l, free_fd) < 0))
        return -1;
    if (CALL(l, e, SYS_mmap, v->start, len, v->prot, mmap_flags(v), free_fd, v->offset) < 0 || expect(l, v->start) < 0)
        return -1;
    return last ? CALL(l, e, SYS_close, free_fd, 0, 0, 0, 0, 0) : 0;
}

/* A segment is attached as a whole by its first mapping; what was protected differently follows. */
static int map_segment(struct call_list *l, const struct sysv_segment *segment, const struct vma *v, struct err *e)
{
    uint64_t page_bytes = v->page_bytes ? v->page_bytes : PAGE_BYTES, base = v->start - v->offset;
    uint64_t whole = (segment->size + page_bytes - 1) & ~(page_bytes - 1);
    if (v->offset > whole || v->end - v->start > whole - v->offset || v->start < v->offset)
        return err_set(e, E_BAD_IMAGE, "a mapping beyond the end of shared memory at 0x%lx", v->start);
    if (v->offset == 0 && (CALL(l, e, SYS_shmat, segment->shmid, base, v->prot & PROT_EXEC ? SHM_EXEC : 0, 0, 0, 0) < 0 || expect(l, base) < 0))
        return -1;
    return CALL(l, e, SYS_mprotect, v->start, v->end - v->start, v->prot, 0, 0, 0);
}

static int map_memobj(struct restore *r, struct call_list *l, const struct vma *v, struct err *e)
{
    const struct sysv_segment *segment = sysv_of(r->image, v->memobj);
    if (segment)
        return map_segment(l, segment, v, e);
    size_t k = 0;
    while (k < r->image->memobjs_count && r->image->memobjs[k].id != v->memobj)
        k++;
    CHECK(k < r->image->memobjs_count);
    if (CALL(l, e, SYS_mmap, v->start, v->end - v->start, huge_first_prot(v), mmap_flags(v), (uint64_t)r->memobj_fds[k], v->offset) < 0)
        return -1;
    return expect(l, v->start);
}

static int map_anonymous(struct call_list *l, const struct vma *v, struct err *e)
{
    if (CALL(l, e, SYS_mmap, v->start, v->end - v->start, huge_first_prot(v), mmap_flags(v) | MAP_ANONYMOUS, (uint64_t)-1, 0) < 0)
        return -1;
    return expect(l, v->start);
}

static int vma_load(struct restore *r, struct call_list *l, const struct task *t, const struct vma *v, uint64_t free_fd, bool foreign, struct err *e)
{
    if (share_of(r, (size_t)(t - r->image->tasks), v))
        return CALL(l, e, SYS_mprotect, v->start, v->end - v->start, huge_first_prot(v), 0, 0, 0);
    switch (v->kind) {
    case VMA_VDSO:
    case VMA_VVAR:
    case VMA_VVAR_CLOCK:
        return foreign ? map_anonymous(l, v, e) : 0;
    case VMA_FILE:
        return map_file(l, &t->mm, v, free_fd, e);
    case VMA_MEMOBJ:
        return map_memobj(r, l, v, e);
    default:
        return map_anonymous(l, v, e);
    }
}

static int advice_load(struct call_list *l, const struct vma *v, struct err *e)
{
    static const struct {
        uint64_t advice;
        int madvise;
    } table[] = {
        {ADV_HUGEPAGE, MADV_HUGEPAGE},   {ADV_NOHUGEPAGE, MADV_NOHUGEPAGE}, {ADV_DONTFORK, MADV_DONTFORK},
        {ADV_WIPEONFORK, MADV_WIPEONFORK}, {ADV_DONTDUMP, MADV_DONTDUMP},     {ADV_MERGEABLE, MADV_MERGEABLE},
        {ADV_RANDOM, MADV_RANDOM},       {ADV_SEQUENTIAL, MADV_SEQUENTIAL},
    };
    uint64_t name, len = v->end - v->start;
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (v->advice & table[k].advice) {
            if (CALL(l, e, SYS_madvise, v->start, len, (uint64_t)table[k].madvise, 0, 0, 0) < 0)
                return -1;
            l->may_fail[l->count - 1] = true; /* advice that this kernel does not know */
        }
    if (v->policy) {
        uint64_t nodes;
        if (call_data(l, v->nodes.data, v->nodes.len, &nodes, e) < 0 ||
            CALL(l, e, SYS_mbind, v->start, len, v->policy, v->nodes.len ? nodes : 0, v->nodes.len * 8, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true; /* nodes of memory that this machine has not */
    }
    if (v->advice & ADV_LOCKED) {
        if (CALL(l, e, SYS_mlock2, v->start, len, v->advice & ADV_LOCKONFAULT ? MLOCK_ONFAULT : 0, 0, 0, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true; /* more than this node's limit: it works all the same */
    }
    if (v->kind != VMA_ANON || strncmp(v->path, "[anon:", 6) != 0)
        return 0;
    AUTO_FREE char *text = xstrdup(v->path + 6);
    text[strcspn(text, "]")] = 0;
    if (call_data(l, text, strlen(text) + 1, &name, e) < 0 ||
        CALL(l, e, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, v->start, len, name, 0) < 0)
        return -1;
    l->may_fail[l->count - 1] = true;
    return 0;
}

int vmas_seal(struct call_list *l, const struct task *task, struct err *e)
{
    for (size_t k = 0; k < task->mm.vmas_count; k++) {
        const struct vma *vma = &task->mm.vmas[k];
        if (huge_first_prot(vma) != vma->prot && CALL(l, e, SYS_mprotect, vma->start, vma->end - vma->start, vma->prot, 0, 0, 0) < 0)
            return -1;
        if (vma->advice & ADV_SEALED && CALL(l, e, SYS_mseal, vma->start, vma->end - vma->start, 0, 0, 0, 0) < 0)
            return -1;
    }
    return 0;
}

/* In a user namespace of its own it is the pod's user already. */
static int rights(struct call_list *l, const struct restore *r, const struct task *t, uint64_t uid, uint64_t gid, struct err *e)
{
    if (t->user_space)
        return 0;
    if (r->groups_settable && CALL(l, e, SYS_setgroups, 0, 0, 0, 0, 0, 0) < 0)
        return -1;
    if (CALL(l, e, SYS_setfsgid, gid, 0, 0, 0, 0, 0) < 0)
        return -1;
    return CALL(l, e, SYS_setfsuid, uid, 0, 0, 0, 0, 0);
}

int vmas_load(struct restore *r, struct victim *v, const struct task *task, struct err *e)
{
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    uint64_t free_fd = lowest_free_fd(r, task);
    bool own;
    *l = (struct call_list){.v = v, .what = "map its memory"};
    if (vdso_is_own(&task->mm, &own, e) < 0 || own_replace(l, r, task, e) < 0)
        return -1;
    if (rights(l, r, task, r->image->pod.uid, r->image->pod.gid, e) < 0)
        return -1;
    for (size_t k = 0; k < task->mm.vmas_count; k++)
        if (vma_load(r, l, task, &task->mm.vmas[k], free_fd, !own, e) < 0)
            return -1;
    for (size_t k = 0; k < task->mm.vmas_count; k++)
        if (advice_load(l, &task->mm.vmas[k], e) < 0)
            return -1;
    if (rights(l, r, task, 0, 0, e) < 0 || call_flush(l, e) < 0)
        return -1;
    return own ? 0 : vdso_fill(v, &task->mm, e);
}
