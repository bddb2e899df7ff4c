/* Lists of what is missing in memory, against a table of pages: added, cut, moved at random. */
#include "pod/missing.h"
#include "tests/tap.h"

enum { PAGES = 256, ROUNDS = 20000 };
static uint64_t table[PAGES]; /* source + 1 of each page; 0: it is there */

static bool unmoved;

static uint64_t at(uint64_t page)
{
    return page * PAGE_BYTES;
}

static bool is_same(const struct missing *m)
{
    uint64_t page = 0, bytes = 0;
    for (size_t k = 0; k < m->count; k++) {
        const struct missing_range *r = &m->items[k];
        for (; at(page) < r->start; page++)
            if (table[page])
                return false;
        for (; at(page) < r->end; page++, bytes += PAGE_BYTES)
            if (table[page] != r->source + (at(page) - r->start) + 1)
                return false;
    }
    for (; page < PAGES; page++)
        if (table[page])
            return false;
    return bytes == missing_bytes(m);
}

static void add(struct missing *m)
{
    uint64_t start = random_below(PAGES), end = start, source = unmoved ? at(start) : random_below(1000) * PAGE_BYTES;
    while (end < PAGES && end < start + 20 && !table[end])
        end++;
    if (!unmoved && start > 0 && table[start - 1] && random_below(2))
        source = table[start - 1] - 1 + PAGE_BYTES; /* it joins */
    if (end == start)
        return;
    missing_add(m, at(start), at(end), source);
    for (uint64_t k = start; k < end; k++)
        table[k] = source + at(k - start) + 1;
}

static void cut(struct missing *m)
{
    uint64_t start = random_below(PAGES), end = start + random_below(PAGES - start) / (1 + random_below(10));
    missing_cut(m, at(start), at(end));
    for (uint64_t k = start; k < end; k++)
        table[k] = 0;
}

static void move(struct missing *m)
{
    uint64_t len = 1 + random_below(40), from = random_below(PAGES - len), to = random_below(PAGES - len), moved[PAGES];
    if (from < to + len && to < from + len)
        return;
    missing_move(m, at(from), at(to), at(len));
    memcpy(moved, table + from, len * sizeof *table);
    memset(table + from, 0, len * sizeof *table);
    memcpy(table + to, moved, len * sizeof *table);
}

static bool finds(const struct missing *m)
{
    uint64_t page = random_below(PAGES);
    const struct missing_range *r = missing_from(m, at(page));
    if ((r && r->start <= at(page)) != (table[page] != 0))
        return false;
    struct missing_range part;
    uint64_t source = table[page] ? table[page] - 1 : random_below(1000) * PAGE_BYTES, len = PAGE_BYTES * (1 + random_below(4));
    bool any = missing_of(m, source, len, &part), wanted = false;
    for (uint64_t k = 0; k < PAGES; k++)
        wanted |= table[k] && table[k] - 1 >= source && table[k] - 1 < source + len;
    return any == wanted && (!any || (table[part.start / PAGE_BYTES] - 1 == part.source && part.source >= source && part.end - part.start <= len));
}

int main(void)
{
    struct missing m = {0}, copy;
    bool same = true, found = true;
    seed_begin();
    unmoved = true;
    for (int k = 0; k < 2 * ROUNDS && same && found; k++) {
        void (*const acts[])(struct missing *) = {add, add, cut, move};
        unmoved = k < ROUNDS;
        acts[random_below(unmoved ? 3 : 4)](&m);
        same = is_same(&m);
        found = finds(&m);
        if (k == ROUNDS - 1)
            ok(!m.moved && same && found, "as long as nothing moved all is found by its address");
    }
    ok(same, "after %d steps the list says of every page what the table says", ROUNDS);
    ok(found, "pages are found by where they are, and by where their content stands");
    missing_copy(&m, &copy);
    missing_cut(&m, 0, at(PAGES));
    ok(m.count == 0 && is_same(&copy), "a copy stays when all is cut");
    missing_free(&copy);
    missing_free(&m);
    return done_testing();
}
