/* Many threads (200, or as many as the argument says) that wait for one condition, each with memory of its own: all come back with their numbers. */
/* COVERAGE: 2,000 threads of one process | captured | shown by t_core_proc.py */
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "victim.h"

#define STACK_BYTES 65536

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long there, done;
static __thread long number, tid;

static void *body(void *own)
{
    number = (long)own;
    tid = syscall(SYS_gettid);
    pthread_mutex_lock(&mutex);
    there++;
    pthread_cond_broadcast(&changed);
    while (!done)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    return (void *)(intptr_t)(number == (long)own && tid == syscall(SYS_gettid) ? number : -1);
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 200;
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_attr_t attr;
    sigset_t ask;
    sigemptyset(&ask);
    sigaddset(&ask, SIGUSR1);
    MUST(threads && pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    pthread_sigmask(SIG_BLOCK, &ask, NULL);
    for (long k = 0; k < count; k++)
        MUST(pthread_create(&threads[k], &attr, body, (void *)k) == 0);
    pthread_mutex_lock(&mutex);
    while (there < count)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_UNBLOCK, &ask, NULL);
    victim_wait();
    pthread_mutex_lock(&mutex);
    done = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (long k = 0; k < count; k++) {
        void *result;
        MUST(pthread_join(threads[k], &result) == 0 && (long)(intptr_t)result == k);
    }
    return victim_ok();
}
