/* See fiber.h. SIGCHLD stays blocked from the first wait on: it is how sleep ends. */
#include "fiber.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define SWITCH_BEGIN(save, stack, len) __sanitizer_start_switch_fiber(save, stack, len)
#define SWITCH_END(fake, stack, len) __sanitizer_finish_switch_fiber(fake, stack, len)
#else
#define SWITCH_BEGIN(save, stack, len) ((void)(save), (void)(stack), (void)(len))
#define SWITCH_END(fake, stack, len) ((void)(fake), (void)(stack), (void)(len))
#endif

#define STACK_BYTES (256ul * 1024)
#define SLEEP_NS 2000000
#define NAP_NS 50000

struct waiting {
    pid_t pid, got; /* pid 0: not waiting */
    int status, error;
    uint64_t deadline_ns;
    bool late;
};
struct fiber {
    ucontext_t context;
    uint8_t *stack;           /* one of stacks */
    size_t i;
    bool alive;
    struct waiting waiting;
    void *fake; /* of the address sanitizer */
};
struct fibers {
    struct fiber *items;
    fiber_piece *piece;
    void *ctx;
    size_t count, next, alive;
    ucontext_t home;
    const void *home_stack;
    size_t home_len;
    bool progress, failed;
    struct err failure;
};

static _Thread_local struct fibers *crew;
static _Thread_local uint8_t *stacks[FIBERS_MAX]; /* from one run to the next */
static _Thread_local struct fiber *now; /* NULL: the thread itself */
static _Thread_local enum { UNKNOWN, OURS, THEIRS } child_signal;

/* Where SIGCHLD is blocked already (the keeper reads it from a descriptor) it is not ours to take. */
static void child_await(void)
{
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    struct timespec nap = {0, child_signal == OURS ? SLEEP_NS : child_signal == THEIRS ? NAP_NS : 0};
    if (child_signal == UNKNOWN) { /* the first look was without it: it is made again */
        pthread_sigmask(SIG_BLOCK, &child, &before);
        child_signal = sigismember(&before, SIGCHLD) ? THEIRS : OURS;
    }
    if (child_signal == OURS)
        sigtimedwait(&child, NULL, &nap);
    else
        nanosleep(&nap, NULL);
}

static void fiber_go_home(bool for_good)
{
    struct fiber *f = now;
    SWITCH_BEGIN(for_good ? NULL : &f->fake, crew->home_stack, crew->home_len);
    if (for_good)
        setcontext(&crew->home);
    swapcontext(&f->context, &crew->home);
    SWITCH_END(f->fake, NULL, NULL);
}

static bool is_over(struct waiting *w)
{
    w->got = waitpid(w->pid, &w->status, __WALL | WNOHANG);
    w->error = errno;
    w->late = w->got == 0 && w->deadline_ns && clock_ns(CLOCK_MONOTONIC) > w->deadline_ns;
    return w->got > 0 || (w->got < 0 && w->error != EINTR) || w->late;
}

int fiber_waitpid(pid_t pid, int *status, uint64_t deadline_ns)
{
    struct waiting own = {0}, *w = now ? &now->waiting : &own;
    *w = (struct waiting){.pid = pid, .deadline_ns = deadline_ns};
    while (!is_over(w)) {
        if (now) {
            fiber_go_home(false);
            break;
        }
        child_await();
    }
    *status = w->status;
    errno = w->error;
    w->pid = 0;
    return w->got > 0 ? 0 : w->late ? 1 : -1;
}

static void fiber_main(void)
{
    struct fibers *c = crew;
    struct err e = {0};
    SWITCH_END(NULL, &c->home_stack, &c->home_len);
    if (c->piece(c->ctx, now->i, &e) < 0 && !c->failed) {
        c->failure = e;
        c->failed = true;
    }
    now->alive = false;
    c->alive--;
    fiber_go_home(true);
}

static void fiber_enter(struct fibers *c, struct fiber *f)
{
    void *fake = NULL;
    now = f;
    SWITCH_BEGIN(&fake, f->stack, STACK_BYTES);
    swapcontext(&c->home, &f->context);
    SWITCH_END(fake, NULL, NULL);
    now = NULL;
}

static uint8_t *stack_make(void)
{
    uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    CHECK(stack != MAP_FAILED && mprotect(stack, PAGE_BYTES, PROT_NONE) == 0);
    return stack;
}

static void fiber_begin(struct fibers *c, struct fiber *f, size_t place)
{
    if (!stacks[place])
        stacks[place] = stack_make();
    f->stack = stacks[place];
    f->i = c->next++;
    f->waiting.pid = 0;
    f->alive = true;
    c->alive++;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

static void fibers_round(struct fibers *c)
{
    c->progress = false;
    for (size_t k = 0; k < FIBERS_MAX; k++) {
        if (!c->items[k].alive && c->next < c->count && !c->failed)
            fiber_begin(c, &c->items[k], k);
        if (!c->items[k].alive || (c->items[k].waiting.pid && !is_over(&c->items[k].waiting)))
            continue;
        c->progress = true;
        fiber_enter(c, &c->items[k]);
    }
    if (!c->progress && c->alive)
        child_await();
}

int fibers_run(size_t count, fiber_piece *piece, void *ctx, struct err *e)
{
    CHECK(!crew);
    struct fibers c = {.items = xcalloc(FIBERS_MAX, sizeof *c.items), .piece = piece, .ctx = ctx, .count = count};
    crew = &c;
    while (c.alive || (c.next < count && !c.failed))
        fibers_round(&c);
    crew = NULL;
    free(c.items);
    if (!c.failed)
        return 0;
    *e = c.failure;
    return -1;
}
