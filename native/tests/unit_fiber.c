/* Fibers: pieces side by side in one thread, each waiting for a child process of its own. */
#include <signal.h>
#include <sys/wait.h>

#include "base/fiber.h"
#include "tap.h"

#define PIECES 100

static int running, most, status_of[PIECES], failing = -1;

static int piece(void *ctx, size_t i, struct err *e)
{
    pid_t *pids = ctx;
    if ((int)i == failing)
        return err_set(e, E_OS, "piece %zu", i);
    running++;
    most = running > most ? running : most;
    pids[i] = fork();
    if (pids[i] == 0) {
        usleep((useconds_t)((PIECES - i) * 100));
        _exit((int)i % 50);
    }
    int failed = fiber_waitpid(pids[i], &status_of[i], 0);
    running--;
    return failed ? err_set(e, E_OS, "wait") : 0;
}

int main(void)
{
    struct err e = {0};
    pid_t pids[PIECES] = {0};
    int status, right = 0;
    seed_begin();
    ok(fibers_run(PIECES, piece, pids, &e) == 0 && most > 8 && most <= FIBERS_MAX, "many wait at once (%d)", most);
    for (int k = 0; k < PIECES; k++)
        right += WIFEXITED(status_of[k]) && WEXITSTATUS(status_of[k]) == k % 50;
    ok(right == PIECES, "each gets the status of its own child (%d)", right);
    ok(fibers_run(0, piece, pids, &e) == 0, "nothing to do is done");
    failing = 30;
    memset(pids, 0, sizeof pids);
    ok(fibers_run(PIECES, piece, pids, &e) < 0 && strstr(e.message, "piece 30"), "a failure is told: %s", e.message);
    int begun = 0;
    for (int k = 0; k < PIECES; k++)
        begun += pids[k] > 0;
    ok(running == 0 && begun == 30 && waitpid(-1, &status, WNOHANG) < 0, "those begun came to their end (%d), no other was begun", begun);
    pid_t slow = fork();
    if (slow == 0)
        for (;;)
            pause();
    ok(fiber_waitpid(slow, &status, clock_ns(CLOCK_MONOTONIC) + 5000000) == 1, "a deadline passes");
    kill(slow, SIGKILL);
    ok(fiber_waitpid(slow, &status, 0) == 0 && WIFSIGNALED(status), "outside of a crew it waits all the same");
    ok(fiber_waitpid(slow, &status, 0) < 0, "for nobody: told");
    return done_testing();
}
