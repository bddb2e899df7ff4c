/* POD/sleepers: when waits end that have been interrupted, one line each: thread, its start, its switches when it was let go, the end. The
 * kernel says of them only that they go on (restart_syscall). Never made durable: it means nothing after a crash of the machine.
 * Before a stop the waits that were seen are noted with OPEN in place of the switches: if the engine dies, whoever undoes it finds there what is
 * under way still, and counts the switches. See sleep_save.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../pod/state.h"
#include "sleep_save.h"

#define KEPT "sleepers"
#define KEPT_BYTES_MAX (16ul << 20)
#define SWITCHES "\nvoluntary_ctxt_switches"
#define OPEN UINT64_MAX
#define SETTLE_TRIES 10
#define SETTLE_NAP_NS 5000000

struct line {
    int tid;
    uint64_t start, switches, until_ns;
};

static const char *line_next(const char *at, struct line *out)
{
    unsigned long start, switches, until;
    while (at && *at) {
        bool good = sscanf(at, "%d %lu %lu %lu", &out->tid, &start, &switches, &until) == 4;
        at = strchr(at, '\n');
        at = at ? at + 1 : "";
        if (good)
            return out->start = start, out->switches = switches, out->until_ns = until, at;
    }
    return NULL;
}

static void line_add(struct buf *out, const struct line *l)
{
    buf_addf(out, "%d %lu %lu %lu\n", l->tid, l->start, l->switches, l->until_ns);
}

void sleepers_kept(const struct pod *pod, struct buf *out)
{
    struct err none;
    if (io_slurp(pod->dirfd, KEPT, out, KEPT_BYTES_MAX, &none) == 0)
        return;
    out->len = 0;
    buf_add(out, "", 1);
    out->len = 0;
}

/* Asleep ever since it was let go: it went to sleep once. */
uint64_t sleepers_known(const char *kept, pid_t tid, uint64_t switches)
{
    struct line l;
    while ((kept = line_next(kept, &l)))
        if (l.tid == tid && l.switches + 1 == switches && process_start(tid) == l.start)
            return l.until_ns;
    return 0;
}

static void thread_describe(const struct victim *v, const struct victim_thread *t, const struct thread *saved, uint64_t now_ns, struct buf *out)
{
    double switches;
    if (!saved->restart_remaining_ns || !sleeper_number(v->pid, t->tid, "status", SWITCHES, &switches))
        return;
    line_add(out, &(struct line){t->tid, process_start(t->tid), (uint64_t)switches, now_ns + saved->restart_remaining_ns});
}

void sleepers_describe(const struct victim *victims, const struct task *tasks, size_t count, struct buf *out)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    for (size_t k = 0; k < count; k++)
        for (size_t t = 0; t < victims[k].thread_count && t < tasks[k].threads_count; t++)
            thread_describe(&victims[k], &victims[k].threads[t], &tasks[k].threads[t], now_ns, out);
}

int sleepers_keep(const struct pod *pod, const struct buf *text, struct err *e)
{
    if (!text->len)
        return unlinkat(pod->dirfd, KEPT, 0) < 0 && errno != ENOENT ? err_errno(e, "remove %s", KEPT) : 0;
    AUTO_CLOSE int fd = openat(pod->dirfd, KEPT ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "make %s", KEPT);
    if (io_write_all(fd, text->data, text->len, e) < 0)
        return -1;
    return renameat(pod->dirfd, KEPT ".new", pod->dirfd, KEPT) < 0 ? err_errno(e, "name %s", KEPT) : 0;
}

/* ---- in case the act does not come to its end */

int sleepers_note(const struct pod *pod, const struct sleeper_list *l, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    for (size_t k = 0; k < l->count; k++)
        if (l->items[k].long_wait && l->items[k].until_ns)
            line_add(&text, &(struct line){l->items[k].tid, process_start(l->items[k].tid), OPEN, l->items[k].until_ns});
    return sleepers_keep(pod, &text, e);
}

/* 1: its interrupted wait goes on, with so many switches; 0: it does something else; -1: it is on its way there, perhaps. */
static int goes_on(pid_t tid, uint64_t *switches)
{
    double seen;
    for (int look = 0; look < 2; look++) {
        struct err gone;
        AUTO_BUF struct buf text = {0};
        if (io_slurpf(&text, 4096, &gone, "/proc/%d/task/%d/syscall", tid, tid) < 0)
            return 0;
        if (strncmp((char *)text.data, "running", 7) == 0)
            return -1;
        if (strtol((char *)text.data, NULL, 10) != SYS_restart_syscall)
            return 0;
        if (look == 0 && !sleeper_number(tid, tid, "status", SWITCHES, &seen))
            return 0;
    }
    *switches = (uint64_t)seen;
    return 1;
}

static bool line_settle(struct line *l, bool last)
{
    uint64_t switches = 0;
    if (l->switches != OPEN)
        return true;
    int now = process_start(l->tid) == l->start ? goes_on(l->tid, &switches) : 0;
    if (now == 1)
        l->switches = switches - 1;
    else if (now == 0 || last)
        l->start = 0;
    return now >= 0;
}

static bool has_open(const char *kept)
{
    struct line l;
    while ((kept = line_next(kept, &l)))
        if (l.switches == OPEN)
            return true;
    return false;
}

int sleepers_settle(const struct pod *pod, struct err *e)
{
    AUTO_BUF struct buf kept = {0}, text = {0};
    sleepers_kept(pod, &kept);
    if (!has_open((const char *)kept.data))
        return 0;
    for (int tries = 1; tries <= SETTLE_TRIES; tries++) {
        bool all = true;
        struct line l;
        text.len = 0;
        for (const char *at = (const char *)kept.data; (at = line_next(at, &l));) {
            all = line_settle(&l, tries == SETTLE_TRIES) && all;
            if (l.start)
                line_add(&text, &l);
        }
        if (all)
            break;
        struct timespec nap = {0, SETTLE_NAP_NS};
        nanosleep(&nap, NULL);
    }
    return sleepers_keep(pod, &text, e);
}
