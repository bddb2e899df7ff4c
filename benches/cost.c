/* What a program does all day, timed: `cost` prints `ready`, then at signal RTMIN+k does round k and prints `round K NANOSECONDS` of one operation:
 * 0 compute, 1 malloc and free, 2 open and close, 3 fork and wait, 4 a pipe there and back, 5 the same over TCP. One processor, no warm-up lost. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KINDS 6
static int there[2], back[2], near_end, far_end;
static volatile uint64_t result;
static const char *path;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void compute(void)
{
    uint64_t z = result;
    for (int k = 0; k < 1000; k++)
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul + 1;
    result = z;
}

static void allocate(void)
{
    for (size_t k = 1; k < 50; k++) {
        char *volatile p = malloc(k * 400);
        p[0] = 1;
        free(p);
    }
}

static void open_close(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || close(fd) < 0)
        exit(1);
}

static void fork_wait(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        exit(1);
}

static void ping(int to, int from)
{
    char c = 1;
    if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
        exit(1);
}

static void over_pipe(void)
{
    ping(there[1], back[0]);
}

static void over_tcp(void)
{
    ping(near_end, near_end);
}

static void echo(int from, int to)
{
    char c;
    while (read(from, &c, 1) == 1)
        if (write(to, &c, 1) != 1)
            break;
    _exit(0);
}

/* It ends with us, however that is. */
static void partner(int in, int out)
{
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        echo(in, out);
    }
}

static void partners_begin(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    near_end = socket(AF_INET, SOCK_STREAM, 0);
    if (pipe(there) < 0 || pipe(back) < 0 || bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) < 0 || connect(near_end, (struct sockaddr *)&at, len) < 0)
        exit(1);
    far_end = accept(listener, NULL, NULL);
    partner(there[0], back[1]);
    partner(far_end, far_end);
}

static void round_do(int kind)
{
    static void (*const works[KINDS])(void) = {compute, allocate, open_close, fork_wait, over_pipe, over_tcp};
    static const int times[KINDS] = {2000, 1000, 3000, 20, 300, 200};
    double begin = now_ns();
    for (int k = 0; k < times[kind]; k++)
        works[kind]();
    printf("round %d %.1f\n", kind, (now_ns() - begin) / times[kind]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    cpu_set_t one;
    sigset_t signals;
    if (argc != 2)
        return 64;
    path = argv[1];
    close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    partners_begin();
    sigemptyset(&signals);
    for (int k = 0; k < KINDS; k++)
        sigaddset(&signals, SIGRTMIN + k);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    puts("ready");
    fflush(stdout);
    for (;;)
        round_do(sigwaitinfo(&signals, NULL) - SIGRTMIN);
}
