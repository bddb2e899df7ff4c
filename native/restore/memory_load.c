/* Contents of private pages, written from outside by the store's threads: of all processes at once, when each has its mappings. Mirrors
 * snapshot/memory_save.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "fill.h"
#include "lazy.h"
#include "load.h"
#include "share.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

struct place { /* of a piece of content */
    size_t task;
    uint64_t at;
};
struct part { /* of all that is wanted: one process's */
    struct extent *wanted;
    size_t count;
};
struct target { /* one piece */
    const struct restore *r;
    struct victim *v;
    const struct mm *mm;
    size_t task;
};
struct whole {
    const struct restore *r;
    struct place *places;
};

/* The first mapping that ends behind the address. */
static size_t vma_from(const struct mm *mm, uint64_t at)
{
    return FIRST_NOT(mm->vmas_count, k, mm->vmas[k].end <= at);
}

/* Fresh anonymous memory is zero already; a page of a mapped file that the process had zeroed is not. */
static bool is_fresh_zero(const struct mm *mm, uint64_t at, size_t len)
{
    for (size_t k = vma_from(mm, at); k < mm->vmas_count && mm->vmas[k].start < at + len; k++)
        if (mm->vmas[k].kind == VMA_FILE || mm->vmas[k].kind == VMA_MEMOBJ)
            return false;
    return true;
}

/* Something of its relatives is there. */
static bool is_kept(const struct target *t, uint64_t at, size_t len)
{
    for (size_t k = vma_from(t->mm, at); k < t->mm->vmas_count && t->mm->vmas[k].start < at + len; k++) {
        const struct shared_vma *s = share_of(t->r, t->task, &t->mm->vmas[k]);
        if (s && share_has(t->r, s, at, len))
            return true;
    }
    return false;
}

static int pages_write(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    struct iovec here = {(void *)(uintptr_t)data, len}, there = {(void *)(uintptr_t)at, len};
    if (process_vm_writev(t->v->pid, &here, 1, &there, 1, 0) == (ssize_t)len)
        return 0;
    return victim_write(t->v, at, data, len, e);
}

/* Only the pages that differ: the others stay what the process has in common with its relatives. */
static int pages_differing_write(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    AUTO_FREE uint8_t *now = xcalloc(1, len); /* not on the stack: this may be a fiber's */
    if (victim_read(t->v, at, now, len, e) < 0)
        return -1;
    for (size_t from = 0, to; from < len; from = to + PAGE_BYTES) {
        while (from < len && memcmp(now + from, data + from, PAGE_BYTES) == 0)
            from += PAGE_BYTES;
        for (to = from; to < len && memcmp(now + to, data + to, PAGE_BYTES) != 0;)
            to += PAGE_BYTES;
        if (to > from && pages_write(t, at + from, data + from, to - from, e) < 0)
            return -1;
    }
    return 0;
}

/* A page that is there already can be written without a fault. */
static int pages_put(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    const struct fill *f = &t->r->fills[t->task];
    if (!fill_takes(f, at))
        return pages_write(t, at, data, len, e);
    for (size_t from = 0, done; from < len; from += done) {
        if (fill_put(f, at + from, data + from, len - from, &done, e) < 0)
            return -1;
        if (from + done == len)
            break;
        if (pages_write(t, at + from + done, data + from + done, PAGE_BYTES, e) < 0)
            return -1;
        done += PAGE_BYTES;
    }
    return 0;
}

/* All of it goes one way. */
static int content_put(const struct target *t, uint64_t at, const uint8_t *data, size_t len, struct err *e)
{
    static const uint8_t zeros[CHUNK_MAX];
    bool kept = is_kept(t, at, len);
    if (!data && !kept && is_fresh_zero(t->mm, at, len))
        return 0;
    return kept ? pages_differing_write(t, at, data ? data : zeros, len, e) : pages_put(t, at, data ? data : zeros, len, e);
}

/* Called from several threads at once. */
static int memory_sink(void *ctx, uint64_t number, const void *data, size_t len, struct err *e)
{
    const struct whole *w = ctx;
    const struct place *place = &w->places[number];
    const struct task *task = &w->r->image->tasks[place->task];
    const struct target t = {w->r, &w->r->victims[place->task], &task->mm, place->task};
    for (size_t from = 0, part; from < len; from += part) {
        part = fill_same(&w->r->fills[place->task], place->at + from, len - from);
        if (content_put(&t, place->at + from, data ? (const uint8_t *)data + from : NULL, part, e) < 0)
            return err_wrap(e, "process %lu", task->pid);
    }
    return 0;
}

/* Pages that a relative had and this process has not. */
static int ranges_drop(struct victim *v, const struct range *gone, size_t count, struct err *e)
{
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .what = "drop pages of its relatives"};
    for (size_t k = 0; k < count; k++)
        if (CALL(l, e, SYS_madvise, gone[k].start, gone[k].end - gone[k].start, MADV_DONTNEED_LOCKED, 0, 0, 0) < 0)
            return -1;
    return call_flush(l, e);
}

int memory_clear(struct restore *r, struct victim *v, const struct task *task, struct err *e)
{
    AUTO_FREE struct extent *wanted = NULL;
    AUTO_FREE struct range *gone = NULL;
    size_t wanted_count = 0, gone_count = 0;
    share_split(r, (size_t)(task - r->image->tasks), &wanted, &wanted_count, &gone, &gone_count);
    return ranges_drop(v, gone, gone_count, e);
}

enum when { AT_ONCE, AFTER_ALL }; /* after all: it was to come when the process runs, and may not */

static bool is_part(const struct restore *r, size_t task, const struct extent *x, enum when when)
{
    bool later = r->pager && lazy_is(r->pager, task, x);
    return when == AT_ONCE ? !(later && r->fills[task].lazy) : later && r->fills[task].refused;
}

static void part_choose(const struct restore *r, size_t task, struct part *p, enum when when)
{
    size_t kept = 0;
    for (size_t k = 0; k < p->count; k++)
        if (is_part(r, task, &p->wanted[k], when))
            p->wanted[kept++] = p->wanted[k];
    p->count = kept;
}

static struct part *parts_find(const struct restore *r, enum when when, size_t *count)
{
    struct part *parts = xcalloc(r->image->tasks_count + 1, sizeof *parts);
    *count = 0;
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        AUTO_FREE struct range *gone = NULL;
        size_t gone_count = 0;
        if (r->victims[k].thread_count)
            share_split(r, k, &parts[k].wanted, &parts[k].count, &gone, &gone_count);
        part_choose(r, k, &parts[k], when);
        *count += parts[k].count;
    }
    return parts;
}

/* One list of all; each piece says by its number where it belongs. A chunk that several processes have is read once. */
static struct extent *parts_join(const struct restore *r, struct part *parts, size_t count, struct place *places)
{
    struct extent *all = xcalloc(count + 1, sizeof *all);
    size_t number = 0;
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        for (size_t n = 0; n < parts[k].count; n++, number++) {
            places[number] = (struct place){k, parts[k].wanted[n].at};
            all[number] = parts[k].wanted[n];
            all[number].at = number;
        }
        free(parts[k].wanted);
    }
    return all;
}

static int parts_load(struct restore *r, enum when when, struct err *e)
{
    size_t count;
    AUTO_FREE struct part *parts = parts_find(r, when, &count);
    AUTO_FREE struct place *places = xcalloc(count + 1, sizeof *places);
    AUTO_FREE struct extent *all = parts_join(r, parts, count, places);
    struct whole whole = {r, places};
    return store_get_ranges(r->store, all, count, memory_sink, &whole, e);
}

/* Only now can be seen who must have all of it. */
static int refused_load(struct restore *r, struct err *e)
{
    bool any = false;
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        struct fill *f = &r->fills[k];
        f->refused = f->lazy && lazy_is_refused(&r->victims[k], &r->image->tasks[k]);
        f->lazy = f->lazy && !f->refused;
        any |= f->refused;
    }
    return any ? parts_load(r, AFTER_ALL, e) : 0;
}

int memory_load(struct restore *r, struct err *e)
{
    int result = parts_load(r, AT_ONCE, e) < 0 || refused_load(r, e) < 0 ? -1 : 0;
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->victims[k].thread_count && !r->fills[k].lazy)
            fill_close(&r->fills[k]);
    if (result < 0)
        return err_wrap(e, "contents of memory");
    return r->pager ? lazy_give(r, e) : 0;
}
