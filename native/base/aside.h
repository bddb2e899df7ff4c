/* One piece of work in a thread of its own while the caller does something else. */
#pragma once
#include <pthread.h>

#include "base.h"

struct aside { /* zeroed: nothing is under way */
    int (*work)(void *ctx, struct err *e);
    void *ctx;
    pthread_t thread;
    bool begun, threaded;
    int result;
    struct err error;
};
/* Where no thread is to be had the work is done at once. */
void aside_begin(struct aside *a, int (*work)(void *ctx, struct err *e), void *ctx);
/* Waits for it: what it answered, 0 when nothing was under way. */
MUST_CHECK int aside_end(struct aside *a, struct err *e);
