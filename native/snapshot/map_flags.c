/* See map_flags.h. In a copy decides every mapping, for a missing one would be missing content; in the process itself, which may have changed
 * its mappings since, those that are still the same. */
#include "map_flags.h"

#include <stdlib.h>
#include <string.h>

#include "../pod/state.h"
#include "../store/crew.h"

struct looking {
    const pid_t *pids;
    struct map_flags_of *found; /* parallel; pid 0: gone */
};

static int one_look(void *ctx, size_t worker, size_t k, struct err *e)
{
    const struct looking *l = ctx;
    struct err gone;
    struct map_flags_of one = {.pid = l->pids[k], .start_time = process_start(l->pids[k])};
    (void)worker, (void)e;
    if (proc_maps_read(one.pid, true, &one.maps, &gone) == 0)
        l->found[k] = one;
    else
        proc_maps_free(&one.maps);
    return 0;
}

int map_flags_look(const struct pod *pod, struct map_flags *out, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    size_t count;
    if (pod_pids(pod, &pids, &count, e) < 0)
        return -1;
    out->items = xcalloc(count + 1, sizeof *out->items);
    if (crew_work(count, one_look, &(struct looking){pids, out->items}, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        if (out->items[k].pid)
            out->items[out->count++] = out->items[k];
    return 0;
}

void map_flags_free(struct map_flags *f)
{
    for (size_t k = 0; k < f->count; k++)
        proc_maps_free(&f->items[k].maps);
    free(f->items);
    *f = (struct map_flags){0};
}

static bool is_same(const struct proc_map *a, const struct proc_map *b)
{
    return a->start == b->start && a->end == b->end && a->prot == b->prot && a->shared == b->shared && a->offset == b->offset &&
           a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && strcmp(a->path, b->path) == 0;
}

/* Both are ascending: `*at` goes along. */
static const struct proc_map *map_at(const struct proc_maps *maps, uint64_t start, size_t *at)
{
    while (*at < maps->count && maps->items[*at].start < start)
        ++*at;
    return *at < maps->count && maps->items[*at].start == start ? &maps->items[*at] : NULL;
}

static bool flags_copy(const struct proc_maps *from, struct proc_maps *to)
{
    size_t at = 0;
    for (size_t k = 0; k < to->count; k++) {
        struct proc_map *m = &to->items[k];
        const struct proc_map *known = map_at(from, m->start, &at);
        if (strcmp(m->path, "[vsyscall]") == 0)
            continue;
        if (!known || !is_same(known, m))
            return false;
        memcpy(m->vmflags, known->vmflags, sizeof m->vmflags);
        m->page_bytes = known->page_bytes;
    }
    return true;
}

bool map_flags_give(const struct map_flags *f, struct victim *v)
{
    for (size_t k = 0; k < f->count; k++)
        if (f->items[k].pid == v->pid && f->items[k].start_time == v->start_time)
            return v->flags_given = flags_copy(&f->items[k].maps, &v->maps);
    return false;
}

/* Every flag of a but those that are ours (userfaultfd) or that a copy does not inherit (mlock) is one of b. */
static bool flags_within(const struct proc_map *a, const struct proc_map *b, bool copy)
{
    for (const char *at = a->vmflags; (at += strspn(at, " ")) && *at; at += 2) {
        const char flag[3] = {at[0], at[1], 0};
        bool ignored = strcmp(flag, "uw") == 0 || (copy && (strcmp(flag, "lo") == 0 || strcmp(flag, "lf") == 0));
        if (!ignored && !proc_map_has(b, flag))
            return false;
    }
    return true;
}

/* The mapping that holds the place `start`, or the next one. */
static const struct proc_map *map_over(const struct proc_maps *maps, uint64_t start, size_t *at)
{
    while (*at < maps->count && maps->items[*at].end <= start)
        ++*at;
    return *at < maps->count ? &maps->items[*at] : NULL;
}

/* What is watched since the cut may have become one mapping with its neighbour: in the copy the place counts. */
static bool is_confirmed(const struct proc_map *m, const struct proc_map *now, bool copy)
{
    if (copy && proc_map_has(m, "dc"))
        return !now || now->start >= m->end;
    bool found = now && (copy ? now->start <= m->start && now->end >= m->end : is_same(m, now));
    return found ? flags_within(m, now, copy) && flags_within(now, m, copy) : !copy;
}

int map_flags_confirm(const struct victim *v, pid_t copy, struct err *e)
{
    PROC_MAPS struct proc_maps now = {0};
    struct err gone;
    size_t at = 0;
    if (!v->flags_given)
        return 0;
    if (proc_maps_read(copy ? copy : v->pid, true, &now, copy ? e : &gone) < 0)
        return copy ? -1 : 0;
    for (size_t k = 0; k < v->maps.count; k++) {
        const struct proc_map *m = &v->maps.items[k];
        bool special = strcmp(m->path, "[vsyscall]") == 0;
        if (!special && !is_confirmed(m, map_over(&now, m->start, &at), copy != 0))
            return err_set(e, E_BUSY, "process %d changed the flags of a mapping (0x%lx) while it was looked at", v->inner_pid, m->start);
    }
    return 0;
}
