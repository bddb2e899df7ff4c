/* See vdso.h. */
#include "vdso.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define MARGIN_BYTES (64ul << 10)
#define STACK_ROOM_BYTES (64ul << 20)
#define ADDRESS_BEGIN 0x10000ul
#define ADDRESS_END 0x7ffffffff000ul

/* ---- this kernel's */
static struct own {
    uint64_t start, len[VMA_VVAR_CLOCK + 1]; /* of the code; by kind, 0: this kernel has none */
} own;

static int own_look(struct err *e)
{
    PROC_MAPS struct proc_maps maps = {0};
    if (own.start)
        return 0;
    if (proc_maps_read(getpid(), false, &maps, e) < 0)
        return -1;
    for (size_t k = 0; k < maps.count; k++) {
        uint64_t kind = vdso_kind(maps.items[k].path);
        own.len[kind] = maps.items[k].end - maps.items[k].start;
        if (kind == VMA_VDSO)
            own.start = maps.items[k].start;
    }
    return own.start ? 0 : err_set(e, E_UNSUPPORTED, "this kernel gives programs no vDSO");
}

uint64_t vdso_kind(const char *path)
{
    return strcmp(path, "[vdso]") == 0          ? VMA_VDSO
           : strcmp(path, "[vvar]") == 0        ? VMA_VVAR
           : strcmp(path, "[vvar_vclock]") == 0 ? VMA_VVAR_CLOCK
                                                 : 0;
}

static const struct vma *special_find(const struct mm *mm, uint64_t kind)
{
    for (size_t k = 0; k < mm->vmas_count; k++)
        if (mm->vmas[k].kind == kind)
            return &mm->vmas[k];
    return NULL;
}

int vdso_is_own(const struct mm *mm, bool *out, struct err *e)
{
    static const uint64_t kinds[] = {VMA_VDSO, VMA_VVAR, VMA_VVAR_CLOCK};
    *out = true;
    if (own_look(e) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(kinds); k++) {
        const struct vma *v = special_find(mm, kinds[k]);
        *out = *out && (!v || v->end - v->start == own.len[kinds[k]]);
    }
    const struct vma *code = special_find(mm, VMA_VDSO);
    if (code && (getenv("CLUSTEROS_OTHER_KERNEL") /* for tests */ || mm->vdso.len != own.len[VMA_VDSO]))
        *out = false;
    *out = *out && (!code || memcmp(mm->vdso.data, (const void *)(uintptr_t)own.start, mm->vdso.len) == 0);
    return 0;
}

/* ---- another kernel's */
static int redirected(const struct mm *mm, uint64_t at, struct bytes *out, struct err *e)
{
    const struct vma *code = special_find(mm, VMA_VDSO);
    if (!code)
        return err_set(e, E_UNSUPPORTED, "the image was made under another kernel, and its process has given its vDSO back");
    if (mm->vdso.len > code->end - code->start)
        return err_set(e, E_BAD_IMAGE, "the vDSO has another size than its mapping");
    bytes_set(out, mm->vdso.data, mm->vdso.len);
    return vdso_redirect(out->data, out->len, (const void *)(uintptr_t)own.start, own.len[VMA_VDSO], at, e);
}

int vdso_check(const struct mm *mm, struct err *e)
{
    struct bytes code = {0};
    bool same;
    if (vdso_is_own(mm, &same, e) < 0)
        return -1;
    int result = same ? 0 : redirected(mm, 0, &code, e);
    free(code.data);
    return result;
}

/* Below the lowest of what is above, from above; not where a stack grows. */
static int place_find(const struct mm *mm, uint64_t taken, uint64_t taken_end, uint64_t len, uint64_t *at, struct err *e)
{
    for (size_t k = mm->vmas_count + 1; k-- > 0;) { /* ascending: the gaps from above */
        const struct vma *above = k < mm->vmas_count ? &mm->vmas[k] : NULL, *below = k > 0 ? &mm->vmas[k - 1] : NULL;
        uint64_t end = above ? above->start : ADDRESS_END, begin = below ? below->end : ADDRESS_BEGIN;
        uint64_t aside = above && above->flags & VMAF_GROWSDOWN ? STACK_ROOM_BYTES : MARGIN_BYTES;
        if (begin > end || end - begin < len + aside + MARGIN_BYTES)
            continue;
        *at = end - aside - len;
        if (*at >= taken_end || *at + len <= taken)
            return 0;
    }
    return err_set(e, E_UNSUPPORTED, "no free address range for this kernel's vDSO");
}

int vdso_aside(const struct mm *mm, const struct proc_maps *now, uint64_t taken, uint64_t taken_end, uint64_t *aside, struct err *e)
{
    bool same;
    uint64_t start = 0, end = 0;
    *aside = 0;
    if (vdso_is_own(mm, &same, e) < 0)
        return -1;
    if (same)
        return 0;
    for (size_t k = 0; k < now->count; k++)
        if (vdso_kind(now->items[k].path)) {
            start = start ? start : now->items[k].start;
            end = now->items[k].end;
        }
    return place_find(mm, taken, taken_end, end - start, aside, e);
}

/* 0: the process has had no such page. */
static uint64_t place_of(const struct proc_map *m, const struct proc_maps *now, const struct mm *mm, uint64_t aside)
{
    size_t first = 0;
    const struct vma *to = special_find(mm, vdso_kind(m->path));
    while (!vdso_kind(now->items[first].path))
        first++;
    if (aside)
        return aside + m->start - now->items[first].start;
    return to ? to->start : 0;
}

int vdso_back(struct call_list *l, const struct proc_maps *now, const struct mm *mm, uint64_t waiting, uint64_t aside, struct err *e)
{
    for (size_t k = 0; k < now->count; k++) {
        const struct proc_map *m = &now->items[k];
        uint64_t len = m->end - m->start, kind = vdso_kind(m->path);
        if (!kind)
            continue;
        uint64_t to = place_of(m, now, mm, aside);
        if (to && CALL(l, e, SYS_mremap, waiting, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to, 0) < 0)
            return -1;
        if (!to && CALL(l, e, SYS_munmap, waiting, len, 0, 0, 0, 0) < 0)
            return -1;
        if (to && kind == VMA_VDSO && l->v->tail - m->start < len)
            l->v->tail += to - m->start;
        waiting += len;
    }
    return 0;
}

int vdso_fill(const struct victim *v, const struct mm *mm, struct err *e)
{
    PROC_MAPS struct proc_maps now = {0};
    struct bytes code = {0};
    uint64_t at = 0;
    if (proc_maps_read(v->pid, false, &now, e) < 0)
        return -1;
    for (size_t k = 0; k < now.count; k++)
        if (vdso_kind(now.items[k].path) == VMA_VDSO)
            at = now.items[k].start;
    int result = redirected(mm, at, &code, e);
    if (result == 0)
        result = victim_write(v, special_find(mm, VMA_VDSO)->start, code.data, code.len, e);
    free(code.data);
    return result;
}
