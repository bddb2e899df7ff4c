/* What descriptors have to do with single threads: signals of a socket and of an O_ASYNC pipe that go to a thread which is not the first.
 * COVERAGE: owner of a descriptor that is a thread (F_SETOWN_EX), and the number that its signals tell (si_fd) | captured | */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "victim.h"

#define SIGNAL (SIGRTMIN + 5)
static volatile sig_atomic_t rung_tid, rung_fd;
static volatile pid_t thread_tid;
static int pair[2], ends[2];

static void ring(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    rung_fd = info->si_fd;
    rung_tid = (sig_atomic_t)syscall(SYS_gettid);
}
static void *stay(void *nothing)
{
    thread_tid = (pid_t)syscall(SYS_gettid);
    for (;;)
        usleep(1000);
    return nothing;
}
static void own(int fd, int type, pid_t pid)
{
    struct f_owner_ex owner = {type, pid};
    MUST(fcntl(fd, F_SETSIG, SIGNAL) == 0 && fcntl(fd, F_SETOWN_EX, &owner) == 0 && fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
}
static void rings(int writer, int reader)
{
    rung_tid = 0;
    MUST(write(writer, "x", 1) == 1);
    for (int k = 0; k < 5000 && !rung_tid; k++)
        usleep(1000);
    MUST(rung_tid == thread_tid && rung_fd == reader);
}

int main(void)
{
    struct sigaction a = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO | SA_RESTART};
    pthread_t thread;
    MUST(sigaction(SIGNAL, &a, NULL) == 0 && pthread_create(&thread, NULL, stay, NULL) == 0);
    while (!thread_tid)
        usleep(100);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    own(pair[0], F_OWNER_TID, thread_tid);
    own(ends[0], F_OWNER_TID, thread_tid);
    victim_wait();
    struct f_owner_ex owner = {0};
    MUST(fcntl(pair[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == thread_tid);
    rings(pair[1], pair[0]);
    rings(ends[1], ends[0]);
    return victim_ok();
}
