/* See parent_pages.h. */
#include "parent_pages.h"

#include <stdlib.h>
#include <string.h>

#define WASTE_BYTES (64ul << 20)

static uint64_t whole_of(const struct extent *x)
{
    return x->whole ? x->whole : x->len;
}

static int chunk_order(const void *a, const void *b)
{
    const struct extent *const *x = a, *const *y = b;
    return memcmp(&(*x)->digest, &(*y)->digest, sizeof (*x)->digest);
}

/* Each chunk counts once, however many extents it serves. */
static bool is_of_use(const struct snapshot *s, const struct mm *mm)
{
    AUTO_FREE const struct extent **all = xcalloc(mm->extents_count + 1, sizeof(const struct extent *));
    uint64_t needed = 0, held = 0;
    size_t count = 0;
    for (size_t k = 0; k < mm->extents_count; k++)
        if (!digest_is_zero(&mm->extents[k].digest))
            all[count++] = &mm->extents[k];
    qsort(all, count, sizeof *all, chunk_order);
    for (size_t k = 0; k < count; k++) {
        needed += all[k]->len;
        if (k && chunk_order(&all[k - 1], &all[k]) == 0)
            continue;
        held += whole_of(all[k]);
        if (!store_has(s->store, &all[k]->digest))
            return false;
    }
    return held <= 2 * needed + WASTE_BYTES;
}

void parent_pages_look(struct snapshot *s)
{
    if (!s->parent)
        return;
    s->parent_of_use = xcalloc(s->parent->tasks_count + 1, sizeof *s->parent_of_use);
    for (size_t k = 0; k < s->parent->tasks_count; k++)
        s->parent_of_use[k] = s->parent->tasks[k].state != TASK_ZOMBIE && is_of_use(s, &s->parent->tasks[k].mm);
}

void parent_pages_free(struct snapshot *s)
{
    free(s->parent_of_use);
    s->parent_of_use = NULL;
}

const struct mm *parent_pages_of(const struct snapshot *s, const struct victim *v)
{
    for (size_t k = 0; s->parent_of_use && k < s->parent->tasks_count; k++)
        if (s->parent->tasks[k].pid == (uint64_t)v->inner_pid && s->parent_of_use[k])
            return &s->parent->tasks[k].mm;
    return NULL;
}

void parent_pages_ranges(const struct mm *parent, struct page_ranges *out)
{
    for (size_t k = 0; k < parent->extents_count; k++)
        page_ranges_add(out, parent->extents[k].at, parent->extents[k].at + parent->extents[k].len);
}

static void keep(const struct extent *from, uint64_t start, uint64_t end, struct memory_plan *out)
{
    struct extent *x = list_add((void **)&out->kept, &out->kept_count, sizeof *x);
    *x = (struct extent){.at = start, .len = end - start, .digest = from->digest};
    if (!digest_is_zero(&from->digest) && end - start < whole_of(from)) {
        x->skip = from->skip + (start - from->at);
        x->whole = whole_of(from);
    }
}

void parent_pages_take(const struct mm *parent, size_t *from, uint64_t start, uint64_t end, struct memory_plan *out)
{
    const struct extent *all = parent->extents;
    while (*from < parent->extents_count && all[*from].at + all[*from].len <= start)
        ++*from;
    for (size_t k = *from; k < parent->extents_count && all[k].at < end; k++) {
        uint64_t until = all[k].at + all[k].len;
        keep(&all[k], all[k].at > start ? all[k].at : start, until < end ? until : end, out);
    }
}
