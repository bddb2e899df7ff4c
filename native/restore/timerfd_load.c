/* timerfd_create(2): armed again with the time that was left. A timer on the wall clock with an absolute time keeps that time: what was
 * left counts from the moment of the snapshot. Mirrors snapshot/timerfd_save.c. */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "files_load.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define RUN_OUT_MS 1000
#define SECOND_NS 1000000000ul

static bool is_wall_clock(uint64_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

/* A periodic timer that ran out shows no time left until it is read, which arms it again: let it run out anew. */
static bool is_run_out(const struct timerfd *timer)
{
    return timer->interval_ns && !timer->remaining_ns && timer->ticks;
}

static int ticks_set(int fd, const struct timerfd *timer, struct err *e)
{
    struct pollfd state = {.fd = fd, .events = POLLIN};
    if (is_run_out(timer) && poll(&state, 1, RUN_OUT_MS) != 1)
        return err_set(e, E_OS, "a timerfd does not run out");
    if (timer->ticks && ioctl(fd, TFD_IOC_SET_TICKS, &timer->ticks) < 0)
        return err_errno(e, "%lu expirations of a timerfd", timer->ticks);
    return 0;
}

static int timer_arm(int fd, const struct restore *r, const struct timerfd *timer, struct err *e)
{
    int flags = (int)(timer->settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET));
    bool absolute = flags & TFD_TIMER_ABSTIME && is_wall_clock(timer->clock) && r->image->taken_at_ns;
    struct itimerspec value = {.it_interval = timespec_of(timer->interval_ns),
                               .it_value = timespec_of(timer->remaining_ns + is_run_out(timer) + (absolute ? r->image->taken_at_ns : 0))};
    if (timerfd_settime(fd, absolute ? flags : 0, &value, NULL) < 0)
        return err_errno(e, "a timerfd of clock %lu", timer->clock);
    return ticks_set(fd, timer, e);
}

static int one_load(struct restore *r, const struct timerfd *timer, struct err *e)
{
    size_t index;
    if (file_index(r, timer->id, &index, e) < 0)
        return -1;
    int fd = timerfd_create((clockid_t)timer->clock, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "a timerfd of clock %lu", timer->clock) : -1;
    return timer_arm(r->file_fds[index], r, timer, e) < 0 ? -1 : file_flags_set(r, index, e);
}

int timerfd_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->timerfds_count; i++)
        if (one_load(r, &r->image->timerfds[i], e) < 0)
            return -1;
    return 0;
}
