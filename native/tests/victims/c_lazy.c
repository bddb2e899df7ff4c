/* Memory that comes while it is used: when asked, threads work at random on memory of which much may be missing still: by loads and stores, by the
 * kernel, from other processes, with mappings that go, move, split and are replaced, with forks and an execve(2) in between. Each compares every page
 * with what it must hold. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

enum { PAGE = 4096, THREADS = 4, SLOTS = 24, PAGES = 64, COMMON = 2048, STEPS = 400 };
#define OWN_AT 0x200000000ul
#define OWN_STEP 0x10000000ul
#define SPARE 0x8000000ul /* above the slots' first places */
#define COMMON_AT 0x300000000ul

struct worker {
    uint64_t seed, tags[SLOTS][PAGES];
    uint8_t *at[SLOTS]; /* NULL: not there */
    uint64_t spare;
    int number;
};
static struct worker workers[THREADS];
static unsigned steps = STEPS;

static uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static uint64_t below(struct worker *w, uint64_t n)
{
    return mixed(w->seed += 0x9e3779b97f4a7c15ul) % n;
}

static void content(uint64_t tag, uint64_t out[PAGE / 8])
{
    for (uint64_t k = 0; k < PAGE / 8; k++)
        out[k] = tag ? mixed(tag + k) : 0;
}

static void compare(const void *got, const void *page, uint64_t tag)
{
    uint64_t wanted[PAGE / 8];
    content(tag, wanted);
    if (memcmp(got, wanted, PAGE) == 0)
        return;
    printf("page %p is not %lx but %lx\n", page, tag, *(const uint64_t *)got);
    fail("content");
}

/* By a load, by write(2) into a pipe, by process_vm_readv(2). */
static void page_check(struct worker *w, const uint8_t *page, uint64_t tag)
{
    uint8_t data[PAGE];
    int ends[2];
    struct iovec to = {data, PAGE}, from = {(void *)(uintptr_t)page, PAGE};
    switch (below(w, 4)) {
    case 0:
        MUST(pipe(ends) == 0 && write(ends[1], page, PAGE) == PAGE && read(ends[0], data, PAGE) == PAGE);
        close(ends[0]);
        close(ends[1]);
        compare(data, page, tag);
        break;
    case 1:
        MUST(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == PAGE);
        compare(data, page, tag);
        break;
    default:
        compare(page, page, tag);
    }
}

static void page_write(struct worker *w, uint8_t *page, uint64_t *tag)
{
    uint64_t data[PAGE / 8], new = below(w, UINT64_MAX) | 1;
    int ends[2];
    content(new, data);
    if (below(w, 2)) {
        MUST(pipe(ends) == 0 && write(ends[1], data, PAGE) == PAGE && read(ends[0], page, PAGE) == PAGE);
        close(ends[0]);
        close(ends[1]);
    } else {
        memcpy(page, data, PAGE);
    }
    *tag = new;
}

static uint8_t *spare_place(struct worker *w)
{
    w->spare = w->spare % 100 + 1;
    return (uint8_t *)(OWN_AT + (uint64_t)w->number * OWN_STEP + SPARE + w->spare * 2 * PAGES * PAGE);
}

static bool is_taken(const struct worker *w, const uint8_t *place)
{
    for (int k = 0; k < SLOTS; k++)
        if (w->at[k] == place)
            return true;
    return false;
}

static bool moves(uint8_t *from, size_t before, size_t after, int flags, uint8_t *to)
{
    void *got = mremap(from, before, after, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to);
    MUST(got == to || (got == MAP_FAILED && errno == EFAULT)); /* it is of two mappings just now */
    return got == to;
}

/* Whole, from a piece of a larger mapping; the second half may stay behind and go. */
static void slot_move(struct worker *w, int slot)
{
    uint8_t *to = spare_place(w), *from = w->at[slot];
    size_t half = PAGES / 2 * PAGE;
    if (is_taken(w, to))
        return;
    switch (below(w, 3)) {
    case 0: /* shrinks and moves in one call */
        if (!moves(from, 2 * half, half, 0, to))
            return;
        MUST(mremap(to, half, 2 * half, 0) == to); /* and grows: with zeros */
        memset(&w->tags[slot][PAGES / 2], 0, PAGES / 2 * sizeof(uint64_t));
        break;
    case 1: /* what it leaves is zeros */
        if (!moves(from, 2 * half, 2 * half, MREMAP_DONTUNMAP, to))
            return;
        page_check(w, from + below(w, PAGES) * PAGE, 0);
        MUST(munmap(from, 2 * half) == 0);
        break;
    default:
        if (!moves(from, 2 * half, 2 * half, 0, to))
            return;
    }
    w->at[slot] = to;
}

static void all_check(struct worker *w)
{
    for (int slot = 0; slot < SLOTS; slot++)
        for (int k = 0; k < PAGES && w->at[slot]; k++)
            page_check(w, w->at[slot] + k * PAGE, w->tags[slot][k]);
}

static uint8_t *common_of(uint64_t page)
{
    return (uint8_t *)(COMMON_AT + page * PAGE);
}

static void child_end(pid_t pid)
{
    int status;
    pid_t got;
    do
        got = waitpid(pid, &status, 0);
    while (got < 0);
    MUST(got == pid && status == 0);
}

/* A child, and a child of it, change and look at everything while the parent goes on. */
static void child_spoils(struct worker *w)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid) {
        int slot = (int)below(w, SLOTS);
        if (w->at[slot])
            page_write(w, w->at[slot], &w->tags[slot][0]);
        child_end(pid);
        return;
    }
    pid_t next = below(w, 2) ? fork() : 1;
    for (int k = 0; k < 40; k++) {
        int slot = (int)below(w, SLOTS);
        uint64_t page = below(w, PAGES);
        if (w->at[slot])
            page_check(w, w->at[slot] + page * PAGE, w->tags[slot][page]);
        page = below(w, COMMON);
        page_check(w, common_of(page), page + 1);
        if (w->at[slot])
            memset(w->at[slot], 0x77, PAGES * PAGE);
        w->at[slot] = NULL;
    }
    if (next > 1)
        child_end(next);
    if (next == 1 && below(w, 2)) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    _exit(0);
}

static void *passer_by(void *opaque)
{
    struct worker *w = opaque;
    page_check(w, common_of(w->seed % COMMON), w->seed % COMMON + 1);
    return NULL;
}

static void thread_comes_and_goes(struct worker *w)
{
    struct worker other = {.seed = below(w, COMMON)};
    pthread_t thread;
    uint64_t page = other.seed;
    compare(common_of(page), common_of(page), page + 1);
    MUST(pthread_create(&thread, NULL, passer_by, &other) == 0 && pthread_join(thread, NULL) == 0);
}

static void slot_work(struct worker *w, int slot)
{
    uint64_t page = below(w, PAGES), count = 1 + below(w, PAGES - page);
    uint8_t *at = w->at[slot] + page * PAGE;
    switch (below(w, 14)) {
    case 0:
        MUST(munmap(w->at[slot], PAGES * PAGE) == 0);
        w->at[slot] = NULL;
        break;
    case 1:
        MUST(madvise(at, count * PAGE, MADV_DONTNEED) == 0);
        memset(&w->tags[slot][page], 0, count * sizeof(uint64_t));
        break;
    case 2:
        slot_move(w, slot);
        break;
    case 3:
        MUST(mprotect(at, count * PAGE, PROT_READ) == 0 && mprotect(at, count * PAGE, PROT_READ | PROT_WRITE) == 0);
        break;
    case 4:
        child_spoils(w);
        break;
    case 5:
        MUST(mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
        MUST(munmap(w->at[slot], PAGES * PAGE) == 0); /* a mapping of several cannot move */
        w->at[slot] = NULL;
        break;
    case 6:
        thread_comes_and_goes(w);
        break;
    case 7:
        MUST(mlock(at, count * PAGE) == 0 || errno == ENOMEM || errno == EPERM);
        munlock(at, count * PAGE);
        break;
    default:
        page_write(w, at, &w->tags[slot][page]);
    }
}

static void step(struct worker *w)
{
    int slot = (int)below(w, SLOTS);
    uint64_t page = below(w, PAGES);
    if (!w->at[slot]) {
        uint8_t *place = spare_place(w);
        if (is_taken(w, place))
            return;
        MUST(mmap(place, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == place);
        memset(w->tags[slot], 0, sizeof w->tags[slot]);
        w->at[slot] = place;
    }
    page_check(w, w->at[slot] + page * PAGE, w->tags[slot][page]);
    page = below(w, COMMON);
    page_check(w, common_of(page), page + 1);
    slot_work(w, slot);
}

static void *work(void *opaque)
{
    struct worker *w = opaque;
    for (unsigned k = 0; k < steps; k++)
        step(w);
    all_check(w);
    return NULL;
}

static void worker_make(int number)
{
    struct worker *w = &workers[number];
    uint8_t *base = (uint8_t *)(OWN_AT + (uint64_t)number * OWN_STEP);
    w->number = number;
    MUST(mmap(base, SLOTS * PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == base);
    for (int slot = 0; slot < SLOTS; slot++) {
        w->at[slot] = base + slot * PAGES * PAGE;
        for (int k = 0; k < PAGES; k++)
            if ((slot + k) % 7)
                page_write(w, w->at[slot] + k * PAGE, &w->tags[slot][k]);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    steps = argc > 2 ? (unsigned)atoi(argv[2]) : STEPS;
    pthread_t threads[THREADS];
    struct timespec now;
    for (int k = 0; k < THREADS; k++) {
        workers[k].seed = mixed(seed + (uint64_t)k);
        worker_make(k);
    }
    MUST(mmap(common_of(0), COMMON * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == common_of(0));
    for (uint64_t k = 0; k < COMMON; k++)
        content(k + 1, (uint64_t *)common_of(k));
    victim_wait();
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (int k = 0; k < THREADS; k++) {
        workers[k].seed = mixed(workers[k].seed + (uint64_t)now.tv_nsec);
        MUST(pthread_create(&threads[k], NULL, work, &workers[k]) == 0);
    }
    for (int k = 0; k < THREADS; k++)
        MUST(pthread_join(threads[k], NULL) == 0);
    for (uint64_t k = 0; k < COMMON; k++)
        compare(common_of(k), common_of(k), k + 1);
    return victim_ok();
}
