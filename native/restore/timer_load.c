/* Timers of a process, set at the very end so that they count from when it runs. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "timer_load.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77
#endif

struct kernel_sigevent { /* struct sigevent as the kernel has it */
    uint64_t value;
    int32_t signo, notify, tid;
    uint8_t rest[44];
};

static struct timeval us_of(uint64_t us)
{
    return (struct timeval){(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
}

static struct timespec ns_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

static int itimer_load(struct call_list *l, const struct itimer *t, struct err *e)
{
    struct itimerval value = {us_of(t->interval_us), us_of(t->value_us)};
    uint64_t at;
    if (call_data(l, &value, sizeof value, &at, e) < 0)
        return -1;
    return CALL(l, e, SYS_setitimer, t->which, at, 0, 0, 0, 0);
}

/* The kernel hands out ids in ascending order: with the prctl it takes the one that stands at the pointer. */
static int posix_timer_load(struct call_list *l, const struct posix_timer *t, struct err *e)
{
    struct kernel_sigevent event = {.value = t->value, .signo = (int32_t)t->signal, .notify = (int32_t)t->notify, .tid = (int32_t)t->notify_tid};
    struct itimerspec spec = {ns_of(t->interval_ns), ns_of(t->remaining_ns)};
    int32_t id = (int32_t)t->id;
    uint64_t event_at, spec_at, id_at;
    if (call_room(l, 2, 256, e) < 0 || call_data(l, &event, sizeof event, &event_at, e) < 0 || call_data(l, &spec, sizeof spec, &spec_at, e) < 0 ||
        call_data(l, &id, sizeof id, &id_at, e) < 0 || CALL(l, e, SYS_timer_create, t->clock, event_at, id_at, 0, 0, 0) < 0 ||
        CALL(l, e, SYS_timer_settime, t->id, 0, spec_at, 0, 0, 0) < 0)
        return -1;
    return 0;
}

int timers_load(struct victim *v, const struct task *task, struct err *e)
{
    AUTO_FREE struct call_list *l = xcalloc(1, sizeof *l);
    *l = (struct call_list){.v = v, .what = "set its timers"};
    if (task->posix_timers_count && CALL(l, e, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0, 0) < 0)
        return -1;
    for (size_t k = 0; k < task->posix_timers_count; k++)
        if (posix_timer_load(l, &task->posix_timers[k], e) < 0)
            return -1;
    if (task->posix_timers_count && CALL(l, e, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0, 0) < 0)
        return -1;
    for (size_t k = 0; k < task->itimers_count; k++)
        if (itimer_load(l, &task->itimers[k], e) < 0)
            return -1;
    return call_flush(l, e);
}
