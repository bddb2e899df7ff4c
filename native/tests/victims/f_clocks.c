/* timerfds of every clock, relative and absolute, single and periodic, run out and not; epoll sets whose one-shot watches have told, edge-triggered
 * ones, one that an other process got in a message and watches from there; signalfds; semaphore eventfds.
 * COVERAGE: timerfd of CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME | captured | absolute times of the wall clock stay what they are
 * COVERAGE: epoll watches: one-shot that have told, edge-triggered, nested | captured | an edge-triggered watch may tell once more
 * COVERAGE: epoll set passed to another process | captured | 
 * COVERAGE: signalfd | captured | with signals that wait
 * COVERAGE: eventfd | captured | counters and semaphores */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

#define FAR_S 100000

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
static int relative[3], absolute[3], periodic[3], past[3], set, shared_set, semaphore, signals, pair[2], quiet[2];
static time_t wall_end;

static int timer(clockid_t clock, int flags, time_t value, time_t interval)
{
    struct itimerspec t = {.it_value.tv_sec = value, .it_interval.tv_sec = interval};
    int fd = timerfd_create(clock, TFD_NONBLOCK);
    MUST(fd >= 0 && timerfd_settime(fd, flags, &t, NULL) == 0);
    return fd;
}
static time_t left(int fd, time_t *interval)
{
    struct itimerspec t;
    MUST(timerfd_gettime(fd, &t) == 0);
    *interval = t.it_interval.tv_sec;
    return t.it_value.tv_sec + (t.it_value.tv_nsec > 0);
}
static time_t now(clockid_t clock)
{
    struct timespec t;
    MUST(clock_gettime(clock, &t) == 0);
    return t.tv_sec;
}

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event e = {.events = events, .data.u64 = data};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0);
}
/* How many events there are, and whose is the first. */
static int told(int epoll, uint64_t *data)
{
    struct epoll_event e[8];
    int n = epoll_wait(epoll, e, 8, 0);
    *data = n > 0 ? e[0].data.u64 : 0;
    return n;
}

static void send_fd(int socket_fd, int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {(char[]){"x"}, 1};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    MUST(sendmsg(socket_fd, &header, 0) == 1);
}
static int take_fd(int socket_fd)
{
    char c, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&c, 1};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int fd;
    MUST(recvmsg(socket_fd, &header, 0) == 1 && CMSG_FIRSTHDR(&header));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof fd);
    return fd;
}

/* Gets the set in a message, watches a pipe of its own in it, waits there. */
static pid_t stranger(int ready)
{
    int way[2], bell[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, way) == 0 && pipe(bell) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct epoll_event e;
        signal(SIGUSR1, SIG_IGN);
        close(shared_set);
        int got = take_fd(way[0]), n;
        watch(got, bell[0], EPOLLIN, 77);
        MUST(write(ready, "x", 1) == 1);
        while ((n = epoll_wait(got, &e, 1, -1)) < 0 && errno == EINTR)
            ;
        _exit(n == 1 && e.data.u64 == 77 ? 0 : 1);
    }
    send_fd(way[1], shared_set);
    close(way[0]), close(bell[0]);
    MUST(dup2(bell[1], 500) == 500);
    return pid;
}

static void timers_set_up(void)
{
    wall_end = now(CLOCK_REALTIME) + FAR_S;
    for (int k = 0; k < 3; k++) {
        relative[k] = timer(clocks[k], 0, FAR_S, 0);
        absolute[k] = timer(clocks[k], TFD_TIMER_ABSTIME, now(clocks[k]) + FAR_S, 7);
        periodic[k] = timer(clocks[k], 0, FAR_S, 5);
        past[k] = timer(clocks[k], TFD_TIMER_ABSTIME, 1, 0);
    }
}
static void timers_check(void)
{
    time_t interval, value;
    uint64_t ticks;
    for (int k = 0; k < 3; k++) {
        MUST((value = left(relative[k], &interval)) > FAR_S - 300 && value <= FAR_S && interval == 0);
        MUST((value = left(absolute[k], &interval)) > FAR_S - 300 && value <= FAR_S && interval == 7);
        MUST(left(periodic[k], &interval) > FAR_S - 300 && interval == 5 && read(periodic[k], &ticks, 8) < 0 && errno == EAGAIN);
        MUST(read(past[k], &ticks, 8) == 8 && ticks == 1 && read(past[k], &ticks, 8) < 0);
    }
    value = now(CLOCK_REALTIME) + left(absolute[0], &interval);
    MUST(value >= wall_end - 1 && value <= wall_end + 1);
}

static void sets_set_up(void)
{
    uint64_t data;
    sigset_t mask;
    set = epoll_create1(0), shared_set = epoll_create1(0), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, quiet) == 0 && write(pair[1], "x", 1) == 1);
    watch(set, pair[0], EPOLLIN | EPOLLONESHOT, 1);
    MUST(told(set, &data) == 1 && data == 1 && told(set, &data) == 0); /* it has told: silent from now on */
    watch(set, semaphore, EPOLLIN | EPOLLET, 2);
    watch(set, quiet[0], EPOLLIN | EPOLLONESHOT, 3);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2), sigaddset(&mask, SIGRTMIN);
    MUST(sigprocmask(SIG_BLOCK, &mask, NULL) == 0 && (signals = signalfd(-1, &mask, SFD_NONBLOCK)) >= 0);
    MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42}) == 0 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 43}) == 0);
}
static void sets_check(void)
{
    uint64_t data, value;
    struct signalfd_siginfo info;
    while (told(set, &data) == 1 && data == 2)
        ;
    MUST(close(pair[1]) == 0 && told(set, &data) == 0); /* hung up, and still silent */
    struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 4};
    MUST(epoll_ctl(set, EPOLL_CTL_MOD, pair[0], &again) == 0 && told(set, &data) == 1 && data == 4);
    MUST(write(quiet[1], "x", 1) == 1 && told(set, &data) == 1 && data == 3 && told(set, &data) == 0);
    for (int k = 0; k < 3; k++)
        MUST(read(semaphore, &value, 8) == 8 && value == 1);
    MUST(read(semaphore, &value, 8) < 0 && errno == EAGAIN);
    MUST(read(signals, &info, sizeof info) == sizeof info && info.ssi_int == 42 && read(signals, &info, sizeof info) == sizeof info && info.ssi_int == 43);
    MUST(read(signals, &info, sizeof info) < 0 && errno == EAGAIN);
}

int main(void)
{
    int ready[2], status;
    char c;
    timers_set_up();
    sets_set_up();
    MUST(pipe(ready) == 0);
    pid_t pid = stranger(ready[1]);
    MUST(read(ready[0], &c, 1) == 1);
    victim_wait();
    timers_check();
    sets_check();
    MUST(write(500, "x", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0);
    return victim_ok();
}
