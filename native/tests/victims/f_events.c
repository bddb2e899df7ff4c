/* An event loop as programs have it: epoll over a timerfd that ticks, an eventfd that a child rings, a signalfd, a pipe; nested sets;
 * a set that the child shares.
 * COVERAGE: epoll, nested, shared, edge-triggered | captured |
 * COVERAGE: eventfd | captured |
 * COVERAGE: signalfd | captured |
 * COVERAGE: timerfd | captured | */
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "victim.h"

static int set, inner, bell, ticks, signals, ends[2];

static void watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)fd << 32 | 7};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}
static uint64_t number(int fd)
{
    uint64_t value = 0;
    MUST(read(fd, &value, sizeof value) == sizeof value);
    return value;
}

int main(void)
{
    struct itimerspec every = {.it_value = {.tv_nsec = 2000000}, .it_interval = {.tv_nsec = 2000000}};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGUSR2);
    MUST(sigprocmask(SIG_BLOCK, &mask, NULL) == 0 && pipe(ends) == 0);
    set = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(0), bell = eventfd(0, EFD_NONBLOCK);
    ticks = timerfd_create(CLOCK_MONOTONIC, 0), signals = signalfd(-1, &mask, 0);
    MUST(timerfd_settime(ticks, 0, &every, NULL) == 0);
    watch(inner, bell, EPOLLIN);
    watch(inner, ends[0], EPOLLIN | EPOLLET);
    watch(set, inner, EPOLLIN);
    watch(set, ticks, EPOLLIN);
    watch(set, signals, EPOLLIN);
    pid_t child = fork();
    if (child == 0)
        for (uint64_t one = 1;;) {
            MUST(write(bell, &one, sizeof one) == sizeof one);
            usleep(3000);
        }
    puts("ready");
    fflush(stdout);
    uint64_t rings = 0, ticked = 0;
    for (int end = 0; !end || rings < 5 || ticked < 5;) {
        struct epoll_event got[4];
        int n = epoll_wait(set, got, 4, 5000);
        MUST(n > 0 || (n < 0 && errno == EINTR));
        for (int i = 0; i < n; i++) {
            int fd = (int)(got[i].data.u64 >> 32);
            struct signalfd_siginfo info;
            MUST((got[i].data.u64 & 0xffffffff) == 7);
            if (fd == ticks)
                ticked += number(ticks);
            else if (fd == inner) {
                struct epoll_event in[2];
                MUST(epoll_wait(inner, in, 2, 0) >= 0);
                uint64_t value;
                rings += read(bell, &value, 8) == 8 ? value : 0;
            } else if (fd == signals) {
                MUST(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
                end = 1, rings = ticked = 0;
            }
        }
    }
    MUST(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    MUST(write(ends[1], "x", 1) == 1 && epoll_ctl(set, EPOLL_CTL_DEL, ticks, NULL) == 0 && epoll_ctl(inner, EPOLL_CTL_DEL, bell, NULL) == 0);
    struct epoll_event got[4];
    MUST(epoll_wait(set, got, 4, 1000) == 1 && (int)(got[0].data.u64 >> 32) == inner);
    return victim_ok();
}
