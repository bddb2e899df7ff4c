/* See sleep_save.h. Mirrored by restore/sleep_load.c. */
#include "sleep_save.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "../pod/state.h"

#define CODE_BEFORE 48
#define SECOND_NS 1000000000ul

/* ---- the limit of a call */

static uint64_t timespec_at(const struct victim *v, uint64_t address)
{
    struct timespec t;
    struct err ignored;
    if (!address || victim_read(v, address, &t, sizeof t, &ignored) < 0 || t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_sec > INT32_MAX)
        return 0;
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* 0: none, or none that is counted from the call on. */
static uint64_t limit_of(const struct victim *v, const struct user_regs_struct *r, uint64_t nr)
{
    switch (nr) {
    case SYS_nanosleep:
        return timespec_at(v, r->rdi);
    case SYS_clock_nanosleep:
        return r->rsi & TIMER_ABSTIME ? 0 : timespec_at(v, r->rdx);
    case SYS_poll:
        return (int32_t)r->rdx > 0 ? (uint64_t)(int32_t)r->rdx * 1000000 : 0;
    case SYS_futex:
        return ((int)r->rsi & FUTEX_CMD_MASK) == FUTEX_WAIT ? timespec_at(v, r->r10) : 0;
    default:
        return 0;
    }
}

/* ---- before the stop */

bool sleeper_number(pid_t pid, pid_t tid, const char *file, const char *key, double *out)
{
    struct err gone;
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 65536, &gone, "/proc/%d/task/%d/%s", pid, tid, file) < 0)
        return false;
    const char *at = strstr((const char *)text.data, key);
    at = at ? strchr(at, ':') : NULL;
    *out = at ? strtod(at + 1, NULL) : 0;
    return at != NULL;
}

/* A thread's last turn stands there by the scheduler's clock of its processor, which is no other's: what it shows now says our own last turn
 * there. It leaves out time that a virtual machine did not get, so that a thread seems to have slept too little, never too long. */
struct clocks {
    cpu_set_t before;
    struct processor {
        enum { UNSEEN, KNOWN, UNKNOWN } state;
        double now_ms;
        uint64_t now_ns;
    } processors[CPU_SETSIZE];
};

static const struct processor *clock_look(struct clocks *c, unsigned cpu)
{
    cpu_set_t only;
    struct processor *p = &c->processors[cpu];
    if (p->state != UNSEEN)
        return p;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    p->state = UNKNOWN;
    if (sched_setaffinity(0, sizeof only, &only) < 0 || sched_yield() < 0)
        return p;
    p->now_ns = clock_ns(CLOCK_MONOTONIC);
    if (sleeper_number(getpid(), gettid(), "sched", "se.exec_start", &p->now_ms))
        p->state = KNOWN;
    return p;
}

static bool asleep_since(pid_t pid, pid_t tid, struct clocks *clocks, uint64_t *since_ns)
{
    struct proc_stat stat;
    struct err gone;
    double since_ms;
    if (proc_stat_read(pid, tid, &stat, &gone) < 0 || stat.processor >= CPU_SETSIZE)
        return false;
    const struct processor *p = clock_look(clocks, (unsigned)stat.processor);
    if (p->state != KNOWN || !sleeper_number(pid, tid, "sched", "se.exec_start", &since_ms) || since_ms > p->now_ms)
        return false;
    uint64_t ago_ns = (uint64_t)((p->now_ms - since_ms) * 1e6);
    *since_ns = ago_ns < p->now_ns ? p->now_ns - ago_ns : 0;
    return true;
}

static bool waits_with_limit(pid_t pid, pid_t tid, uint64_t *nr, struct user_regs_struct *r)
{
    struct err gone;
    AUTO_BUF struct buf text = {0};
    unsigned long number, args[4];
    if (io_slurpf(&text, 4096, &gone, "/proc/%d/task/%d/syscall", pid, tid) < 0 ||
        sscanf((const char *)text.data, "%lu %lx %lx %lx %lx", &number, &args[0], &args[1], &args[2], &args[3]) != 5)
        return false;
    *nr = number;
    *r = (struct user_regs_struct){.rdi = args[0], .rsi = args[1], .rdx = args[2], .r10 = args[3]};
    return number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_restart_syscall || (number == SYS_poll && (int)args[2] > 0) ||
           (number == SYS_futex && args[3]);
}

/* When it ends, if the call says so; 0: that is not known. */
static uint64_t end_seen(pid_t pid, uint64_t nr, const struct user_regs_struct *r, uint64_t since_ns)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    AUTO_CLOSE int mem = open(path, O_RDONLY | O_CLOEXEC);
    const struct victim v = {.memfd = mem};
    uint64_t limit_ns = mem < 0 ? 0 : limit_of(&v, r, nr);
    return limit_ns ? since_ns + limit_ns : 0;
}

static void sleeper_look(pid_t pid, pid_t tid, struct clocks *clocks, const char *kept, struct sleeper_list *out)
{
    uint64_t since_ns, nr;
    double switches;
    struct user_regs_struct r;
    if (!waits_with_limit(pid, tid, &nr, &r) || !sleeper_number(pid, tid, "status", "\nvoluntary_ctxt_switches", &switches) ||
        !asleep_since(pid, tid, clocks, &since_ns))
        return;
    uint64_t known_ns = sleepers_known(kept, tid, (uint64_t)switches), until_ns = known_ns ? known_ns : end_seen(pid, nr, &r, since_ns);
    out->items = xrealloc(out->items, out->count + 1, sizeof *out->items);
    out->items[out->count++] = (struct sleeper){.tid = tid, .since_ns = since_ns, .switches = (uint64_t)switches,
                                               .until_ns = until_ns, .long_wait = known_ns || until_ns > since_ns + SECOND_NS};
}

static int sleeper_compare(const void *a, const void *b)
{
    return ((const struct sleeper *)a)->tid - ((const struct sleeper *)b)->tid;
}

int sleepers_look(const struct pod *pod, struct sleeper_list *out, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    AUTO_BUF struct buf kept = {0};
    size_t count;
    AUTO_FREE struct clocks *clocks = xcalloc(1, sizeof *clocks);
    if (sched_getaffinity(0, sizeof clocks->before, &clocks->before) < 0)
        return err_errno(e, "own processors");
    sleepers_kept(pod, &kept);
    if (pod_pids(pod, &pids, &count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++) {
        PID_LIST struct pid_list tids = {0};
        struct err gone;
        if (proc_threads(pids[k], &tids, &gone) < 0)
            continue;
        for (size_t t = 0; t < tids.count; t++)
            sleeper_look(pids[k], tids.items[t], clocks, (const char *)kept.data, out);
    }
    if (out->count)
        qsort(out->items, out->count, sizeof *out->items, sleeper_compare);
    return sched_setaffinity(0, sizeof clocks->before, &clocks->before) < 0 ? err_errno(e, "own processors") : 0;
}

void sleepers_free(struct sleeper_list *l)
{
    free(l->items);
    *l = (struct sleeper_list){0};
}

/* ---- in the pause */

/* The call that a thread waits in for the second time, when the kernel only says restart_syscall: from the code before it. */
static uint64_t restarted_call(const struct victim *v, const struct user_regs_struct *r)
{
    static const uint8_t known[] = {SYS_poll, SYS_nanosleep, SYS_futex, SYS_clock_nanosleep};
    uint8_t code[CODE_BEFORE];
    struct err ignored;
    if (victim_read(v, r->rip - CODE_BEFORE, code, sizeof code, &ignored) < 0)
        return 0;
    for (size_t at = CODE_BEFORE - 7; at > 0; at--)
        for (size_t k = 0; k < sizeof known; k++)
            if (code[at] == 0xb8 && code[at + 1] == known[k] && !code[at + 2] && !code[at + 3] && !code[at + 4])
                return known[k];
    if (r->rdi < 16 && r->rdx > PAGE_BYTES)
        return SYS_clock_nanosleep;
    return (r->rsi & ~0x1fful) == 0 && r->r10 > PAGE_BYTES ? SYS_futex : SYS_nanosleep;
}

/* What the kernel has written for the program when it was interrupted: 0 if it was not asked to. */
static uint64_t told_remaining(const struct victim *v, const struct user_regs_struct *r, uint64_t nr)
{
    return nr == SYS_nanosleep ? timespec_at(v, r->rsi) : nr == SYS_clock_nanosleep ? timespec_at(v, r->r10) : 0;
}

/* It still sleeps, or did until it was stopped: that is one switch more. */
static bool slept_until_stop(const struct sleeper *s, const struct victim_thread *t)
{
    return t->status.voluntary_switches == s->switches + 1;
}

static struct sleeper *sleeper_find(const struct sleeper_list *l, pid_t tid)
{
    const struct sleeper key = {.tid = tid};
    return l->count ? bsearch(&key, l->items, l->count, sizeof key, sleeper_compare) : NULL;
}

bool sleepers_confirm(struct sleeper_list *l, const struct victim *victims, size_t count)
{
    bool all = true;
    for (size_t k = 0; k < count; k++)
        for (size_t t = 0; t < victims[k].thread_count; t++) {
            struct sleeper *s = sleeper_find(l, victims[k].threads[t].tid);
            if (!s || !s->until_ns || slept_until_stop(s, &victims[k].threads[t]))
                continue;
            all = all && !s->long_wait;
            s->until_ns = 0;
        }
    return all;
}

void sleep_save(const struct snapshot *s, const struct victim *v, const struct victim_thread *t, struct thread *out)
{
    const struct user_regs_struct *r = &t->regs;
    if ((int64_t)r->orig_rax < 0 || (int64_t)r->rax != -516)
        return;
    out->restart_nr = r->orig_rax == SYS_restart_syscall ? restarted_call(v, r) : r->orig_rax;
    uint64_t limit_ns = limit_of(v, r, out->restart_nr), told_ns = told_remaining(v, r, out->restart_nr);
    const struct sleeper *asleep = limit_ns && !told_ns ? sleeper_find(s->sleepers, t->tid) : NULL;
    if (asleep && !slept_until_stop(asleep, t))
        asleep = NULL;
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC), slept_ns = asleep ? now_ns - asleep->since_ns : 0;
    if (asleep && asleep->until_ns)
        out->restart_remaining_ns = asleep->until_ns > now_ns ? asleep->until_ns - now_ns : 1;
    else if (told_ns && told_ns <= limit_ns)
        out->restart_remaining_ns = told_ns;
    else if (limit_ns)
        out->restart_remaining_ns = slept_ns < limit_ns ? limit_ns - slept_ns : 1;
}
