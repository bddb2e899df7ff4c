/* See huge.h. A huge page is asked for only where all small ones are there, so that no memory comes back that the program has given away; what is armed
 * (track.h) the kernel leaves as it is, so nothing that is known of what was written gets lost. */
#include "huge.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "../pod/state.h"
#include "track.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE_BYTES (2ul << 20)
#define DEADLINE_NS 60000000000ul
#define FAILURES_MAX 16u /* one after the other: there are no huge pages left */
#define ROUNDS 5
#define ROUND_NS 100000000ul /* the first wait between two; each is twice as long */

static uint64_t up(uint64_t at)
{
    return (at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
}

void huge_free(struct huge *h)
{
    for (size_t k = 0; k < h->count; k++)
        page_ranges_free(&h->items[k].pages);
    free(h->items);
    *h = (struct huge){0};
}

/* ---- before the stop */
static void samples_add(const struct track *t, const struct proc_map *m, struct page_ranges *out)
{
    PAGE_RANGES struct page_ranges here = {0};
    if (m->huge_kib * 1024 < (m->end - m->start) / 2)
        return;
    page_ranges_within(&t->sample, m->start, m->end, &here);
    for (size_t k = 0; k < here.count; k++) /* watching them may have made them small */
        if (here.items[k].end - here.items[k].start == HUGE_BYTES)
            page_ranges_add(out, here.items[k].start, here.items[k].end);
}

static void process_look(const struct map_flags_of *of, const struct track *t, struct huge_of *out)
{
    struct err gone;
    AUTO_CLOSE int pagemap = -1;
    *out = (struct huge_of){.pid = of->pid, .start_time = of->start_time};
    for (size_t k = 0; k < of->maps.count; k++) {
        const struct proc_map *m = &of->maps.items[k];
        if (!m->huge_kib || m->shared)
            continue;
        if (pagemap < 0 && (pagemap = pagemap_open(of->pid, &gone)) < 0)
            return;
        if (pagemap_huge(pagemap, m->start, m->end, &out->pages, &gone) < 0)
            return;
        if (t)
            samples_add(t, m, &out->pages);
    }
    page_ranges_sort(&out->pages);
}

void huge_look(const struct map_flags *maps, const struct tracks *tracks, struct huge *out)
{
    out->items = xcalloc(maps->count + 1, sizeof *out->items);
    for (size_t k = 0; k < maps->count; k++) {
        const struct track *t = tracks_of(tracks, maps->items[k].pid);
        if (t && t->armed)
            continue; /* what it writes becomes small by being watched */
        struct huge_of *one = &out->items[out->count];
        process_look(&maps->items[k], t, one);
        if (one->pages.count)
            out->count++;
        else
            page_ranges_free(&one->pages);
    }
}

/* ---- afterwards, in a process of its own */
struct mender {
    const struct pod *pod;
    pid_t engine;
    int process, pagemap;
    uint64_t deadline_ns;
    unsigned failures;
    bool left; /* for another round */
};

/* Nobody else works on the pod. */
static bool is_left_alone(const struct mender *m)
{
    struct err none;
    AUTO_BUF struct buf act = {0};
    if (clock_ns(CLOCK_MONOTONIC) > m->deadline_ns)
        return false;
    return io_slurp(m->pod->dirfd, "act", &act, 1ul << 20, &none) < 0 || !act.len || strtol((const char *)act.data, NULL, 10) == m->engine;
}

/* What is armed becomes small when it is written. */
static bool is_armed(const struct mender *m, uint64_t at)
{
    PAGE_RANGES struct page_ranges written = {0};
    struct err gone;
    return pagemap_not_armed(m->pagemap, at, at + HUGE_BYTES, &written, &gone) == 0 && page_ranges_bytes(&written) < HUGE_BYTES;
}

/* All of it is there, and it is not whole yet. */
static bool is_broken(struct mender *m, uint64_t at)
{
    PAGE_RANGES struct page_ranges there = {0}, whole = {0};
    struct err gone;
    if (pagemap_huge(m->pagemap, at, at + HUGE_BYTES, &whole, &gone) < 0)
        return false;
    m->left |= whole.count && is_armed(m, at);
    return !whole.count && pagemap_present(m->pagemap, at, at + HUGE_BYTES, &there, &gone) == 0 && page_ranges_bytes(&there) == HUGE_BYTES;
}

/* False: there is no more to be done in this process. */
static bool page_mend(struct mender *m, uint64_t at)
{
    struct iovec page = {(void *)(uintptr_t)at, HUGE_BYTES};
    if (!is_broken(m, at))
        return true;
    uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    bool done = syscall(SYS_process_madvise, m->process, &page, 1ul, MADV_COLLAPSE, 0) >= 0;
    if (!done && (errno == ESRCH || errno == EPERM || errno == ENOSYS))
        return false;
    m->failures = done ? 0 : m->failures + 1;
    m->left |= !done;
    uint64_t took_ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
    struct timespec rest = {(time_t)(took_ns / 1000000000), (long)(took_ns % 1000000000)};
    nanosleep(&rest, NULL);
    return m->failures < FAILURES_MAX;
}

static bool process_mend(struct mender *m, const struct huge_of *of)
{
    for (size_t k = 0; k < of->pages.count; k++)
        for (uint64_t at = up(of->pages.items[k].start); at + HUGE_BYTES <= of->pages.items[k].end; at += HUGE_BYTES) {
            if (!is_left_alone(m))
                return false;
            if (!page_mend(m, at))
                return true;
        }
    return true;
}

static bool round_mend(struct mender *m, const struct huge *h)
{
    bool alone = true;
    for (size_t k = 0; alone && k < h->count; k++) {
        struct err gone;
        AUTO_CLOSE int process = proc_pidfd(h->items[k].pid);
        AUTO_CLOSE int pagemap = pagemap_open(h->items[k].pid, &gone);
        if (process < 0 || pagemap < 0 || process_start(h->items[k].pid) != h->items[k].start_time)
            continue;
        m->process = process;
        m->pagemap = pagemap;
        m->failures = 0;
        alone = process_mend(m, &h->items[k]);
    }
    return alone;
}

/* A page that somebody holds for a moment, or of which a part is armed and not written yet, comes in another round. */
static void all_mend(struct mender *m, const struct huge *h)
{
    for (int round = 0; round < ROUNDS && round_mend(m, h) && m->left; round++) {
        struct timespec wait = {0, (long)ROUND_NS};
        for (int k = 0; k < 1 << round && is_left_alone(m); k++)
            nanosleep(&wait, NULL);
        m->left = false;
    }
}

/* Whoever reads the engine's lines waits for the end of them. */
static void outputs_leave(int keep)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++)
        (void)dup2(null, fd);
    for (int fd = 3; fd < keep; fd++)
        close(fd);
    close_range((unsigned)keep + 1, ~0u, 0);
}

void huge_give_back(const struct pod *pod, const struct huge *h)
{
    struct mender m = {.pod = pod, .engine = getpid(), .deadline_ns = clock_ns(CLOCK_MONOTONIC) + DEADLINE_NS};
    if (!h->count || fork() != 0)
        return;
    outputs_leave(pod->dirfd);
    all_mend(&m, h);
    _exit(0);
}
