/* See memory_plan.h. A page is kept only if it is there, its mapping is watched, nothing says that it was written since the parent's cut,
 * and the parent has it; in any doubt it is read. */
#include "memory_plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL_KIB 1024u
#define QUICK_BYTES (8ul << 20)
#define QUICK_SMALL_BYTES (1ul << 20)
#define WASTE_BYTES (64ul << 20)

struct planning {
    const struct snapshot *s;
    const struct mm *parent;
    struct page_ranges written;
    struct memory_plan *out;
    bool of_copy;                 /* what it does not show was read before */
    size_t extent, range;         /* where the walks over the parent's extents and the written ranges stand */
    uint64_t chunk_bytes;         /* of the chunks that kept pages need */
    struct digest last;
    bool lost;                    /* a chunk of the parent is not there: nothing is kept */
};

bool memory_is_private(const struct vma *vma)
{
    bool special = vma->kind == VMA_VDSO || vma->kind == VMA_VVAR || vma->kind == VMA_VVAR_CLOCK;
    return !special && !(vma->flags & VMAF_SHARED);
}

bool memory_is_forked(const struct vma *vma)
{
    return !(vma->advice & (ADV_DONTFORK | ADV_WIPEONFORK));
}

void memory_plan_free(struct memory_plan *p)
{
    page_ranges_free(&p->inside);
    page_ranges_free(&p->copied);
    page_ranges_free(&p->written);
    free(p->watched);
    free(p->kept);
    *p = (struct memory_plan){0};
}

bool memory_plan_is_quick(const struct memory_plan *p)
{
    uint64_t all = p->read_bytes + p->kept_bytes;
    if (!p->made || p->read_bytes <= QUICK_SMALL_BYTES)
        return p->made;
    return p->kept_bytes && p->read_bytes <= (all / 8 > QUICK_BYTES ? all / 8 : QUICK_BYTES);
}

static void read_add(struct planning *p, const struct vma *m, uint64_t start, uint64_t end)
{
    page_ranges_add(memory_is_forked(m) ? &p->out->copied : &p->out->inside, start, end);
    p->out->read_bytes += end - start;
}

static void keep(struct planning *p, const struct extent *from, uint64_t start, uint64_t end)
{
    uint64_t whole = from->whole ? from->whole : from->len;
    bool zero = digest_is_zero(&from->digest);
    if (!zero && memcmp(&p->last, &from->digest, sizeof p->last) != 0) {
        p->lost = p->lost || !store_has(p->s->store, &from->digest);
        p->chunk_bytes += whole;
        p->last = from->digest;
    }
    struct extent *x = list_add((void **)&p->out->kept, &p->out->kept_count, sizeof *x);
    *x = (struct extent){.at = start, .len = end - start, .digest = from->digest};
    if (!zero && end - start < whole) {
        x->skip = from->skip + (start - from->at);
        x->whole = whole;
    }
    p->out->kept_bytes += end - start;
}

/* Clean pages: from the parent, where it has them. */
static void clean_add(struct planning *p, const struct vma *m, uint64_t start, uint64_t end)
{
    const struct extent *all = p->parent->extents;
    while (start < end) {
        while (p->extent < p->parent->extents_count && all[p->extent].at + all[p->extent].len <= start)
            p->extent++;
        const struct extent *x = p->extent < p->parent->extents_count ? &all[p->extent] : NULL;
        if (!x || x->at >= end) {
            read_add(p, m, start, end);
            return;
        }
        if (x->at > start)
            read_add(p, m, start, x->at);
        start = x->at > start ? x->at : start;
        uint64_t to = x->at + x->len < end ? x->at + x->len : end;
        keep(p, x, start, to);
        start = to;
    }
}

static void present_add(struct planning *p, const struct vma *m, uint64_t start, uint64_t end)
{
    while (start < end) {
        while (p->range < p->written.count && p->written.items[p->range].end <= start)
            p->range++;
        const struct page_range *w = p->range < p->written.count ? &p->written.items[p->range] : NULL;
        uint64_t clean_to = !w || w->start >= end ? end : w->start;
        if (clean_to > start) {
            clean_add(p, m, start, clean_to);
            start = clean_to;
            continue;
        }
        uint64_t to = w->end < end ? w->end : end;
        read_add(p, m, start, to);
        start = to;
    }
}

static bool is_planned(const struct planning *p, const struct vma *m)
{
    return memory_is_private(m) && (!p->of_copy || memory_is_forked(m));
}

/* `at`: where the walk over the present pages stands. */
static void vma_plan(struct planning *p, int pagemap, const struct vma *m, const bool *noted, const struct page_ranges *present, size_t *at)
{
    while (*at < present->count && present->items[*at].end <= m->start)
        ++*at;
    if (*at == present->count || present->items[*at].start >= m->end)
        return;
    bool watched = p->parent && tracks_can_watch(m) && (noted ? *noted : pagemap_is_watched(pagemap, m->start));
    for (size_t k = *at; k < present->count && present->items[k].start < m->end; k++) {
        uint64_t start = present->items[k].start > m->start ? present->items[k].start : m->start;
        uint64_t end = present->items[k].end < m->end ? present->items[k].end : m->end;
        if (watched)
            present_add(p, m, start, end);
        else
            read_add(p, m, start, end);
    }
}

/* Mappings from `first` on with nothing else between them are looked at in one scan: most are small. */
static int run_plan(struct planning *p, int pagemap, const struct mm *mm, size_t first, size_t *end, struct err *e)
{
    PAGE_RANGES struct page_ranges present = {0};
    size_t at = 0;
    for (*end = first; *end < mm->vmas_count && is_planned(p, &mm->vmas[*end]);)
        ++*end;
    if (*end == first)
        return ++*end, 0;
    if (pagemap_present(pagemap, mm->vmas[first].start, mm->vmas[*end - 1].end, &present, e) < 0)
        return -1;
    for (size_t k = first; k < *end; k++)
        vma_plan(p, pagemap, &mm->vmas[k], p->out->watched ? &p->out->watched[k] : NULL, &present, &at);
    return 0;
}

static const struct mm *parent_of(const struct snapshot *s, const struct victim *v)
{
    for (size_t k = 0; s->parent && k < s->parent->tasks_count; k++)
        if (s->parent->tasks[k].pid == (uint64_t)v->inner_pid && s->parent->tasks[k].state != TASK_ZOMBIE)
            return &s->parent->tasks[k].mm;
    return NULL;
}

static int plan(struct planning *p, const struct victim *v, const struct mm *mm, struct err *e)
{
    AUTO_CLOSE int pagemap = pagemap_open(v->pid, e);
    if (pagemap < 0)
        return -1;
    for (size_t k = 0; k < mm->vmas_count;)
        if (run_plan(p, pagemap, mm, k, &k, e) < 0)
            return -1;
    p->out->made = true;
    return 0;
}

/* When the chunks that are needed hold much more than what is needed of them, it is time to write all anew. */
static bool is_wasteful(const struct planning *p)
{
    return p->lost || p->chunk_bytes > 2 * p->out->kept_bytes + WASTE_BYTES;
}

static int whole_plan(struct planning *p, const struct victim *from, const struct mm *mm, struct err *e)
{
    if (plan(p, from, mm, e) < 0)
        return err_wrap(e, "memory of process %d", from->inner_pid);
    if (is_wasteful(p))
        memory_plan_free(p->out);
    return 0;
}

/* Without looking at every page: no copy in the pause would be quick. */
static bool is_surely_much(const struct page_ranges *written, uint64_t anonymous)
{
    uint64_t bytes = 0, quick = anonymous / 8 > QUICK_BYTES ? anonymous / 8 : QUICK_BYTES;
    for (size_t k = 0; k < written->count; k++)
        bytes += written->items[k].end - written->items[k].start;
    return bytes > quick + quick / 4 && anonymous > quick + quick / 4;
}

/* A copy is not watched: of the process it must be known which mappings are. */
static int put_off(const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    AUTO_CLOSE int pagemap = pagemap_open(v->pid, e);
    if (pagemap < 0)
        return -1;
    out->watched = xcalloc(mm->vmas_count + 1, sizeof *out->watched);
    for (size_t k = 0; k < mm->vmas_count; k++)
        out->watched[k] = tracks_can_watch(&mm->vmas[k]) && pagemap_is_watched(pagemap, mm->vmas[k].start);
    out->later = true;
    return 0;
}

int memory_plan_make(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    PAGE_RANGES struct page_ranges written = {0};
    struct planning p = {.s = s, .out = out};
    const struct mm *parent = parent_of(s, v);
    if (s->tracks && parent && tracks_written_since(s->tracks, v, &s->image.parent, &written))
        p.parent = parent;
    p.written = written;
    if (!p.parent && v->threads[0].status.rss_anon_kib > SMALL_KIB)
        return 0;
    if (!p.parent || !is_surely_much(&written, v->threads[0].status.rss_anon_kib * 1024))
        return whole_plan(&p, v, mm, e);
    out->written = written;
    written = (struct page_ranges){0};
    return put_off(v, mm, out, e);
}

int memory_plan_finish(const struct snapshot *s, const struct victim *from, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    struct planning p = {.s = s, .out = out, .parent = parent_of(s, from), .written = out->written, .of_copy = from->expendable};
    return whole_plan(&p, from, mm, e);
}
