/* How a tree of processes comes to its sessions. A process keeps the session that it was born into until it makes its own; so each is
 * born where the session still is: before its parent's setsid, or through a helper of the session's leader that ends at once
 * (then podinit is its parent), or through a stand-in with the number of a leader that is dead. */
#include <stdlib.h>

#include "load.h"

static size_t task_find(const struct image *image, uint64_t pid)
{
    for (size_t k = 0; k < image->tasks_count; k++)
        if (image->tasks[k].pid == pid)
            return k;
    return SIZE_MAX;
}

static bool is_leader(const struct task *t)
{
    return t->sid == t->pid;
}

/* Does anybody need this number: as session, as group? */
static bool is_needed(const struct image *image, const struct task *zombie)
{
    for (size_t k = 0; k < image->tasks_count; k++)
        if (&image->tasks[k] != zombie && (image->tasks[k].sid == zombie->pid || image->tasks[k].pgid == zombie->pid))
            return true;
    return false;
}

/* A leader must be born into the session of those of its children that are older than its own session. Children come after parents,
 * so going backwards every child is known. */
static int sessions_plan(const struct image *image, struct birth *births, struct err *e)
{
    for (size_t k = image->tasks_count; k-- > 0;) {
        const struct task *t = &image->tasks[k];
        struct birth *b = &births[k];
        if (!is_leader(t))
            b->session = t->sid;
        if (b->parent == BIRTH_INIT || b->session == 0)
            continue;
        const struct task *parent = &image->tasks[b->parent];
        if (b->session == parent->sid)
            continue;
        struct birth *above = &births[b->parent];
        if (!is_leader(parent) || (above->session && above->session != b->session))
            return err_set(e, E_UNSUPPORTED, "process %lu is in session %lu, which its parent was never in", t->pid, b->session);
        above->session = b->session;
        b->before_setsid = true;
    }
    return 0;
}

/* Children of podinit in somebody's session. */
static void orphans_plan(const struct image *image, struct birth *births)
{
    for (size_t k = 0; k < image->tasks_count; k++) {
        struct birth *b = &births[k];
        if (b->parent != BIRTH_INIT || b->session == 0)
            continue;
        size_t leader = task_find(image, b->session);
        b->through = leader == SIZE_MAX || births[leader].skip ? BIRTH_HELPER : leader;
    }
}

int births_plan(const struct image *image, struct birth **out, struct err *e)
{
    struct birth *births = xcalloc(image->tasks_count, sizeof *births);
    for (size_t k = 0; k < image->tasks_count; k++) {
        const struct task *t = &image->tasks[k];
        births[k].parent = t->ppid == 1 ? BIRTH_INIT : task_find(image, t->ppid);
        births[k].through = BIRTH_DIRECT;
        births[k].skip = t->state == TASK_ZOMBIE && t->ppid == 1 && !is_needed(image, t);
    }
    *out = births;
    if (sessions_plan(image, births, e) < 0)
        return -1;
    orphans_plan(image, births);
    return 0;
}
