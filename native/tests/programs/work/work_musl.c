/* A static binary of another C library: threads, a pipe, a child, a timer, malloc. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t parts[3];
static pthread_barrier_t begin, finish;

static void tick(int number)
{
    (void)number;
    ticks++;
}
static uint64_t mix(uint64_t x, int rounds)
{
    while (rounds--)
        x = (x * 6364136223846793005u + 1442695040888963407u) ^ x >> 29;
    return x;
}
static void *worker(void *argument)
{
    uint64_t who = (uint64_t)(uintptr_t)argument;
    for (uint64_t step = 0;; step++) {
        pthread_barrier_wait(&begin);
        uint64_t *many = malloc(100000 * sizeof *many), sum = step + who;
        for (size_t k = 0; k < 100000; k++)
            sum += many[k] = mix(sum, 3);
        pthread_mutex_lock(&lock);
        parts[who] = sum;
        pthread_mutex_unlock(&lock);
        free(many);
        pthread_barrier_wait(&finish);
    }
    return NULL;
}
static void must(int good, const char *what)
{
    if (!good) {
        printf("FAIL %s\n", what);
        exit(1);
    }
}
int main(void)
{
    int to[2], from[2];
    uint64_t state = 1;
    must(pipe(to) == 0 && pipe(from) == 0, "pipes");
    if (fork() == 0) {
        close(to[1]);
        for (uint64_t x; read(to[0], &x, sizeof x) == sizeof x;) {
            x = mix(x, 1000);
            must(write(from[1], &x, sizeof x) == sizeof x, "answer");
        }
        _exit(0);
    }
    struct itimerval every = {{0, 3000}, {0, 3000}};
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    pthread_barrier_init(&begin, NULL, 4);
    pthread_barrier_init(&finish, NULL, 4);
    for (uintptr_t who = 0; who < 3; who++) {
        pthread_t thread;
        must(pthread_create(&thread, NULL, worker, (void *)who) == 0, "thread");
    }
    for (int step = 0; step < 150; step++) {
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&finish);
        for (int k = 0; k < 3; k++)
            state = state * 31 + parts[k];
        must(write(to[1], &state, sizeof state) == sizeof state && read(from[0], &state, sizeof state) == sizeof state, "child");
        int before = ticks;
        while (ticks == before)
            pause();
        printf("step %d %llu\n", step, (unsigned long long)state);
        fflush(stdout);
    }
    close(to[1]);
    must(wait(NULL) > 0, "wait");
    puts("end");
    return 0;
}
