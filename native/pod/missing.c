/* See missing.h. */
#include "missing.h"

#include <stdlib.h>
#include <string.h>

void missing_free(struct missing *m)
{
    free(m->items);
    *m = (struct missing){0};
}

void missing_copy(const struct missing *m, struct missing *out)
{
    *out = (struct missing){.items = xcalloc(m->count + 1, sizeof *m->items), .count = m->count, .room = m->count + 1, .moved = m->moved};
    if (m->count)
        memcpy(out->items, m->items, m->count * sizeof *m->items);
}

/* The first range that ends behind the address. */
static size_t index_from(const struct missing *m, uint64_t at)
{
    return FIRST_NOT(m->count, k, m->items[k].end <= at);
}

static void insert(struct missing *m, size_t at, struct missing_range range)
{
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 16;
        m->items = xrealloc(m->items, m->room, sizeof *m->items);
    }
    memmove(m->items + at + 1, m->items + at, (m->count - at) * sizeof *m->items);
    m->items[at] = range;
    m->count++;
}

static void take_out(struct missing *m, size_t at)
{
    m->count--;
    memmove(m->items + at, m->items + at + 1, (m->count - at) * sizeof *m->items);
}

static bool joins(const struct missing_range *a, const struct missing_range *b)
{
    return a->end == b->start && a->source + (a->end - a->start) == b->source;
}

void missing_add(struct missing *m, uint64_t start, uint64_t end, uint64_t source)
{
    size_t at = index_from(m, start);
    struct missing_range range = {start, end, source};
    CHECK(start < end && (at == m->count || m->items[at].start >= end));
    m->moved = m->moved || start != source;
    bool before = at > 0 && joins(&m->items[at - 1], &range), behind = at < m->count && joins(&range, &m->items[at]);
    if (before && behind) {
        m->items[at - 1].end = m->items[at].end;
        take_out(m, at);
    } else if (before) {
        m->items[at - 1].end = end;
    } else if (behind) {
        m->items[at].start = start;
        m->items[at].source = source;
    } else {
        insert(m, at, range);
    }
}

void missing_cut(struct missing *m, uint64_t start, uint64_t end)
{
    for (size_t at = index_from(m, start); at < m->count && m->items[at].start < end;) {
        struct missing_range *r = &m->items[at], old = *r;
        if (old.start < start && old.end > end) {
            r->end = start;
            insert(m, at + 1, (struct missing_range){end, old.end, old.source + (end - old.start)});
            return;
        }
        if (old.start >= start && old.end <= end) {
            take_out(m, at);
        } else if (old.start < start) {
            r->end = start;
            at++;
        } else {
            r->start = end;
            r->source += end - old.start;
            return;
        }
    }
}

void missing_move(struct missing *m, uint64_t from, uint64_t to, uint64_t len)
{
    struct missing moved = {0};
    for (size_t at = index_from(m, from); at < m->count && m->items[at].start < from + len; at++) {
        struct missing_range r = m->items[at];
        uint64_t start = r.start > from ? r.start : from, end = r.end < from + len ? r.end : from + len;
        missing_add(&moved, start - from + to, end - from + to, r.source + (start - r.start));
    }
    missing_cut(m, from, from + len);
    missing_cut(m, to, to + len);
    for (size_t k = 0; k < moved.count; k++)
        missing_add(m, moved.items[k].start, moved.items[k].end, moved.items[k].source);
    missing_free(&moved);
}

const struct missing_range *missing_from(const struct missing *m, uint64_t at)
{
    size_t k = index_from(m, at);
    return k < m->count ? &m->items[k] : NULL;
}

bool missing_of(const struct missing *m, uint64_t source, uint64_t len, struct missing_range *out)
{
    for (size_t k = m->moved ? 0 : index_from(m, source); k < m->count && (m->moved || m->items[k].start < source + len); k++) {
        const struct missing_range *r = &m->items[k];
        uint64_t end = r->source + (r->end - r->start), first = r->source > source ? r->source : source, last = end < source + len ? end : source + len;
        if (first >= last)
            continue;
        *out = (struct missing_range){r->start + (first - r->source), r->start + (last - r->source), first};
        return true;
    }
    return false;
}

uint64_t missing_bytes(const struct missing *m)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < m->count; k++)
        bytes += m->items[k].end - m->items[k].start;
    return bytes;
}
