/* Every descriptor of the stopped tree, and which of them are the same open file description: sorted by (device, inode)
 * and, where these are equal, by the kernel's own order of descriptions (kcmp(2) KCMP_FILE), so that n descriptors
 * cost O(n log n) comparisons. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../store/crew.h"
#include "files_save.h"

#define SLOTS_AT_ONCE 32ul

/* ---- slots */
static int slots_read(void *ctx, size_t worker, size_t piece, struct err *e)
{
    struct saving *v = ctx;
    (void)worker;
    for (size_t i = piece * SLOTS_AT_ONCE; i < v->slots_count && i < (piece + 1) * SLOTS_AT_ONCE; i++) {
        struct slot *slot = &v->slots[i];
        pid_t pid = v->s->victims[slot->victim].pid;
        int gone = facts_read(pid, slot->number, &slot->facts, e);
        if (gone)
            return gone < 0 ? -1 : err_set(e, E_OS, "descriptor %d of process %d went away while it was stopped", slot->number, pid);
        facts_locate(&v->view, &slot->facts);
    }
    return 0;
}

static int compare_int(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int numbers_read(pid_t pid, int **numbers, size_t *count, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    AUTO_DIR DIR *dir = opendir(path);
    if (!dir)
        return err_errno(e, "descriptors of process %d", pid);
    for (const struct dirent *d; (d = readdir(dir));)
        if (d->d_name[0] != '.')
            *(int *)list_add((void **)numbers, count, sizeof(int)) = atoi(d->d_name);
    if (*count)
        qsort(*numbers, *count, sizeof **numbers, compare_int);
    return 0;
}

/* All its threads share them: stopped_check. */
static int victim_scan(struct saving *v, size_t i, struct err *e)
{
    const struct victim *victim = &v->s->victims[i];
    AUTO_FREE int *numbers = NULL;
    size_t count = 0;
    if (victim->pidfd < 0 || v->s->image.tasks[i].state == TASK_ZOMBIE)
        return 0;
    if (numbers_read(victim->pid, &numbers, &count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        *LIST_ADD(v, slots) = (struct slot){.victim = i, .number = numbers[k]};
    return 0;
}

/* ---- the same description? */
static const struct saving *comparing;
static bool compare_failed;

static int compare_slots(const void *a, const void *b)
{
    const struct slot *x = &comparing->slots[*(const size_t *)a], *y = &comparing->slots[*(const size_t *)b];
    if (x == y)
        return 0;
    const struct stat *p = &x->facts.st, *q = &y->facts.st;
    if (p->st_dev != q->st_dev)
        return p->st_dev < q->st_dev ? -1 : 1;
    if (p->st_ino != q->st_ino)
        return p->st_ino < q->st_ino ? -1 : 1;
    const struct victim *victims = comparing->s->victims;
    long order = syscall(SYS_kcmp, victims[x->victim].pid, victims[y->victim].pid, KCMP_FILE, x->number, y->number);
    if (order < 0 || order > 2)
        compare_failed = true;
    return order == 0 ? 0 : order == 1 ? -1 : 1;
}

static int slots_sort(struct saving *v, struct err *e)
{
    v->sorted = xcalloc(v->slots_count + 1, sizeof *v->sorted);
    for (size_t i = 0; i < v->slots_count; i++)
        v->sorted[i] = i;
    comparing = v;
    compare_failed = false;
    if (v->slots_count > 1)
        qsort(v->sorted, v->slots_count, sizeof *v->sorted, compare_slots);
    return compare_failed ? err_set(e, E_OS, "compare descriptors (kcmp) failed") : 0;
}

int scan_slots(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->s->victim_count; i++)
        if (victim_scan(v, i, e) < 0)
            return -1;
    size_t pieces = (v->slots_count + SLOTS_AT_ONCE - 1) / SLOTS_AT_ONCE;
    return crew_work(pieces, slots_read, v, e) < 0 ? -1 : slots_sort(v, e);
}

/* ---- descriptions */
static bool same_as_before(const struct saving *v, size_t place)
{
    return place > 0 && compare_slots(&v->sorted[place - 1], &v->sorted[place]) == 0;
}

/* For each slot the first slot (by victim and number) of its description. */
static size_t *leaders_find(const struct saving *v)
{
    size_t *leader = xcalloc(v->slots_count + 1, sizeof *leader);
    for (size_t first = 0, next; first < v->slots_count; first = next) {
        size_t least = v->sorted[first];
        for (next = first + 1; next < v->slots_count && same_as_before(v, next); next++)
            least = v->sorted[next] < least ? v->sorted[next] : least;
        for (size_t i = first; i < next; i++)
            leader[v->sorted[i]] = least;
    }
    return leader;
}

static int source_judge(const struct saving *v, struct source *src, struct err *e)
{
    char words[256];
    src->kind = facts_kind(&v->view, &src->facts, words);
    return src->kind ? 0 : source_refuse(v, src, e, "%s", words);
}

int source_learn(const struct saving *v, struct source *src, pid_t pid, int number, struct err *e)
{
    src->owns_facts = true;
    int gone = facts_read(pid, number, &src->facts, e);
    if (!gone)
        facts_locate(&v->view, &src->facts);
    if (gone)
        return err_wrap(e, "process %d: descriptor %d", v->s->victims[src->victim].inner_pid, src->number);
    return source_judge(v, src, e);
}

static int source_open(struct saving *v, struct source *src, struct err *e)
{
    const struct victim *victim = &v->s->victims[src->victim];
    src->fd = victim_getfd(victim, src->number, e);
    if (src->fd < 0)
        return err_wrap(e, "process %d: descriptor %d", victim->inner_pid, src->number);
    return source_judge(v, src, e);
}

/* One duplicate per description: raise our own limit as far as it goes. */
static void limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int scan_sources(struct saving *v, struct err *e)
{
    AUTO_FREE size_t *leader = leaders_find(v);
    limit_raise();
    for (size_t i = 0; i < v->slots_count; i++) {
        if (leader[i] != i)
            continue;
        v->slots[i].source = v->sources_count;
        struct source *src = LIST_ADD(v, sources);
        *src = (struct source){.victim = v->slots[i].victim, .number = v->slots[i].number, .fd = -1, .facts = v->slots[i].facts};
        if (source_open(v, src, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < v->slots_count; i++)
        v->slots[i].source = v->slots[leader[i]].source;
    return 0;
}

void scan_free(struct saving *v)
{
    for (size_t i = 0; i < v->sources_count; i++) {
        struct source *src = &v->sources[i];
        cleanup_close(&src->fd);
        if (src->owns_facts)
            facts_free(&src->facts);
        for (size_t k = 0; k < src->queue_count; k++)
            unix_message_free(&src->queue[k]);
        free(src->queue);
    }
    for (size_t i = 0; i < v->slots_count; i++)
        facts_free(&v->slots[i].facts);
    free(v->sources);
    free(v->slots);
    free(v->sorted);
}

/* ---- lookups */
const struct slot *scan_find_slot(const struct saving *v, size_t victim, int number)
{
    size_t low = 0, high = v->slots_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct slot *slot = &v->slots[middle];
        if (slot->victim == victim && slot->number == number)
            return slot;
        if (slot->victim < victim || (slot->victim == victim && slot->number < number))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct source *scan_find_inode(const struct saving *v, uint64_t ino, uint64_t first_kind, uint64_t last_kind)
{
    for (size_t i = 0; i < v->sources_count; i++) {
        struct source *src = &v->sources[i];
        if (src->kind >= first_kind && src->kind <= last_kind && src->facts.st.st_ino == ino)
            return src;
    }
    return NULL;
}
