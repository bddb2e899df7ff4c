/* A random tree of processes over memory that they have in common since fork(2): each writes, gives back, unmaps, maps anew and protects pages at random
 * before, between and after its forks; some end and leave orphans. Page by page everybody finds what it left there, also after all have
 * written once more at the same time. SEED in the environment repeats one; a failure names it.
 * COVERAGE: copy-on-write pages of random trees of processes | captured | page by page, also where mappings were cut, given back or made anew */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "victim.h"

#define PAGE 4096ul
#define AREAS 3
#define PAGES 400ul
#define PROCESSES_MAX 14
#define DEPTH_MAX 4
#define GONE UINT64_MAX /* no mapping there */

struct common {
    atomic_int members, failed, waiting[3], next;
};
static struct common *all;
static uint64_t seed, state;
static uint64_t *areas[AREAS];
static uint64_t want[AREAS][PAGES]; /* every word of the page; 0: never written */
static char writable[AREAS][PAGES];

#define HOLD(x) ((x) ? (void)0 : broken(#x))
static _Noreturn void broken(const char *what)
{
    atomic_store(&all->failed, 1);
    printf("seed %lu: ", seed);
    fail(what);
}

static uint64_t random_below(uint64_t limit)
{
    state += 0x9e3779b97f4a7c15ul;
    uint64_t x = state;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
    x = (x ^ x >> 27) * 0x94d049bb133111ebul;
    return (x ^ x >> 31) % limit;
}

static void page_check(size_t a, size_t p)
{
    const uint64_t *words = areas[a] + p * PAGE / 8;
    for (size_t w = 0; want[a][p] != GONE && w < PAGE / 8; w++)
        HOLD(words[w] == want[a][p]);
}
static void content_check(void)
{
    unsigned char there[PAGES];
    for (size_t a = 0; a < AREAS; a++) {
        for (size_t p = 0; p < PAGES; p++) {
            HOLD((want[a][p] == GONE) == (mincore(areas[a] + p * PAGE / 8, PAGE, there) < 0 && errno == ENOMEM));
            page_check(a, p);
        }
    }
}

static void page_write(size_t a, size_t p)
{
    if (want[a][p] == GONE || !writable[a][p])
        return;
    uint64_t *words = areas[a] + p * PAGE / 8;
    want[a][p] = random_below(1ul << 60) + 1;
    for (size_t w = 0; w < PAGE / 8; w++)
        words[w] = want[a][p];
}
static void range_change(size_t a, size_t first, size_t count, int kind)
{
    uint64_t *at = areas[a] + first * PAGE / 8;
    for (size_t p = first; p < first + count; p++)
        if (kind < 2 && want[a][p] == GONE)
            return; /* only whole ranges are given back or protected */
    if (kind == 0)
        HOLD(madvise(at, count * PAGE, MADV_DONTNEED) == 0);
    if (kind == 1)
        HOLD(mprotect(at, count * PAGE, count % 2 ? PROT_READ : PROT_READ | PROT_WRITE) == 0);
    if (kind == 2)
        HOLD(munmap(at, count * PAGE) == 0);
    if (kind == 3)
        HOLD(mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    for (size_t p = first; p < first + count; p++) {
        want[a][p] = kind == 1 ? want[a][p] : kind == 2 ? GONE : 0;
        writable[a][p] = kind == 0 ? writable[a][p] : kind != 1 || count % 2 == 0;
    }
}
static void work(size_t steps)
{
    for (size_t k = 0; k < steps; k++) {
        size_t a = random_below(AREAS), p = random_below(PAGES), left = PAGES - p, count = 1 + random_below(left < 40 ? left : 40);
        uint64_t what = random_below(40);
        if (what < 4)
            range_change(a, p, count, (int)what);
        else if (what < 8)
            for (size_t q = p; q < p + count; q++)
                page_write(a, q);
        else
            page_write(a, p);
    }
}

/* All that are members come here. */
static void meet(int which)
{
    atomic_fetch_add(&all->waiting[which], 1);
    while (atomic_load(&all->waiting[which]) < atomic_load(&all->members)) {
        if (atomic_load(&all->failed))
            _exit(1);
        usleep(500);
    }
}
static void live(void)
{
    content_check();
    meet(1);
    work(60);
    meet(2);
    content_check();
}

static void family_make(int depth)
{
    for (uint64_t children = random_below(4) + (depth == 0) * 2; children && depth < DEPTH_MAX; children--) {
        if (atomic_fetch_add(&all->next, 1) >= PROCESSES_MAX)
            return;
        work(random_below(60));
        atomic_fetch_add(&all->members, 1);
        uint64_t apart = random_below(UINT64_MAX);
        pid_t pid = fork();
        HOLD(pid >= 0);
        if (pid)
            continue;
        state = apart;
        signal(SIGUSR1, SIG_IGN);
        work(random_below(80));
        family_make(depth + 1);
        work(random_below(40));
        if (random_below(6) == 0) { /* its children are orphans now */
            atomic_fetch_sub(&all->members, 1);
            _exit(0);
        }
        content_check();
        meet(0);
        live();
        _exit(0);
    }
}

int main(void)
{
    const char *given = getenv("SEED");
    int status;
    MUST(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    seed = given ? strtoul(given, NULL, 10) : seed;
    state = seed;
    all = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(all != MAP_FAILED);
    atomic_store(&all->members, 1);
    memset(writable, 1, sizeof writable);
    for (size_t a = 0; a < AREAS; a++) {
        areas[a] = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(areas[a] != MAP_FAILED && (a || madvise(areas[a], PAGES * PAGE, MADV_NOHUGEPAGE) == 0));
    }
    work(600);
    family_make(0);
    content_check();
    meet(0);
    victim_wait();
    live();
    while (waitpid(-1, &status, 0) > 0)
        HOLD(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    HOLD(!atomic_load(&all->failed));
    return victim_ok();
}
