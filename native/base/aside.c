/* See aside.h. Signals stay with the caller. */
#include "aside.h"

#include <signal.h>

static void *aside_run(void *argument)
{
    struct aside *a = argument;
    a->result = a->work(a->ctx, &a->error);
    return NULL;
}

void aside_begin(struct aside *a, int (*work)(void *ctx, struct err *e), void *ctx)
{
    sigset_t all, before;
    CHECK(!a->begun);
    *a = (struct aside){.work = work, .ctx = ctx, .begun = true};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    a->threaded = pthread_create(&a->thread, NULL, aside_run, a) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!a->threaded)
        aside_run(a);
}

int aside_end(struct aside *a, struct err *e)
{
    if (!a->begun)
        return 0;
    if (a->threaded)
        pthread_join(a->thread, NULL);
    a->begun = false;
    if (a->result < 0)
        *e = a->error;
    return a->result;
}
