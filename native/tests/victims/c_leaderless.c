/* A process whose first thread has ended (pthread_exit in main) while others work on, with memory, descriptors with data, a timer and children; one
 * child whose first thread ended too.
 * COVERAGE: process whose first thread has ended | captured | a child of it with a parent death signal: refused */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

#define WORDS (1 << 16)
static atomic_ulong rounds;
static unsigned long *memory;
static int pipe_ends[2], pair[2], wish[2], timer;
static pid_t child;
static pthread_t worker;

static void *work(void *own)
{
    while (!asked)
        for (unsigned long k = 0; k < WORDS && !asked; k++) {
            memory[k]++;
            atomic_fetch_add(&rounds, 1);
        }
    return own;
}

static void memory_check(void)
{
    unsigned long sum = 0;
    for (unsigned long k = 0; k < WORDS; k++)
        sum += memory[k];
    MUST(sum == atomic_load(&rounds) && sum > 0);
}

/* In the child: the first thread has ended, this one does when it is told to. */
static void *last(void *none)
{
    char c;
    while (read(wish[0], &c, 1) < 0 && errno == EINTR)
        ;
    syscall(SYS_exit, 9);
    return none;
}

static _Noreturn void child_run(void)
{
    pthread_t thread;
    close(wish[1]);
    signal(SIGUSR1, SIG_IGN);
    if (pthread_create(&thread, NULL, last, NULL) != 0)
        _exit(1);
    syscall(SYS_exit, 7);
    __builtin_unreachable();
}

static void check(void)
{
    char got[64] = "", name[32] = "";
    void *result;
    int status;
    unsigned long ticks = 0;
    MUST(pthread_join(worker, &result) == 0 && result == (void *)&rounds);
    memory_check();
    MUST(read(pipe_ends[0], got, 64) == 5 && !strcmp(got, "piped") && recv(pair[0], got, 64, 0) == 5 && !strncmp(got, "socks", 5));
    MUST(poll(&(struct pollfd){.fd = timer, .events = POLLIN}, 1, 5000) == 1 && read(timer, &ticks, 8) == 8 && ticks > 0);
    MUST(getpid() != syscall(SYS_gettid) && kill(getpid(), 0) == 0 && pthread_getname_np(pthread_self(), name, 32) == 0 && !strcmp(name, "heir"));
    MUST(write(wish[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    pid_t another = fork();
    if (another == 0)
        _exit(3);
    MUST(waitpid(another, &status, 0) == another && WEXITSTATUS(status) == 3);
}

static void *heir(void *first)
{
    char path[64], line[256] = "";
    pthread_setname_np(pthread_self(), "heir");
    for (char state = 0; state != 'Z';) { /* until the first thread has ended */
        snprintf(path, sizeof path, "/proc/%d/stat", getpid());
        FILE *f = fopen(path, "r");
        MUST(f && fgets(line, sizeof line, f));
        fclose(f);
        state = strrchr(line, ')')[2];
        usleep(1000);
    }
    victim_ready();
    while (!asked)
        usleep(1000);
    check();
    exit(victim_ok());
    return first;
}

int main(void)
{
    struct itimerspec soon = {.it_value = {.tv_nsec = 50000000}, .it_interval = {.tv_nsec = 50000000}};
    pthread_t thread;
    memory = mmap(NULL, WORDS * sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED && pipe(pipe_ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(wish) == 0);
    MUST(write(pipe_ends[1], "piped", 5) == 5 && send(pair[1], "socks", 5, 0) == 5);
    MUST((timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 && timerfd_settime(timer, 0, &soon, NULL) == 0);
    victim_listen();
    child = fork();
    if (child == 0)
        child_run();
    MUST(child > 0 && pthread_create(&worker, NULL, work, &rounds) == 0 && pthread_create(&thread, NULL, heir, NULL) == 0);
    pthread_exit(NULL);
}
