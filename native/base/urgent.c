/* See urgent.h. Threads that are made meanwhile inherit it; what is not allowed is left as it is: the job waits a little longer then. */
#include "urgent.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base.h"

#define COPY_MAX_BYTES (128ul << 20) /* some ten milliseconds */
#define BACKGROUND "10"              /* a tenth of a processor that somebody else wants */
#define BACKGROUND_NICE 10

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

/* proc_loadavg(5): the fourth field tells what wants to run just now, the reader included. */
bool urgent_room(void)
{
    char text[128] = {0};
    long running = 0;
    AUTO_CLOSE int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || sscanf(text, "%*s %*s %*s %ld/", &running) != 1)
        return false;
    return running <= sysconf(_SC_NPROCESSORS_ONLN);
}

/* Where the kernel groups by sessions (sched(7), autogroups) a nice value counts within one only: so a session of its own, and its value. */
void urgent_background(bool room)
{
    if (!room || setpriority(PRIO_PROCESS, 0, BACKGROUND_NICE) < 0)
        return;
    (void)setsid();
    AUTO_CLOSE int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, BACKGROUND, strlen(BACKGROUND)) < 0)
        return; /* no autogroups here */
}
