/* What is asked of the filler, and in which order: what somebody waits for, then everything from the beginning. See pager_parts.h. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pager_parts.h"

#define RETRY_NS 300000000ul
#define PATIENCE_MS 600000ul
#define LONGEST_TURN_NS 2000000000ul

static uint8_t *wish_at(struct paging *p, uint32_t model, uint32_t piece)
{
    return &p->wishes[model][piece];
}

static void wish_set(struct paging *p, uint32_t model, uint32_t piece, enum wish wish)
{
    uint8_t *w = wish_at(p, model, piece);
    bool failed = *w & WISH_FAILED, fails = wish == WISH_LACKING || (failed && wish != WISH_DONE);
    p->lacking = p->lacking + fails - failed;
    *w = (uint8_t)(wish | (fails ? WISH_FAILED : 0));
}

static enum wish wish_get(struct paging *p, uint32_t model, uint32_t piece)
{
    return (enum wish)(*wish_at(p, model, piece) & WISH_STATES);
}

/* ---- who waits */
static bool piece_find(const struct pager_model *m, uint64_t source, uint32_t *out)
{
    size_t k = FIRST_NOT(m->pieces_count, n, m->pieces[n].at + m->pieces[n].len <= source);
    *out = (uint32_t)k;
    return k < m->pieces_count && m->pieces[k].at <= source;
}

void pieces_want(struct paging *p, size_t model, uint64_t source)
{
    uint32_t piece;
    bool known = piece_find(&p->pager->models[model], source, &piece);
    CHECK(known);
    if (wish_get(p, (uint32_t)model, piece) != WISH_NONE)
        return; /* it is on its way, or cannot come now */
    wish_set(p, (uint32_t)model, piece, WISH_URGENT);
    p->urgent = xrealloc(p->urgent, p->urgent_count + 1, sizeof *p->urgent);
    p->urgent[p->urgent_count++] = (struct wish_of){(uint32_t)model, piece};
}

/* What nobody misses now nobody will miss: lists only shrink, and children begin with their parent's. */
static bool is_missing(struct paging *p, const struct wish_of *w)
{
    struct missing_range r;
    const struct pager_piece *piece = &p->pager->models[w->model].pieces[w->piece];
    for (size_t k = 0; k < p->space_count; k++)
        if (p->spaces[k].model == w->model && !p->spaces[k].gone && missing_of(&p->spaces[k].missing, piece->at, piece->len, &r))
            return true;
    wish_set(p, w->model, w->piece, WISH_DONE);
    return false;
}

static bool urgent_next(struct paging *p, struct wish_of *out)
{
    if (!p->urgent_count)
        return false;
    *out = p->urgent[0];
    memmove(p->urgent, p->urgent + 1, --p->urgent_count * sizeof *p->urgent);
    return true;
}

static bool background_next(struct paging *p, struct wish_of *out)
{
    for (; p->next_model < p->pager->models_count; p->next_model++, p->next_piece = 0)
        for (; p->next_piece < p->pager->models[p->next_model].pieces_count; p->next_piece++)
            if (wish_get(p, p->next_model, p->next_piece) == WISH_NONE) {
                *out = (struct wish_of){p->next_model, p->next_piece++};
                return true;
            }
    return false;
}

/* ---- slots */
static void retry(struct paging *p)
{
    if (!p->retry_ns || clock_ns(CLOCK_MONOTONIC) < p->retry_ns)
        return;
    p->retry_ns = 0;
    p->next_model = p->next_piece = 0;
    for (uint32_t m = 0; m < p->pager->models_count; m++)
        for (uint32_t k = 0; k < p->pager->models[m].pieces_count; k++)
            if (wish_get(p, m, k) == WISH_LACKING)
                wish_set(p, m, k, WISH_NONE);
}

static bool slot_ask(struct paging *p, uint32_t number, const struct wish_of *w)
{
    const struct pager_ask ask = {number, w->model, p->pager->models[w->model].pieces[w->piece].extent};
    p->slots[number] = (struct slot){SLOT_ASKED, w->model, w->piece};
    wish_set(p, w->model, w->piece, WISH_ASKED);
    if (filler_say(p, &ask))
        return true;
    p->slots[number].state = SLOT_FREE;
    wish_set(p, w->model, w->piece, WISH_NONE);
    p->next_model = p->next_piece = 0;
    return false;
}

void slots_ask(struct paging *p)
{
    struct wish_of w;
    retry(p);
    for (uint32_t k = 0; k < PAGER_SLOTS && p->filler >= 0; k++)
        while (p->slots[k].state == SLOT_FREE) {
            if (!urgent_next(p, &w) && !background_next(p, &w))
                return;
            if (is_missing(p, &w) && !slot_ask(p, k, &w))
                return;
        }
}

void slots_put(struct paging *p)
{
    for (size_t k = 0; k < PAGER_SLOTS; k++) {
        struct slot *s = &p->slots[k];
        if (s->state != SLOT_FULL || !piece_put(p, s->model, &p->pager->models[s->model].pieces[s->piece], p->room + k * CHUNK_MAX))
            continue;
        wish_set(p, s->model, s->piece, WISH_DONE);
        s->state = SLOT_FREE;
    }
}

void slot_answer(struct paging *p, const struct pager_answer *a)
{
    if (a->slot >= PAGER_SLOTS || p->slots[a->slot].state != SLOT_ASKED)
        return;
    struct slot *s = &p->slots[a->slot];
    s->state = a->code == E_OK ? SLOT_FULL : SLOT_FREE;
    if (a->code == E_OK)
        return;
    wish_set(p, s->model, s->piece, WISH_LACKING);
    snprintf(p->why, sizeof p->why, "%.*s", (int)sizeof a->why - 1, a->why);
    if (!p->retry_ns)
        p->retry_ns = clock_ns(CLOCK_MONOTONIC) + RETRY_NS;
}

void slots_forget(struct paging *p)
{
    for (size_t k = 0; k < PAGER_SLOTS; k++) {
        if (p->slots[k].state != SLOT_FREE)
            wish_set(p, p->slots[k].model, p->slots[k].piece, WISH_NONE);
        p->slots[k].state = SLOT_FREE;
    }
    p->next_model = p->next_piece = 0;
}

/* ---- patience */
void patience_begin(struct paging *p)
{
    const char *given = getenv("CLUSTEROS_PAGER_PATIENCE_MS"); /* for tests */
    p->patience_ns = (given ? strtoull(given, NULL, 10) : PATIENCE_MS) * 1000000ul;
    p->looked_ns = clock_ns(CLOCK_MONOTONIC);
}

static _Noreturn void give_up(struct paging *p)
{
    struct err ignored;
    AUTO_FREE char *reason = xasprintf("its memory could not be brought: %s", p->why[0] ? p->why : "nobody brings it (see log/keeper.log)");
    fprintf(stderr, "podinit: %s\n", reason);
    if (io_replace(p->dirfd, "reason", reason, strlen(reason), 0600, &ignored) < 0)
        fprintf(stderr, "podinit: %s\n", ignored.message);
    _exit(E_BAD_IMAGE);
}

void patience_check(struct paging *p)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC), passed = now - p->looked_ns;
    bool trouble = p->lacking || p->filler < 0 || p->stuck;
    p->looked_ns = now;
    p->trouble_ns = trouble ? p->trouble_ns + (passed < LONGEST_TURN_NS ? passed : LONGEST_TURN_NS) : 0;
    if (p->trouble_ns > p->patience_ns)
        give_up(p);
    if (p->retry_ns && p->timeout_ms > (int)(RETRY_NS / 1000000))
        p->timeout_ms = (int)(RETRY_NS / 1000000);
}
