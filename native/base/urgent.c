/* See urgent.h. Threads that are made meanwhile inherit it; what is not allowed is left as it is: the job waits a little longer then. */
#include "urgent.h"

#include <sched.h>
#include <sys/resource.h>

#define COPY_MAX_BYTES (128ul << 20) /* some ten milliseconds */

static void policy_set(int policy, int priority)
{
    const struct sched_param p = {.sched_priority = priority};
    (void)sched_setscheduler(0, policy, &p);
}

void urgent_begin(uint64_t copy_bytes)
{
    setpriority(PRIO_PROCESS, 0, -20); /* it counts where the other is not allowed */
    if (copy_bytes <= COPY_MAX_BYTES)
        policy_set(SCHED_FIFO, 1);
}

void urgent_ease(void)
{
    policy_set(SCHED_OTHER, 0);
}

void urgent_relay(void)
{
    policy_set(SCHED_FIFO | SCHED_RESET_ON_FORK, 1);
}

void urgent_end(void)
{
    policy_set(SCHED_OTHER, 0);
    setpriority(PRIO_PROCESS, 0, 0);
}
