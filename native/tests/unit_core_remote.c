/* Injected calls: they give the right results, and a tracer killed at any instant leaves the victim running as if nothing had been. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "../kernel/remote.h"
#include "../kernel/trace.h"

#define ROUNDS 200

struct board {
    volatile uint64_t turns, naps;
    volatile int wrong;
    volatile uint64_t tail, tail_len, scratch; /* the journal */
};
static struct board *board;
static int tests;

static void ok(bool good, const char *sentence)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++tests, sentence);
    if (!good)
        exit(1);
}

/* Every register that may hold a value holds one, over a stretch of instructions. */
static void *sleeper(void *unused)
{
    sigset_t odd;
    sigemptyset(&odd);
    sigaddset(&odd, SIGUSR2);
    sigaddset(&odd, SIGURG);
    pthread_sigmask(SIG_SETMASK, &odd, NULL);
    for (;;) {
        struct timespec nap = {0, 300000};
        if (nanosleep(&nap, NULL) != 0)
            board->wrong |= 1;
        if (poll(NULL, 0, 1) != 0)
            board->wrong |= 2;
        sigset_t now;
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        if (!sigismember(&now, SIGUSR2) || !sigismember(&now, SIGURG) || sigismember(&now, SIGTERM))
            board->wrong |= 4;
        board->naps++;
    }
    return unused;
}

static _Noreturn void victim(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, sleeper, NULL);
    for (;; board->turns++) {
        uint64_t sum = 0;
        double f = 1.0;
        for (uint64_t k = 0; k < 20000; k++) {
            sum = sum * 6364136223846793005ull + k;
            f = f * 1.0000001 + 0.5;
        }
        static uint64_t first;
        static double first_f;
        if (!first)
            first = sum, first_f = f;
        if (first != sum || first_f != f)
            board->wrong |= 8;
    }
}

static int journal(const struct victim *v, const char *what, uint64_t address, uint64_t len, struct err *e)
{
    (void)v, (void)e;
    if (strcmp(what, "tail") == 0)
        board->tail_len = len, board->tail = address;
    else
        board->scratch = address;
    return 0;
}

static void victim_take(struct victim *v, pid_t pid)
{
    struct err e = {0};
    PID_LIST struct pid_list tids = {0};
    CHECK(proc_threads(pid, &tids, &e) == 0);
    *v = (struct victim){.pid = pid, .inner_pid = pid, .pidfd = -1, .notify_signal = SIGURG};
    AUTO_FREE char *path = xasprintf("/proc/%d/mem", pid);
    v->memfd = open(path, O_RDWR | O_CLOEXEC);
    v->threads = xcalloc(tids.count, sizeof *v->threads);
    v->thread_count = tids.count;
    for (size_t k = 0; k < tids.count; k++) {
        struct victim_thread *t = &v->threads[k];
        int status;
        t->tid = t->inner_tid = tids.items[k];
        CHECK(trace_seize(t->tid, 0, &e) == 0 && trace_interrupt(t->tid, &e) == 0 && trace_wait(t->tid, 0, &status, &e) == 0);
        CHECK(trace_regs_get(t->tid, &t->regs, &e) == 0 && trace_mask_get(t->tid, &t->sigmask, &e) == 0);
    }
}

static void victim_leave(struct victim *v)
{
    struct err e = {0};
    CHECK(remote_close(v, &e) == 0);
    board->tail = board->scratch = 0;
    for (size_t k = 0; k < v->thread_count; k++)
        CHECK(trace_detach(v->threads[k].tid, 0, &e) == 0);
    close(v->memfd);
    free(v->threads);
}

static void batch_everywhere(struct victim *v, size_t count)
{
    struct err e = {0};
    struct remote_call calls[REMOTE_BATCH_MAX];
    for (size_t t = 0; t < v->thread_count; t++) {
        for (size_t k = 0; k < count; k++)
            calls[k] = (struct remote_call){.nr = k & 1 ? SYS_gettid : SYS_getpid};
        size_t done;
        if (remote_batch(v, t, calls, count, true, &done, &e) < 0) {
            printf("# %s\n", e.message);
            exit(1);
        }
        CHECK(done == count && calls[0].ret == v->pid && calls[count - 1].ret == v->threads[t].tid);
    }
}

static _Noreturn void tracer(pid_t pid)
{
    for (;;) {
        struct victim v;
        victim_take(&v, pid);
        batch_everywhere(&v, 40);
        batch_everywhere(&v, 2);
        victim_leave(&v);
    }
}

static int undo(pid_t pid)
{
    struct victim v;
    struct err e = {0};
    victim_take(&v, pid);
    if (remote_undo(&v, board->tail, board->tail_len, board->scratch, &e) < 0) {
        printf("# undo: %s\n", e.message);
        return -1;
    }
    uint64_t tail = board->tail;
    victim_leave(&v);
    if (tail) {
        PROC_MAPS struct proc_maps maps = {0};
        CHECK(proc_maps_read(pid, false, &maps, &e) == 0);
        for (size_t k = 0; k < maps.count; k++)
            if (maps.items[k].prot == (PROT_READ | PROT_WRITE | PROT_EXEC))
                return -1;
    }
    return 0;
}

static bool runs_on(void)
{
    uint64_t turns = board->turns, naps = board->naps;
    for (int k = 0; k < 2000 && (board->turns < turns + 2 || board->naps < naps + 2); k++)
        usleep(2000);
    return board->turns >= turns + 2 && board->naps >= naps + 2 && !board->wrong;
}

static bool ends_well(pid_t pid)
{
    char path[64];
    struct err e;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    AUTO_CLOSE int mem = open(path, O_RDWR | O_CLOEXEC);
    const struct victim v = {.memfd = mem, .inner_pid = pid};
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    alarm(10);
    return mem >= 0 && victim_write(&v, (uint64_t)(uintptr_t)board, "x", 1, &e) < 0 && victim_read(&v, (uint64_t)(uintptr_t)board, path, 1, &e) < 0;
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)time(NULL);
    printf("# seed %u\n", seed);
    fflush(stdout);
    srand(seed);
    remote_journal = journal;
    board = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0)
        victim();
    usleep(50000);
    struct victim v;
    victim_take(&v, pid);
    batch_everywhere(&v, REMOTE_BATCH_MAX);
    victim_leave(&v);
    ok(runs_on(), "batches of calls give their results and the victim runs on");
    for (int round = 0; round < ROUNDS; round++) {
        pid_t killer = fork();
        if (killer == 0)
            tracer(pid);
        usleep((unsigned)(rand() % 6000));
        kill(killer, SIGKILL);
        waitpid(killer, NULL, 0);
        if (round % 2 ? !runs_on() || undo(pid) < 0 : undo(pid) < 0 || !runs_on()) {
            int status = 0;
            pid_t gone = waitpid(pid, &status, WNOHANG);
            printf("# round %d: wrong %d, gone %d status %x\n", round, board->wrong, gone == pid, (unsigned)status);
            ok(false, "a tracer killed at a random instant leaves the victim unharmed");
        }
    }
    ok(true, "a tracer killed at 200 random instants leaves the victim unharmed");
    ok(ends_well(pid), "the memory of a process that has ended takes nothing, which is an error and no endless loop");
    printf("1..%d\n", tests);
    return 0;
}
