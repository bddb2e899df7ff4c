/* Threads: one sleeping, one waiting on a futex, one in poll, one in read, one computing with AVX, one that holds a robust mutex; after
 * the restore all end properly, are joined, and a new one can be made.
 * COVERAGE: threads | captured | with their numbers
 * COVERAGE: robust lists and mutexes, futex waits | captured |
 * COVERAGE: registers of vector units (AVX) | captured | all of xsave; a processor that lacks a feature is refused at restore */
#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "victim.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, robust;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static volatile int ending, woken;
static int pipe_fds[2], owner_pipe[2];
static __thread int own_value;
static pid_t tids[8];

static void enter(int k)
{
    own_value = k;
    tids[k] = (pid_t)syscall(SYS_gettid);
}
static void *leave(int k)
{
    MUST(own_value == k && tids[k] == (pid_t)syscall(SYS_gettid));
    return (void *)(intptr_t)k;
}
static void *sleeper(void *x)
{
    enter(1);
    while (!ending) {
        struct timespec nap = {0, 50000000};
        MUST(nanosleep(&nap, NULL) == 0);
    }
    return x ? x : leave(1);
}
static void *waiter(void *x)
{
    enter(2);
    pthread_mutex_lock(&mutex);
    while (!ending)
        pthread_cond_wait(&cond, &mutex);
    woken = 1;
    pthread_mutex_unlock(&mutex);
    return x ? x : leave(2);
}
static void *poller(void *x)
{
    enter(3);
    while (!ending)
        MUST(poll(NULL, 0, 30) == 0);
    return x ? x : leave(3);
}
static void *reader(void *x)
{
    char c;
    enter(4);
    MUST(read(pipe_fds[0], &c, 1) == 1 && c == 'x');
    return x ? x : leave(4);
}
__attribute__((target("avx2"))) static void *vectors(void *x)
{
    enter(5);
    __m256i a = _mm256_set1_epi64x(3), b = _mm256_set1_epi64x(5), step = _mm256_set_epi64x(1, 2, 3, 4);
    while (!ending) {
        for (int k = 0; k < 1000; k++) {
            a = _mm256_add_epi64(a, step);
            b = _mm256_add_epi64(b, step);
            __asm__ volatile("" : "+x"(a), "+x"(b));
        }
        __m256i d = _mm256_sub_epi64(b, a);
        int64_t v[4];
        _mm256_storeu_si256((__m256i *)v, d);
        for (int k = 0; k < 4; k++)
            MUST(v[k] == 2);
    }
    return x ? x : leave(5);
}
static void *scalars(void *x)
{
    enter(5);
    volatile double a = 1, b = 1;
    while (!ending) {
        a = a * 1.0000001 + 1e-9, b = b * 1.0000001 + 1e-9;
        MUST(a == b);
    }
    return x ? x : leave(5);
}
static void *owner(void *x)
{
    char c;
    enter(6);
    MUST(pthread_mutex_lock(&robust) == 0);
    MUST(read(owner_pipe[0], &c, 1) == 1);
    return x ? x : leave(6); /* ends as the owner */
}
static void *late(void *x)
{
    return x;
}

int main(void)
{
    void *(*const bodies[])(void *) = {sleeper, waiter, poller, reader, __builtin_cpu_supports("avx2") ? vectors : scalars, owner};
    pthread_t threads[6], one;
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attr);
    MUST(pipe(pipe_fds) == 0 && pipe(owner_pipe) == 0);
    for (int k = 0; k < 6; k++)
        pthread_create(&threads[k], NULL, bodies[k], NULL);
    usleep(50000);
    victim_wait();
    ending = 1;
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
    MUST(write(pipe_fds[1], "x", 1) == 1 && write(owner_pipe[1], "y", 1) == 1);
    for (int k = 0; k < 6; k++) {
        void *result;
        MUST(pthread_join(threads[k], &result) == 0 && result == (void *)(intptr_t)(k + 1));
    }
    MUST(woken && pthread_mutex_lock(&robust) == EOWNERDEAD);
    MUST(pthread_create(&one, NULL, late, NULL) == 0 && pthread_join(one, NULL) == 0);
    return victim_ok();
}
