/* A cut, of one process: what it wrote since the last look, and new memory to be watched. In the pause not every page is asked what it is, that would take
 * longest of all: the kernel is quick to tell what is not armed, and only that is looked at and armed. */
#include "track.h"

#include <string.h>

#define ARM_IN_PAUSE_BYTES (64ul << 20)
#define NEAR_BYTES (256ul << 10)  /* looked at in one scan */

struct cut {
    int pagemap, uffd;
    const struct mm *mm;
    bool *watched;                  /* of each mapping */
    struct page_ranges unarmed;     /* of all of them */
    struct page_ranges fresh, asked; /* mappings that are watched from now on; what is looked at */
};

static void cut_free(struct cut *c)
{
    struct page_ranges *all[] = {&c->unarmed, &c->fresh, &c->asked};
    for (size_t k = 0; k < ARRAY_LENGTH(all); k++)
        page_ranges_free(all[k]);
}

static void ranges_join(struct page_ranges *to, const struct page_ranges *from)
{
    for (size_t k = 0; k < from->count; k++)
        page_ranges_add(to, from->items[k].start, from->items[k].end);
}

static int mapping_look(struct cut *c, size_t k, struct err *e)
{
    PAGE_RANGES struct page_ranges here = {0};
    const struct vma *m = &c->mm->vmas[k];
    bool known = pagemap_is_watched(c->pagemap, m->start);
    if (!known && !uffd_register(c->uffd, m->start, m->end))
        return 0;
    c->watched[k] = true;
    if (!known)
        page_ranges_add(&c->fresh, m->start, m->end);
    else if (!pagemap_tells_holes())
        page_ranges_add(&c->asked, m->start, m->end);
    else if (pagemap_not_armed(c->pagemap, m->start, m->end, &here, e) < 0)
        return -1;
    ranges_join(&c->asked, &here);
    ranges_join(&c->unarmed, &here);
    if (!known)
        page_ranges_add(&c->unarmed, m->start, m->end);
    return 0;
}

/* Mappings from `first` to `end` with nothing else between them: a process with many threads has thousands. Mostly all are watched. */
static int run_look(struct cut *c, size_t first, size_t end, struct err *e)
{
    PAGE_RANGES struct page_ranges here = {0};
    uint64_t from = c->mm->vmas[first].start, until = c->mm->vmas[end - 1].end;
    int some_are_not = pagemap_tells_holes() ? pagemap_not_armed_all(c->pagemap, from, until, &here, e) : 1;
    if (some_are_not < 0)
        return -1;
    ranges_join(&c->asked, &here);
    ranges_join(&c->unarmed, &here);
    for (size_t k = first; k < end; k++) {
        c->watched[k] = !some_are_not;
        if (some_are_not && mapping_look(c, k, e) < 0)
            return -1;
    }
    return 0;
}

static int asked_arm(const struct cut *c, struct page_ranges *written, struct err *e)
{
    const struct page_ranges *l = &c->asked;
    for (size_t k = 0; k < l->count;) {
        uint64_t start = l->items[k].start, end = l->items[k].end;
        for (k++; k < l->count && l->items[k].start - end <= NEAR_BYTES; k++)
            end = l->items[k].end;
        if (pagemap_written(c->pagemap, start, end, written, e) < 0)
            return -1;
    }
    return 0;
}

static int runs_look(struct cut *c, struct err *e)
{
    const struct mm *mm = c->mm;
    for (size_t k = 0, end; k < mm->vmas_count; k = end) {
        for (end = k; end < mm->vmas_count && tracks_can_watch(&mm->vmas[end]);)
            end++;
        if (end > k && run_look(c, k, end, e) < 0)
            return -1;
        end += end == k;
    }
    return 0;
}

/* New memory is armed at once when that is quick; else by the look before the next stop, and until then all its pages count as written. */
static int mappings_look(struct cut *c, bool *much, struct err *e)
{
    if (runs_look(c, e) < 0)
        return -1;
    *much = page_ranges_bytes(&c->fresh) > ARM_IN_PAUSE_BYTES;
    if (!*much)
        ranges_join(&c->asked, &c->fresh);
    page_ranges_sort(&c->asked);
    return 0;
}

static bool is_any(const bool *of, size_t count)
{
    return memchr(of, true, count) != NULL;
}

int track_cut(struct track *t, const struct mm *mm, struct cut_seen *out, struct err *e)
{
    PAGE_RANGES struct page_ranges armed = {0};
    struct page_ranges *written = &t->epochs[t->epoch_count - 1].written;
    AUTO_CLOSE int pagemap = pagemap_open(t->pid, e);
    struct cut c = {.pagemap = pagemap, .uffd = t->uffd, .mm = mm, .watched = xcalloc(mm->vmas_count + 1, sizeof *c.watched)};
    bool much = false;
    int result = pagemap < 0 || mappings_look(&c, &much, e) < 0 || asked_arm(&c, &armed, e) < 0 ? -1 : 0;
    ranges_join(written, &c.fresh);
    ranges_join(written, &armed);
    page_ranges_sort(written);
    t->fresh = much && !t->armed;
    out->any = is_any(c.watched, mm->vmas_count);
    out->watched = c.watched;
    out->told = pagemap_tells_holes();
    page_ranges_without(&c.unarmed, &armed, &out->unarmed);
    cut_free(&c);
    return result;
}
