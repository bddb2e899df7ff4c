/* See share.h. */
#include "share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../store/store.h"
#include "huge.h"

#define SMALL_BYTES (2ul << 20)
#define SHARES_MAX 65536ul
#define PATIENCE_NS_PER_BYTE 20ul /* 50 MB/s */
#define FLAGS_ALIKE (VMAF_SHARED | VMAF_GROWSDOWN | VMAF_NORESERVE | VMAF_HUGETLB)

/* ---- who is related */

static bool are_related(const struct task *a, const struct task *b)
{
    const struct mm *x = &a->mm, *y = &b->mm;
    return a->state != TASK_ZOMBIE && b->state != TASK_ZOMBIE && x->start_stack == y->start_stack && x->start_brk == y->start_brk &&
           x->start_code == y->start_code && x->arg_start == y->arg_start && strcmp(x->exe, y->exe) == 0;
}

static size_t first_of_relatives(const struct image *image, size_t task)
{
    for (size_t k = 0; k < task; k++)
        if (are_related(&image->tasks[k], &image->tasks[task]))
            return k;
    return task;
}

static bool is_forked_from(const struct restore *r, size_t task, size_t ancestor)
{
    while (task != ancestor && task != BIRTH_INIT)
        task = r->births[task].parent;
    return task == ancestor;
}

/* The first of the relatives, when it is the ancestor of all others. */
static size_t builder_of(const struct restore *r, size_t model)
{
    for (size_t k = model + 1; k < r->image->tasks_count; k++)
        if (are_related(&r->image->tasks[model], &r->image->tasks[k]) && !is_forked_from(r, k, model))
            return BIRTH_INIT;
    return model;
}

/* ---- what they have in common */

static bool is_plain(const struct vma *v)
{
    return (v->kind == VMA_ANON || v->kind == VMA_HEAP) && !(v->flags & (VMAF_SHARED | VMAF_GROWSDOWN | VMAF_HUGETLB)) &&
           !(v->advice & (ADV_DONTFORK | ADV_WIPEONFORK));
}

/* Huge pages are set aside for whoever has mapped them, and for none of its children: they come from the process that they had them from, or not at all. */
static bool is_huge(const struct vma *v)
{
    return v->kind == VMA_ANON && v->flags & VMAF_HUGETLB && !(v->flags & (VMAF_SHARED | VMAF_NORESERVE)) && !(v->advice & ADV_DONTFORK);
}

static const struct vma *vma_at(const struct mm *mm, uint64_t start)
{
    size_t k = FIRST_NOT(mm->vmas_count, n, mm->vmas[n].start < start);
    return k < mm->vmas_count && mm->vmas[k].start == start ? &mm->vmas[k] : NULL;
}

static bool is_alike(const struct vma *a, const struct vma *b)
{
    if (is_huge(a) || is_huge(b))
        return is_huge(a) && is_huge(b) && a->start == b->start && a->end == b->end && a->page_bytes == b->page_bytes;
    return a->start == b->start && is_plain(a) && is_plain(b) && (a->flags & FLAGS_ALIKE) == (b->flags & FLAGS_ALIKE);
}

/* The first extent that ends behind the address. */
static size_t extent_from(const struct mm *mm, uint64_t address)
{
    return FIRST_NOT(mm->extents_count, k, mm->extents[k].at + mm->extents[k].len <= address);
}

static bool is_same_extent(const struct extent *a, const struct extent *b)
{
    return a->at == b->at && a->len == b->len && a->skip == b->skip && a->whole == b->whole && memcmp(&a->digest, &b->digest, sizeof a->digest) == 0;
}

static bool has_extent(const struct mm *mm, const struct extent *x)
{
    size_t k = extent_from(mm, x->at);
    return k < mm->extents_count && is_same_extent(&mm->extents[k], x);
}

bool share_is_in(const struct mm *model, const struct extent *x)
{
    return has_extent(model, x);
}

static bool is_worth_it(const struct mm *model, const struct mm *other, const struct vma *v)
{
    size_t k = extent_from(model, v->start);
    if (k == model->extents_count || model->extents[k].at >= v->end)
        return false;
    if (v->end - v->start <= SMALL_BYTES && !is_huge(v))
        return true;
    for (; k < model->extents_count && model->extents[k].at < v->end; k++)
        if (!digest_is_zero(&model->extents[k].digest) && has_extent(other, &model->extents[k]))
            return true;
    return false;
}

static bool share_find(const struct restore *r, size_t model, const struct vma *v, uint64_t *end)
{
    const struct task *t = &r->image->tasks[model];
    bool worth = false;
    *end = v->end;
    for (size_t k = model + 1; k < r->image->tasks_count; k++) {
        const struct task *other = &r->image->tasks[k];
        const struct vma *same = are_related(t, other) ? vma_at(&other->mm, v->start) : NULL;
        if (!same || !is_alike(v, same))
            continue;
        worth = worth || is_worth_it(&t->mm, &other->mm, v);
        *end = same->end > *end ? same->end : *end;
    }
    return worth;
}

static void model_plan(struct restore *r, size_t model)
{
    const struct mm *mm = &r->image->tasks[model].mm;
    size_t builder = builder_of(r, model);
    for (size_t k = 0; k < mm->vmas_count && r->shares_count < SHARES_MAX; k++) {
        uint64_t end;
        bool fit = is_plain(&mm->vmas[k]) || (is_huge(&mm->vmas[k]) && builder != BIRTH_INIT);
        if (fit && share_find(r, model, &mm->vmas[k], &end))
            r->shares[r->shares_count++] = (struct shared_vma){.model = model, .builder = builder, .vma = &mm->vmas[k], .end = end};
    }
}

int shares_plan(struct restore *r, struct err *e)
{
    r->shares = mmap(NULL, SHARES_MAX * sizeof *r->shares, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->shares == MAP_FAILED)
        return err_errno(e, "map the list of shared memory");
    r->share_models = xcalloc(r->image->tasks_count + 1, sizeof *r->share_models);
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        r->share_models[k] = first_of_relatives(r->image, k);
        if (r->share_models[k] == k && r->image->tasks[k].state != TASK_ZOMBIE)
            model_plan(r, k);
    }
    return 0;
}

void shares_plan_free(struct restore *r)
{
    if (r->shares && r->shares != MAP_FAILED)
        munmap(r->shares, SHARES_MAX * sizeof *r->shares);
    r->shares = NULL;
    free(r->share_models);
    r->share_models = NULL;
}

/* ---- in the builder */

static int memory_put(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)ctx, (void)e;
    if (data)
        memcpy((void *)(uintptr_t)at, data, len);
    return 0;
}

static void extents_within(const struct mm *mm, const struct vma *v, size_t *first, size_t *count)
{
    *first = extent_from(mm, v->start);
    *count = 0;
    if (*first < mm->extents_count && mm->extents[*first].at < v->start)
        ++*first; /* of two mappings side by side: everybody fills that one alone */
    while (*first + *count < mm->extents_count && mm->extents[*first + *count].at + mm->extents[*first + *count].len <= v->end)
        ++*count;
}

/* Where the engine itself stands the mapping is not made, and every process fills its own. */
static int share_build(struct restore *r, struct shared_vma *s, struct err *e)
{
    const struct mm *mm = &r->image->tasks[s->model].mm;
    size_t first, count, len = s->end - s->vma->start;
    void *wanted = (void *)(uintptr_t)s->vma->start;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | (s->vma->flags & VMAF_NORESERVE ? MAP_NORESERVE : 0);
    flags |= is_huge(s->vma) ? MAP_HUGETLB | (int)huge_size_flags(s->vma->page_bytes) : 0;
    void *at = mmap(wanted, len, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at != wanted) {
        if (at != MAP_FAILED)
            munmap(at, len);
        return 0;
    }
    extents_within(mm, s->vma, &first, &count);
    if (store_get_ranges(r->store, mm->extents + first, count, memory_put, NULL, e) < 0)
        return err_wrap(e, "memory that processes have in common");
    s->there = true;
    return 0;
}

int shares_build(struct restore *r, size_t builder, struct err *e)
{
    for (size_t k = 0; k < r->shares_count; k++)
        if (r->shares[k].builder == builder && share_build(r, &r->shares[k], e) < 0)
            return -1;
    return 0;
}

void shares_forget(struct restore *r)
{
    for (size_t k = 0; k < r->shares_count; k++)
        if (r->shares[k].builder == BIRTH_INIT && r->shares[k].there)
            munmap((void *)(uintptr_t)r->shares[k].vma->start, r->shares[k].end - r->shares[k].vma->start);
}

uint64_t shares_patience_ns(const struct restore *r)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < r->shares_count; k++) {
        const struct mm *mm = &r->image->tasks[r->shares[k].model].mm;
        size_t first, count;
        extents_within(mm, r->shares[k].vma, &first, &count);
        for (size_t i = first; i < first + count; i++)
            bytes += mm->extents[i].len;
    }
    return bytes * PATIENCE_NS_PER_BYTE;
}

/* ---- in those that have it */

const struct shared_vma *share_planned(const struct restore *r, size_t task, const struct vma *vma)
{
    const struct shared_vma *all = r->shares;
    size_t model = r->share_models[task];
    size_t k = FIRST_NOT(r->shares_count, n, all[n].model < model || (all[n].model == model && all[n].vma->start < vma->start));
    bool found = k < r->shares_count && all[k].model == model && all[k].vma->start == vma->start;
    return found && is_alike(all[k].vma, vma) ? &all[k] : NULL;
}

const struct shared_vma *share_of(const struct restore *r, size_t task, const struct vma *vma)
{
    const struct shared_vma *s = share_planned(r, task, vma);
    return s && s->there ? s : NULL;
}

bool share_has(const struct restore *r, const struct shared_vma *s, uint64_t at, uint64_t len)
{
    const struct mm *model = &r->image->tasks[s->model].mm;
    size_t k = extent_from(model, at);
    return k < model->extents_count && model->extents[k].at < at + len;
}

static void range_gone(struct range **gone, size_t *count, uint64_t start, uint64_t end)
{
    if (start < end)
        *(struct range *)list_add((void **)gone, count, sizeof **gone) = (struct range){start, end};
}

/* What the model had in the mapping, less what the task has. */
static void gone_find(const struct mm *model, const struct mm *own, uint64_t from, uint64_t to, struct range **gone, size_t *count)
{
    size_t k = extent_from(own, from);
    for (size_t m = extent_from(model, from); m < model->extents_count && model->extents[m].at < to; m++) {
        uint64_t at = model->extents[m].at, end = at + model->extents[m].len < to ? at + model->extents[m].len : to;
        at = at < from ? from : at;
        while (k < own->extents_count && own->extents[k].at + own->extents[k].len <= at)
            k++;
        for (size_t i = k; at < end; i++) {
            bool more = i < own->extents_count && own->extents[i].at < end;
            range_gone(gone, count, at, more ? own->extents[i].at : end);
            at = more ? own->extents[i].at + own->extents[i].len : end;
        }
    }
}

/* As far as the builder has filled it. */
static uint64_t kept_end(const struct shared_vma *s, const struct vma *v)
{
    return v->end < s->vma->end ? v->end : s->vma->end;
}

void share_split(const struct restore *r, size_t task, struct extent **wanted, size_t *wanted_count, struct range **gone, size_t *gone_count)
{
    const struct mm *mm = &r->image->tasks[task].mm;
    size_t v = 0;
    const struct shared_vma *s = NULL;
    *wanted = xcalloc(mm->extents_count + 1, sizeof **wanted);
    for (size_t k = 0, looked = SIZE_MAX; k < mm->extents_count; k++) {
        while (v < mm->vmas_count && mm->vmas[v].end <= mm->extents[k].at)
            v++;
        if (looked != v)
            s = v < mm->vmas_count ? share_of(r, task, &mm->vmas[v]) : NULL;
        looked = v;
        bool in_place = s && mm->extents[k].at + mm->extents[k].len <= kept_end(s, &mm->vmas[v]) &&
                        has_extent(&r->image->tasks[s->model].mm, &mm->extents[k]);
        if (!in_place)
            (*wanted)[(*wanted_count)++] = mm->extents[k];
    }
    for (size_t k = 0; k < mm->vmas_count; k++) {
        s = share_of(r, task, &mm->vmas[k]);
        if (s && s->model != task)
            gone_find(&r->image->tasks[s->model].mm, mm, mm->vmas[k].start, kept_end(s, &mm->vmas[k]), gone, gone_count);
    }
}
