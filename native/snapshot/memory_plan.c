/* See memory_plan.h. A page is kept only if it is there, its mapping is watched, nothing says that it was written since the parent's cut,
 * and the parent has it; in any doubt it is read. In the pause not every page is asked what it is, that would take longest of all: a page that is
 * not there is one that nobody armed. */
#include "memory_plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parent_pages.h"

#define SMALL_KIB 1024u
#define QUICK_BYTES (8ul << 20)
#define QUICK_SMALL_BYTES (1ul << 20)
#define NEAR_BYTES (256ul << 10)  /* looked at in one scan */

struct planning {
    const struct mm *parent;
    struct page_ranges had;       /* by the parent */
    struct memory_plan *out;
    int pagemap;
    bool of_copy;                 /* what it does not show was read before */
    bool ask_all;                 /* each page what it is */
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
    page_ranges_free(&p->absent);
    page_ranges_free(&p->seen.unarmed);
    free(p->seen.watched);
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

static void read_add(struct planning *p, const struct vma *m, const struct page_ranges *pages)
{
    struct page_ranges *to = memory_is_forked(m) ? &p->out->copied : &p->out->inside;
    for (size_t k = 0; k < pages->count; k++)
        page_ranges_add(to, pages->items[k].start, pages->items[k].end);
    p->out->read_bytes += page_ranges_bytes(pages);
}

/* ---- watched mappings: what of them */
struct pages {
    struct page_ranges all, written, unarmed, clean, had, kept, rest, read;
};

static void pages_free(struct pages *g)
{
    struct page_ranges *all[] = {&g->all, &g->written, &g->unarmed, &g->clean, &g->had, &g->kept, &g->rest, &g->read};
    for (size_t k = 0; k < ARRAY_LENGTH(all); k++)
        page_ranges_free(all[k]);
}

static void ranges_join(struct page_ranges *to, const struct page_ranges *from)
{
    for (size_t k = 0; k < from->count; k++)
        page_ranges_add(to, from->items[k].start, from->items[k].end);
}

/* Which of these pages are there; what is near is looked at in one scan. */
static int there_find(const struct planning *p, const struct page_ranges *pages, struct page_ranges *out, struct err *e)
{
    PAGE_RANGES struct page_ranges there = {0};
    for (size_t k = 0; k < pages->count;) {
        uint64_t start = pages->items[k].start, end = pages->items[k].end;
        for (k++; k < pages->count && pages->items[k].start - end <= NEAR_BYTES; k++)
            end = pages->items[k].end;
        if (pagemap_present(p->pagemap, start, end, &there, e) < 0)
            return -1;
    }
    page_ranges_common(pages, &there, out);
    return 0;
}

/* Those that are not there are among them. */
static int unarmed_find(const struct planning *p, const struct vma *m, const struct page_ranges *all, struct page_ranges *out, struct err *e)
{
    PAGE_RANGES struct page_ranges there = {0};
    if (!p->ask_all && p->out->seen.told) {
        page_ranges_within(&p->out->seen.unarmed, m->start, m->end, out);
        return 0;
    }
    if (!p->ask_all)
        return pagemap_not_armed(p->pagemap, m->start, m->end, out, e);
    if (pagemap_present(p->pagemap, m->start, m->end, &there, e) < 0)
        return -1;
    page_ranges_without(all, &there, out);
    return 0;
}

static int pages_sort_out(struct planning *p, const struct vma *m, struct pages *g, struct err *e)
{
    PAGE_RANGES struct page_ranges old = {0};
    page_ranges_add(&g->all, m->start, m->end);
    page_ranges_within(&p->out->written, m->start, m->end, &g->written);
    page_ranges_within(&p->had, m->start, m->end, &g->had);
    if (unarmed_find(p, m, &g->all, &g->unarmed, e) < 0)
        return -1;
    page_ranges_without(&g->all, &g->written, &old);
    page_ranges_without(&old, &g->unarmed, &g->clean);
    page_ranges_common(&g->clean, &g->had, &g->kept);
    page_ranges_without(&g->clean, &g->had, &g->rest); /* nobody ever touched it, or there is a doubt */
    page_ranges_without(&g->written, &g->unarmed, &g->read);
    return 0;
}

/* *asked: what is to be looked at yet. */
static int watched_plan(struct planning *p, const struct vma *m, struct page_ranges *asked, struct err *e)
{
    struct pages g = {0};
    int result = pages_sort_out(p, m, &g, e);
    p->out->kept_bytes += page_ranges_bytes(&g.kept);
    ranges_join(&p->out->absent, &g.unarmed);
    ranges_join(asked, &g.rest);
    ranges_join(asked, &g.unarmed);
    read_add(p, m, &g.read);
    pages_free(&g);
    return result;
}

/* ---- other mappings */
static bool is_planned(const struct planning *p, const struct vma *m)
{
    return memory_is_private(m) && (!p->of_copy || memory_is_forked(m));
}

static bool is_watched(const struct planning *p, size_t k)
{
    return p->out->watched && p->out->watched[k];
}

static void within_add(struct planning *p, const struct vma *m, const struct page_ranges *present)
{
    PAGE_RANGES struct page_ranges here = {0};
    page_ranges_within(present, m->start, m->end, &here);
    read_add(p, m, &here);
}

/* Mappings from `first` on with nothing else between them are looked at in one scan: most are small. */
static int run_plan(struct planning *p, const struct mm *mm, size_t first, size_t *end, struct err *e)
{
    PAGE_RANGES struct page_ranges present = {0};
    for (*end = first; *end < mm->vmas_count && is_planned(p, &mm->vmas[*end]) && !is_watched(p, *end);)
        ++*end;
    if (*end == first)
        return ++*end, 0;
    if (pagemap_present(p->pagemap, mm->vmas[first].start, mm->vmas[*end - 1].end, &present, e) < 0)
        return -1;
    for (size_t k = first; k < *end; k++)
        within_add(p, &mm->vmas[k], &present);
    return 0;
}

/* Watched ones from `first` on: there are many where there are many threads. */
static int watched_run_plan(struct planning *p, const struct mm *mm, size_t first, size_t *end, struct err *e)
{
    PAGE_RANGES struct page_ranges asked = {0}, there = {0};
    for (*end = first; *end < mm->vmas_count && is_planned(p, &mm->vmas[*end]) && is_watched(p, *end); ++*end)
        if (watched_plan(p, &mm->vmas[*end], &asked, e) < 0)
            return -1;
    page_ranges_sort(&asked);
    if (there_find(p, &asked, &there, e) < 0)
        return -1;
    for (size_t k = first; k < *end; k++)
        within_add(p, &mm->vmas[k], &there);
    return 0;
}

static int each_plan(struct planning *p, const struct mm *mm, struct err *e)
{
    for (size_t k = 0; k < mm->vmas_count;) {
        bool watched = is_watched(p, k) && is_planned(p, &mm->vmas[k]);
        if (watched ? watched_run_plan(p, mm, k, &k, e) < 0 : run_plan(p, mm, k, &k, e) < 0)
            return -1;
    }
    return 0;
}

static int plan(struct planning *p, const struct victim *from, const struct mm *mm, struct err *e)
{
    AUTO_CLOSE int pagemap = pagemap_open(from->pid, e);
    if (pagemap < 0)
        return -1;
    p->pagemap = pagemap;
    p->ask_all = p->of_copy || !pagemap_tells_holes(); /* a copy is not watched, and the job runs on meanwhile */
    if (p->parent)
        parent_pages_ranges(p->parent, &p->had);
    int result = each_plan(p, mm, e);
    page_ranges_free(&p->had);
    p->out->made = result == 0;
    return result < 0 ? err_wrap(e, "memory of process %d", from->inner_pid) : 0;
}

/* Without looking at every page: no copy in the pause would be quick. */
static bool is_surely_much(const struct page_ranges *written, uint64_t anonymous)
{
    uint64_t quick = anonymous / 8 > QUICK_BYTES ? anonymous / 8 : QUICK_BYTES;
    return page_ranges_bytes(written) > quick + quick / 4 && anonymous > quick + quick / 4;
}

/* A copy is not watched: of the process it must be known which mappings are. */
static int watched_look(const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    out->watched = out->seen.watched;
    out->seen.watched = NULL;
    if (out->watched)
        return 0;
    AUTO_CLOSE int pagemap = pagemap_open(v->pid, e);
    if (pagemap < 0)
        return -1;
    out->watched = xcalloc(mm->vmas_count + 1, sizeof *out->watched);
    for (size_t k = 0; k < mm->vmas_count; k++)
        out->watched[k] = tracks_can_watch(&mm->vmas[k]) && pagemap_is_watched(pagemap, mm->vmas[k].start);
    return 0;
}

int memory_plan_make(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    struct planning p = {.parent = parent_pages_of(s, v), .out = out};
    uint64_t anonymous_kib = v->threads[0].status.rss_anon_kib;
    if (p.parent && !(s->tracks && tracks_written_since(s->tracks, v, &s->image.parent, &out->written)))
        p.parent = NULL;
    if (!p.parent)
        return anonymous_kib > SMALL_KIB ? 0 : plan(&p, v, mm, e);
    if (watched_look(v, mm, out, e) < 0)
        return -1;
    out->later = is_surely_much(&out->written, anonymous_kib * 1024);
    return out->later ? 0 : plan(&p, v, mm, e);
}

int memory_plan_finish(const struct snapshot *s, const struct victim *from, const struct mm *mm, struct memory_plan *out, struct err *e)
{
    struct planning p = {.parent = parent_pages_of(s, from), .out = out, .of_copy = from->expendable};
    for (size_t k = 0; p.of_copy && k < mm->vmas_count; k++)
        out->watched[k] = out->watched[k] && memory_is_forked(&mm->vmas[k]);
    return plan(&p, from, mm, e);
}

void memory_plan_keep(const struct snapshot *s, const struct victim *v, const struct mm *mm, struct memory_plan *out)
{
    const struct mm *parent = parent_pages_of(s, v);
    size_t from = 0;
    out->kept_bytes = 0;
    for (size_t k = 0; out->made && parent && out->watched && k < mm->vmas_count; k++) {
        PAGE_RANGES struct page_ranges all = {0}, written = {0}, absent = {0}, old = {0}, kept = {0};
        if (!out->watched[k])
            continue;
        page_ranges_add(&all, mm->vmas[k].start, mm->vmas[k].end);
        page_ranges_within(&out->written, mm->vmas[k].start, mm->vmas[k].end, &written);
        page_ranges_within(&out->absent, mm->vmas[k].start, mm->vmas[k].end, &absent);
        page_ranges_without(&all, &written, &old);
        page_ranges_without(&old, &absent, &kept);
        for (size_t n = 0; n < kept.count; n++)
            parent_pages_take(parent, &from, kept.items[n].start, kept.items[n].end, out);
    }
    for (size_t k = 0; k < out->kept_count; k++)
        out->kept_bytes += out->kept[k].len;
}
