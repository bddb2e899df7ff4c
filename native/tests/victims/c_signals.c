/* Signals and timers: pending blocked signals with their values, handlers with masks and flags, an alternate stack, interval and POSIX
 * timers that go on, a thread in sigwait, absolute and relative sleeps.
 * COVERAGE: pending and blocked signals with their values | captured | per thread and per process
 * COVERAGE: signal handlers, masks and flags, alternate stack | captured |
 * COVERAGE: interval and POSIX timers | captured | with what is left of them
 * COVERAGE: monotonic clock, clock since boot | captured | they go on from where they were
 * COVERAGE: real-time clock | differs | it is the machine's: time has passed */
#include <errno.h>
#include <pthread.h>
#include <sys/time.h>
#include <time.h>

#include "victim.h"

static volatile sig_atomic_t alarms, ticks, value_seen, on_stack;
static char stack[65536];

static void on_alarm(int n)
{
    (void)n;
    alarms++;
}
static void on_tick(int n, siginfo_t *info, void *context)
{
    (void)n, (void)context;
    if (info->si_value.sival_int == 4711)
        ticks++;
}
static void on_value(int n, siginfo_t *info, void *context)
{
    char here;
    (void)n, (void)context;
    value_seen = info->si_value.sival_int;
    on_stack = &here >= stack && &here < stack + sizeof stack;
}

int main(void)
{
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    MUST(sigaltstack(&alt, NULL) == 0);
    struct sigaction alarm_action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct sigaction tick_action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction value_action = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaddset(&value_action.sa_mask, SIGHUP);
    sigaction(SIGALRM, &alarm_action, NULL);
    sigaction(SIGRTMIN + 1, &tick_action, NULL);
    sigaction(SIGRTMIN + 3, &value_action, NULL);
    signal(SIGQUIT, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 3);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 99});
    pthread_kill(pthread_self(), SIGUSR2);
    struct itimerval every = {{0, 50000}, {0, 50000}};
    MUST(setitimer(ITIMER_REAL, &every, NULL) == 0);
    timer_t spare, timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 4711};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &spare) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    MUST(timer_delete(spare) == 0);
    struct itimerspec spec = {{0, 30000000}, {0, 30000000}};
    MUST(timer_settime(timer, 0, &spec, NULL) == 0);
    victim_ready();
    while (!asked) {
        struct timespec when, after;
        clock_gettime(CLOCK_MONOTONIC, &when);
        when.tv_nsec += 20000000;
        if (when.tv_nsec >= 1000000000)
            when.tv_sec++, when.tv_nsec -= 1000000000;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
            continue;
        clock_gettime(CLOCK_MONOTONIC, &after);
        MUST(after.tv_sec > when.tv_sec || (after.tv_sec == when.tv_sec && after.tv_nsec >= when.tv_nsec));
    }
    int alarms_before = alarms, ticks_before = ticks;
    struct timespec nap = {0, 300000000};
    while (nanosleep(&nap, &nap) != 0)
        MUST(errno == EINTR);
    if (alarms <= alarms_before + 2 || ticks <= ticks_before + 4) {
        printf("alarms %d then %d, ticks %d then %d\n", alarms_before, alarms, ticks_before, ticks);
        fail("timers stand still");
    }
    sigset_t pending;
    sigpending(&pending);
    MUST(sigismember(&pending, SIGRTMIN + 3) && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGTERM));
    MUST(sigprocmask(SIG_UNBLOCK, &value_action.sa_mask, NULL) == 0);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGRTMIN + 3);
    MUST(sigprocmask(SIG_UNBLOCK, &only, NULL) == 0);
    MUST(value_seen == 99 && on_stack);
    struct sigaction now;
    MUST(sigaction(SIGRTMIN + 3, NULL, &now) == 0 && sigismember(&now.sa_mask, SIGHUP) && (now.sa_flags & SA_ONSTACK));
    MUST(sigaction(SIGQUIT, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
    siginfo_t info;
    sigemptyset(&only);
    sigaddset(&only, SIGUSR2);
    MUST(sigwaitinfo(&only, &info) == SIGUSR2 && info.si_pid == getpid());
    return victim_ok();
}
