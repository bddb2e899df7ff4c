/* Calls that wait with a limit counted from their start, 4 s: 1.5 s are over at `ready`. After a restore each waits for what was left: who begins anew
 * waits more than 5.5 s in all, and however long all were stopped. Nobody may wait less. */
/* Others wait with limits that no kernel gives out: they must not hear of the snapshot at all (EINTR). */
/* COVERAGE: nanosleep, clock_nanosleep, poll, select, pselect, ppoll, relative futex wait under way | captured | the time that is left
 * COVERAGE: time left of a wait after the pod was frozen, where the program did not ask for it | differs | at least what was left, at most the whole limit
 * COVERAGE: epoll_wait, sigtimedwait, semtimedop, calls on sockets with SO_RCVTIMEO under way | differs | begun anew with their whole limit
 * COVERAGE: wait under way while an engine is killed in the pause | captured | the time that is left
 * COVERAGE: epoll_wait, sigtimedwait, semtimedop, calls on sockets with SO_RCVTIMEO while an engine is killed that is just stopping the pod | differs | may end with EINTR, as after SIGSTOP and SIGCONT
 * MATRIX: killed-steps differs Interrupted system call
 * MATRIX: killed-random differs Interrupted system call */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "victim.h"

#define LIMIT_S 4
#define SLACK_S 1.2
#define GAP_S 0.05 /* who does not run for that long is being stopped, brought back or starved: waits may end that much later */

static int ends[2];
static pthread_barrier_t began;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static int w_nanosleep(void)
{
    struct timespec t = {LIMIT_S, 0};
    return nanosleep(&t, NULL);
}
static int w_nanosleep_told(void)
{
    struct timespec t = {LIMIT_S, 0}, left = {0, 0};
    return nanosleep(&t, &left);
}
static int w_clock(void)
{
    struct timespec t = {LIMIT_S, 0}, left = {0, 0};
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &left);
}
static int w_absolute(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += LIMIT_S;
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
static int w_poll(void)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    return poll(&p, 1, LIMIT_S * 1000);
}
static int w_ppoll(void)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    struct timespec t = {LIMIT_S, 0};
    return ppoll(&p, 1, &t, NULL);
}
static int w_select(void)
{
    struct timeval t = {LIMIT_S, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return select(ends[0] + 1, &set, NULL, NULL, &t);
}
static int w_futex(void)
{
    static uint32_t word = 7;
    struct timespec t = {LIMIT_S, 0};
    return syscall(SYS_futex, &word, FUTEX_WAIT, 7, &t, NULL, 0) < 0 && errno == ETIMEDOUT ? 0 : -1;
}
static int (*const waits[])(void) = {w_nanosleep, w_nanosleep_told, w_clock, w_absolute, w_poll, w_ppoll, w_select, w_futex};
#define WAITS (sizeof waits / sizeof *waits)

static int pairs[3][2], set;
static void limit_set(int fd)
{
    struct timeval t = {600, 0};
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
}
static int q_recv(void)
{
    char c;
    return recv(pairs[0][1], &c, 1, 0) == 1 ? 0 : errno;
}
static int q_read(void)
{
    char c;
    return read(pairs[1][1], &c, 1) == 1 ? 0 : errno;
}
static int q_epoll(void)
{
    struct epoll_event event;
    return epoll_wait(set, &event, 1, 600000) == 1 ? 0 : errno;
}
static int q_signal(void)
{
    struct timespec t = {600, 0};
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR2);
    return sigtimedwait(&wanted, NULL, &t) == SIGUSR2 ? 0 : errno;
}
static int (*const quiets[])(void) = {q_recv, q_read, q_epoll, q_signal};
#define QUIETS (sizeof quiets / sizeof *quiets)
static void *quiet(void *number)
{
    return (void *)(intptr_t)quiets[(size_t)number]();
}
static double took[WAITS], gaps;
static volatile int watching = 1;

static void *watch(void *unused)
{
    for (double before = now(), after; watching; before = after) {
        usleep(5000);
        after = now();
        gaps += after - before > GAP_S ? after - before : 0;
    }
    return unused;
}

static void *waiter(void *number)
{
    size_t k = (size_t)number;
    pthread_barrier_wait(&began);
    double start = now();
    MUST(waits[k]() == 0);
    took[k] = now() - start;
    return NULL;
}

int main(void)
{
    pthread_t threads[WAITS], others[QUIETS], watcher;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    for (size_t k = 0; k < 3; k++)
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[k]) == 0);
    limit_set(pairs[0][1]), limit_set(pairs[1][1]);
    struct epoll_event event = {.events = EPOLLIN};
    MUST((set = epoll_create1(0)) >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, pairs[2][1], &event) == 0);
    for (size_t k = 0; k < QUIETS; k++)
        MUST(pthread_create(&others[k], NULL, quiet, (void *)k) == 0);
    struct timespec while_they_wait = {1, 500000000};
    MUST(pthread_create(&watcher, NULL, watch, NULL) == 0);
    MUST(pipe(ends) == 0 && pthread_barrier_init(&began, NULL, WAITS + 1) == 0);
    for (size_t k = 0; k < WAITS; k++)
        MUST(pthread_create(&threads[k], NULL, waiter, (void *)k) == 0);
    sigdelset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
    pthread_barrier_wait(&began);
    nanosleep(&while_they_wait, NULL);
    victim_ready();
    for (size_t k = 0; k < WAITS; k++)
        pthread_join(threads[k], NULL);
    watching = 0;
    pthread_join(watcher, NULL);
    for (size_t k = 0; k < WAITS; k++)
        if (took[k] < LIMIT_S - 0.02 || took[k] > LIMIT_S + SLACK_S + gaps) {
            printf("wait %zu took %.3f s, with gaps of %.3f s\n", k, took[k], gaps);
            fail("a wait of the wrong length");
        }
    while (!asked)
        usleep(20000);
    for (size_t k = 0; k < 3; k++)
        MUST(write(pairs[k][0], "x", 1) == 1);
    MUST(kill(getpid(), SIGUSR2) == 0);
    for (size_t k = 0; k < QUIETS; k++) {
        void *error;
        MUST(pthread_join(others[k], &error) == 0);
        if (error)
            printf("call %zu: %s\n", k, strerror((int)(intptr_t)error));
        MUST(!error);
    }
    return victim_ok();
}
