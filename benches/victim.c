/* What is measured: `victim pages|huge|floats|sparse|ticks MEBIBYTES`, `victim processes COUNT MEBIBYTES`, `victim ranks COUNT MEBIBYTES` (all with the same content, each exec'ed by itself), `victim threads COUNT`, `victim sockets COUNT`.
 * Prints `ready`; `ticks` prints `again` and the time when it runs again after it stood. A process with pages does on a signal: USR2 prints the milliseconds of a fork(), RTMIN writes one page in 100, RTMIN+1 one in 20,
 * RTMIN+2 and +3 write all and a sixteenth at full speed and print time and pages written, RTMIN+4 rest. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fill.h"

#define PAGE 4096ul
#define HUGE (2ul << 20)

static uint8_t *memory;
static uint64_t pages, hot, seed = 1;

static double now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t next(void)
{
    return fill_next(&seed);
}

static void say(const char *words)
{
    puts(words);
    fflush(stdout);
}

static _Noreturn void rest(void)
{
    say("ready");
    for (;;)
        pause();
}

static void fill(const char *kind)
{
    fill_from(&seed, (uint64_t *)(void *)memory, pages * PAGE / 8, kind);
}

static void fork_time(void)
{
    double best = 1e9;
    for (int k = 0; k < 5; k++) {
        double begin = now_of(CLOCK_MONOTONIC);
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        double took = now_of(CLOCK_MONOTONIC) - begin;
        best = took < best ? took : best;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    printf("fork %.3f\n", best * 1e3);
    fflush(stdout);
}

static void touch(uint64_t one_in)
{
    for (uint64_t k = 0; k < pages / one_in; k++)
        *(uint64_t *)(void *)(memory + next() % pages * PAGE) = next();
    say("touched");
}

/* Until another signal is waiting. */
static void write_on(uint64_t span, const sigset_t *signals)
{
    uint64_t written = 0;
    double told = 0;
    static uint8_t data[PAGE];
    for (;; memset(data, (int)written, PAGE)) {
        for (uint64_t k = 0; k < span; k++, written++) {
            memcpy(memory + k * PAGE, data, PAGE);
            if (written % 256)
                continue;
            double now = now_of(CLOCK_REALTIME);
            if (now - told > 0.01)
                printf("at %.6f %lu\n", told = now, written);
            fflush(stdout);
            sigset_t waiting;
            sigpending(&waiting);
            for (int number = SIGRTMIN; number <= SIGRTMIN + 4; number++)
                if (sigismember(&waiting, number) && sigismember(signals, number))
                    return;
        }
    }
}

/* Tells when it runs again after it stood for long: by the machine's clock, which everybody can compare. */
static _Noreturn void tick(void)
{
    double last = now_of(CLOCK_REALTIME);
    say("ready");
    for (;;) {
        double now = now_of(CLOCK_REALTIME);
        if (now - last > 0.2) {
            printf("again %.6f\n", now);
            fflush(stdout);
        }
        last = now;
    }
}

static void pages_serve(const char *kind, uint64_t mebibytes)
{
    sigset_t signals;
    uint64_t bytes = mebibytes << 20;
    memory = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory = (uint8_t *)(((uintptr_t)memory + HUGE - 1) & ~(HUGE - 1));
    madvise(memory, bytes, strcmp(kind, "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    pages = bytes / PAGE;
    hot = pages / 16;
    fill(strcmp(kind, "ticks") == 0 ? "pages" : kind);
    if (strcmp(kind, "ticks") == 0)
        tick();
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    for (int number = SIGRTMIN; number <= SIGRTMIN + 4; number++)
        sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    say("ready");
    for (;;) {
        int got = sigwaitinfo(&signals, NULL);
        if (got == SIGUSR2)
            fork_time();
        else if (got == SIGRTMIN || got == SIGRTMIN + 1)
            touch(got == SIGRTMIN ? 100 : 20);
        else if (got == SIGRTMIN + 2 || got == SIGRTMIN + 3)
            write_on(got == SIGRTMIN + 2 ? pages : hot, &signals);
    }
}

static void processes(int count, uint64_t mebibytes)
{
    pages = (mebibytes << 20) / PAGE;
    for (int k = 1; k < count; k++) {
        if (fork() != 0)
            continue;
        memory = malloc(pages * PAGE);
        seed = (uint64_t)k << 32;
        fill("pages");
        for (;;)
            pause();
    }
    sleep(2);
    rest();
}

/* As a launcher starts them: addresses differ, contents are the same. */
static void ranks(char **argv, int count)
{
    char *const child[] = {argv[0], "rank", argv[3], NULL};
    for (int k = 0; k < count; k++)
        if (fork() == 0) {
            execv(child[0], child);
            _exit(1);
        }
    for (int k = 0; k < count; k++)
        wait(NULL); /* each ends when its child holds the content */
    rest();
}

static void rank(uint64_t mebibytes)
{
    pages = (mebibytes << 20) / PAGE;
    memory = malloc(pages * PAGE);
    fill("same");
    if (fork() != 0)
        _exit(0);
    for (;;)
        pause();
}

static void *sleeper(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void threads(int count)
{
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int k = 1; k < count; k++)
        if (pthread_create(&thread, &small, sleeper, NULL))
            exit(1);
    rest();
}

/* `count` ends of TCP connections, bytes waiting in each. */
static void sockets(int count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit many = {4096, 4096};
    socklen_t len = sizeof at;
    static char data[4096];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setrlimit(RLIMIT_NOFILE, &many);
    if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 64) < 0 || getsockname(listener, (struct sockaddr *)&at, &len) < 0)
        exit(1);
    for (int k = 0; k < count / 2; k++) {
        int one = socket(AF_INET, SOCK_STREAM, 0);
        int other = connect(one, (struct sockaddr *)&at, len) < 0 ? -1 : accept(listener, NULL, NULL);
        if (other < 0 || send(one, data, sizeof data, 0) < 0 || send(other, data, 1000, 0) < 0)
            exit(1);
    }
    rest();
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    int count = atoi(argv[2]);
    if (strcmp(argv[1], "processes") == 0 && argc == 4)
        processes(count, (uint64_t)atoi(argv[3]));
    if (strcmp(argv[1], "ranks") == 0 && argc == 4)
        ranks(argv, count);
    if (strcmp(argv[1], "rank") == 0)
        rank((uint64_t)count);
    if (strcmp(argv[1], "threads") == 0)
        threads(count);
    if (strcmp(argv[1], "sockets") == 0)
        sockets(count);
    pages_serve(argv[1], (uint64_t)count);
}
