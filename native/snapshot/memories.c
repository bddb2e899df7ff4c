/* See memories.h. */
#include "memories.h"

#include <stdlib.h>
#include <time.h>

#include "../base/fiber.h"
#include "../pod/state.h"
#include "../store/crew.h"
#include "copy_first.h"
#include "cow.h"
#include "map_flags.h"
#include "seccomp_save.h"
#include "../base/urgent.h"

#define REAP_NS 1000000000ul

struct cutting {
    struct memories *m;
    struct snapshot *s;
    bool live;
};

static bool is_alive(const struct snapshot *s, size_t k)
{
    return s->victims[k].thread_count > 0;
}

/* What is injected for a copy or for the watching would have to pass the process's own filters. */
static bool is_filtered(const struct snapshot *s, size_t k)
{
    return s->victims[k].threads[0].status.seccomp_filters > filters_of_pod(s->pod);
}

static int track_join(void *ctx, size_t k, struct err *e)
{
    struct snapshot *s = ((struct cutting *)ctx)->s;
    return is_alive(s, k) && !is_filtered(s, k) ? tracks_join(s->tracks, &s->victims[k], e) : 0;
}

/* No call in the process: any thread may do it. */
static int written_look(void *ctx, size_t worker, size_t k, struct err *e)
{
    const struct cutting *c = ctx;
    struct snapshot *s = c->s;
    (void)worker;
    if (!is_alive(s, k))
        return 0;
    if (s->tracks && !is_filtered(s, k))
        tracks_cut(s->tracks, &s->victims[k], &s->image.tasks[k].mm, &c->m->plans[k].seen);
    return c->live ? memory_plan_make(s, &s->victims[k], &s->image.tasks[k].mm, &c->m->plans[k], e) : 0;
}

/* While a copy lives, every page that the job writes exists twice: a pod near its limit would be killed for it. */
static bool has_room_for_copies(const struct memories *m, const struct snapshot *s)
{
    uint64_t anonymous = 0, limit = s->pod->facts.mem_bytes;
    for (size_t k = 0; k < m->count; k++)
        if (is_alive(s, k) && !memory_plan_is_quick(&m->plans[k]))
            anonymous += s->victims[k].threads[0].status.rss_anon_kib * 1024;
    return anonymous + anonymous / 8 < memory_available_bytes() && (!limit || 2 * anonymous + anonymous / 8 < limit);
}

/* A copy becomes podinit's child: not where a process of the job collects its descendants. */
static bool copies_allowed(const struct memories *m, const struct snapshot *s)
{
    for (size_t k = 0; k < s->image.tasks_count; k++)
        if (s->image.tasks[k].child_subreaper)
            return false;
    return has_room_for_copies(m, s);
}

/* A copy would have its huge pages in common with it: where no further ones are free, the next write to one is the end of the process that may not
 * have its own (or of the copy's content). */
static bool has_huge_pages(const struct mm *mm)
{
    for (size_t k = 0; k < mm->vmas_count; k++)
        if (mm->vmas[k].flags & VMAF_HUGETLB && memory_is_private(&mm->vmas[k]) && memory_is_forked(&mm->vmas[k]))
            return true;
    return false;
}

static int copy_make(void *ctx, size_t k, struct err *e)
{
    struct cutting *c = ctx;
    if (!is_alive(c->s, k) || is_filtered(c->s, k) || has_huge_pages(&c->s->image.tasks[k].mm) || memory_plan_is_quick(&c->m->plans[k]))
        return 0;
    return cow_make(&c->s->victims[k], &c->m->copies[k], e) < 0 ? -1 : 0;
}

int memories_cut(struct memories *m, struct snapshot *s, bool live, struct err *e)
{
    struct cutting c = {m, s, live};
    *m = (struct memories){.count = s->victim_count};
    m->copies = xcalloc(m->count + 1, sizeof *m->copies);
    m->plans = xcalloc(m->count + 1, sizeof *m->plans);
    if (s->tracks)
        tracks_cut_begin(s->tracks);
    if (s->tracks && fibers_run(m->count, track_join, &c, e) < 0)
        return -1;
    int result = s->tracks || live ? crew_work(m->count, written_look, &c, e) : 0;
    if (s->tracks)
        tracks_cut_end(s->tracks);
    if (result < 0 || !live) /* nobody runs on anyway */
        return result;
    m->copied = copies_allowed(m, s);
    return m->copied ? fibers_run(m->count, copy_make, &c, e) : 0;
}

int memories_save(struct memories *m, struct snapshot *s, struct err *e)
{
    for (size_t k = 0; k < m->count; k++) {
        enum memory_part part = m->copies[k].pid ? MEMORY_NOT_COPIED : MEMORY_ALL;
        if (part == MEMORY_ALL && is_alive(s, k) && !memory_plan_is_quick(&m->plans[k]))
            urgent_ease();
        if (part == MEMORY_ALL && m->plans[k].later && memory_plan_finish(s, &s->victims[k], &s->image.tasks[k].mm, &m->plans[k], e) < 0)
            return -1;
        if (is_alive(s, k) && memory_save(s, &s->victims[k], &s->image.tasks[k].mm, &m->plans[k], part, e) < 0)
            return -1;
    }
    return 0;
}

static int copy_save(struct memories *m, struct snapshot *s, size_t k, struct err *e)
{
    struct mm *mm = &s->image.tasks[k].mm;
    struct victim *copy = &m->copies[k];
    if (m->plans[k].later && memory_plan_finish(s, copy, mm, &m->plans[k], e) < 0)
        return -1;
    if (memory_save(s, copy, mm, &m->plans[k], MEMORY_COPIED, e) < 0)
        return -1;
    cow_end(copy);
    copy->pid = 0;
    return 0;
}

static int one_confirm(void *ctx, size_t worker, size_t k, struct err *e)
{
    const struct cutting *c = ctx;
    (void)worker;
    return map_flags_confirm(&c->s->victims[k], c->m->copies[k].pid, e);
}

int memories_confirm(struct memories *m, struct snapshot *s, struct err *e)
{
    return crew_work(m->count, one_confirm, &(struct cutting){m, s, true}, e);
}

int memories_finish(struct memories *m, struct snapshot *s, struct err *e)
{
    for (size_t k = 0; k < m->count; k++) {
        if (m->copies[k].pid && copy_save(m, s, k, e) < 0)
            return -1;
        memory_plan_keep(s, &s->victims[k], &s->image.tasks[k].mm, &m->plans[k]);
        memory_keep(s, &m->plans[k], &s->image.tasks[k].mm);
    }
    return 0;
}

static void gone_await(pid_t pid, uint64_t deadline_ns)
{
    while (process_start(pid) && clock_ns(CLOCK_MONOTONIC) < deadline_ns) {
        struct timespec nap = {0, 500000};
        nanosleep(&nap, NULL);
    }
}

void memories_end(struct memories *m)
{
    AUTO_FREE pid_t *pids = xcalloc(m->count + 1, sizeof *pids);
    for (size_t k = 0; k < m->count; k++) {
        pids[k] = m->copies[k].pid;
        if (pids[k])
            cow_end(&m->copies[k]);
        memory_plan_free(&m->plans[k]);
    }
    uint64_t deadline_ns = clock_ns(CLOCK_MONOTONIC) + REAP_NS;
    for (size_t k = 0; k < m->count; k++)
        if (pids[k])
            gone_await(pids[k], deadline_ns);
    free(m->copies);
    free(m->plans);
    *m = (struct memories){0};
}
