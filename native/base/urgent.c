/* See urgent.h. Threads that are made meanwhile inherit it; what is not allowed is left as it is: the job waits a little longer then. */
#include "urgent.h"

#include <sched.h>
#include <sys/resource.h>

#define COPY_MAX_BYTES (128ul << 20) /* some ten milliseconds */

static bool first;

static bool policy_set(int policy, int priority)
{
    const struct sched_param p = {.sched_priority = priority};
    return sched_setscheduler(0, policy, &p) == 0;
}

void urgent_begin(uint64_t copy_bytes)
{
    setpriority(PRIO_PROCESS, 0, -20); /* it counts where the other is not allowed */
    first = copy_bytes <= COPY_MAX_BYTES && policy_set(SCHED_FIFO, 1);
}

void urgent_ease(void)
{
    first = false;
    (void)policy_set(SCHED_OTHER, 0);
}

bool urgent_is(void)
{
    return first;
}

void urgent_relay(void)
{
    (void)policy_set(SCHED_FIFO | SCHED_RESET_ON_FORK, 1);
}

void urgent_end(void)
{
    urgent_ease();
    setpriority(PRIO_PROCESS, 0, 0);
}
