/* See crew.h. */
#include "crew.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "../base/urgent.h"

#define ALONE_MAX 4

struct crew {
    int (*piece)(void *ctx, size_t worker, size_t i, struct err *e);
    void *ctx;
    size_t count;
    atomic_size_t next;
    atomic_bool failed;
    pthread_mutex_t mutex;
    struct err failure; /* the first; under mutex */
};
struct worker {
    struct crew *crew;
    size_t number;
    pthread_t thread;
};

static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static cpu_set_t processors;

static void processors_look(void)
{
    if (sched_getaffinity(0, sizeof processors, &processors) < 0)
        CPU_ZERO(&processors);
}

void crew_prepare(void)
{
    pthread_once(&prepared, processors_look);
}

static void crew_fail(struct crew *c, const struct err *why)
{
    pthread_mutex_lock(&c->mutex);
    if (!atomic_exchange(&c->failed, true))
        c->failure = *why;
    pthread_mutex_unlock(&c->mutex);
}

static void *worker_run(void *argument)
{
    struct worker *w = argument;
    struct crew *c = w->crew;
    for (;;) {
        struct err e = {0};
        size_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->count || atomic_load(&c->failed))
            return NULL;
        if (c->piece(c->ctx, w->number, i, &e))
            crew_fail(c, &e);
    }
}

/* `cpu` < 0: wherever there is room. */
static int thread_start(struct worker *w, int cpu)
{
    cpu_set_t one;
    pthread_attr_t attr;
    CPU_ZERO(&one);
    if (pthread_attr_init(&attr))
        return -1;
    if (cpu >= 0)
        CPU_SET((size_t)cpu, &one);
    int failed = (cpu >= 0 && pthread_attr_setaffinity_np(&attr, sizeof one, &one)) || pthread_create(&w->thread, &attr, worker_run, w);
    pthread_attr_destroy(&attr);
    return failed ? -1 : 0;
}

/* One per processor that this process may use, from place `first` on; fewer when there are fewer pieces or threads to be had. */
static size_t threads_start(struct worker workers[CREW_MAX], struct crew *c, size_t first, bool pinned)
{
    size_t there = 0, started = first;
    crew_prepare();
    for (int cpu = 0; cpu < CPU_SETSIZE && there < CREW_MAX && started < c->count; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &processors) || there++ < first)
            continue;
        workers[started] = (struct worker){c, started, 0};
        if (thread_start(&workers[started], pinned ? cpu : -1))
            break;
        started++;
    }
    return started;
}

/* Who goes first works along, and is spread by the scheduler: pinned to one processor it could wait there for another pod's engine. */
static void crew_run(struct crew *c)
{
    struct worker workers[CREW_MAX];
    sigset_t all, before;
    size_t own = urgent_is();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    size_t started = threads_start(workers, c, own, !own);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (own || !started)
        worker_run(&(struct worker){c, 0, 0});
    for (size_t i = own; i < started; i++)
        pthread_join(workers[i].thread, NULL);
}

int crew_work(size_t count, int (*piece)(void *ctx, size_t worker, size_t i, struct err *e), void *ctx, struct err *e)
{
    struct crew c = {.piece = piece, .ctx = ctx, .count = count, .mutex = PTHREAD_MUTEX_INITIALIZER};
    if (count <= ALONE_MAX)
        worker_run(&(struct worker){&c, 0, 0});
    else
        crew_run(&c);
    if (!c.failed)
        return 0;
    *e = c.failure;
    return -1;
}
