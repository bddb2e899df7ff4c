/* pidfds of a running child, of a zombie, of one that was waited for, of itself and of its parent's parent; one that two processes share; an epoll set
 * that waits for one. */
/* COVERAGE: pidfd of a process, also dead or waited for | captured |
 * COVERAGE: pidfd of a thread | refused | a pidfd of a thread (PIDFD_THREAD) */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

static int is_ended(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}
static pid_t child_start(int status)
{
    pid_t pid = fork();
    if (pid == 0) {
        while (status < 0)
            pause();
        _exit(status);
    }
    MUST(pid > 0);
    return pid;
}
static int open_of(pid_t pid, unsigned flags)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, flags);
    MUST(fd >= 0);
    return fd;
}

int main(void)
{
    int status, lives, zombie_fd, gone_fd, own, first, set = epoll_create1(0);
    siginfo_t info;
    pid_t child = child_start(-1), zombie = child_start(5), gone = child_start(0);
    lives = open_of(child, O_NONBLOCK);
    zombie_fd = open_of(zombie, 0), gone_fd = open_of(gone, 0), own = open_of(getpid(), 0), first = open_of(1, 0);
    MUST(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT) == 0 && waitpid(gone, &status, 0) == gone);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
    MUST(epoll_ctl(set, EPOLL_CTL_ADD, lives, &event) == 0);
    victim_listen();
    pid_t other = fork(); /* has all of them too */
    if (other == 0) {
        while (!asked)
            pause();
        _exit(!is_ended(lives) && is_ended(gone_fd) && syscall(SYS_pidfd_send_signal, lives, SIGKILL, NULL, 0) == 0 ? 9 : 1);
    }
    victim_wait();
    MUST(!is_ended(lives) && is_ended(zombie_fd) && is_ended(gone_fd) && !is_ended(own) && !is_ended(first));
    MUST(fcntl(lives, F_GETFL) & O_NONBLOCK && !(fcntl(own, F_GETFL) & O_NONBLOCK) && fcntl(own, F_GETFD) == FD_CLOEXEC);
    MUST(syscall(SYS_pidfd_send_signal, gone_fd, 0, NULL, 0) < 0 && errno == ESRCH && syscall(SYS_pidfd_send_signal, own, 0, NULL, 0) == 0);
    MUST(waitid(P_PIDFD, (id_t)zombie_fd, &info, WEXITED) == 0 && info.si_status == 5);
    MUST(epoll_wait(set, &event, 1, 0) == 0 && kill(other, SIGUSR1) == 0 && waitpid(other, &status, 0) == other && WEXITSTATUS(status) == 9);
    MUST(epoll_wait(set, &event, 1, 5000) == 1 && event.data.u64 == 77 && is_ended(lives));
    MUST(waitid(P_PIDFD, (id_t)lives, &info, WEXITED) == 0 && info.si_status == SIGKILL && info.si_pid == child);
    return victim_ok();
}
