/* The keeper's filler: `native fill` for a pod that was restored lazily and misses memory still (POD/filling); begun anew when it dies. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "keeper_parts.h"
#include "pager.h"

#define PAUSE_FIRST_MS 20u
#define PAUSE_MOST_MS 1000u

static _Noreturn void filler_exec(const struct keeper *k, pid_t keeper)
{
    AUTO_FREE char *dir = xstrdup(k->pod.dir);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        _exit(E_ABORTED);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(2, 1); /* why it failed stands in the log */
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    char *const argv[] = {"native", "fill", "--pod", dir, NULL};
    execv("/proc/self/exe", argv);
    _exit(E_OS);
}

static bool is_to_fill(const struct keeper *k)
{
    return !k->filled && !k->init_dead && faccessat(k->pod.dirfd, "filling", F_OK, 0) == 0;
}

void fill_begin(struct keeper *k)
{
    if (!is_to_fill(k))
        return;
    fill_start(k);
    cgroups_freezer_leave(k->pod.cgroups, k->pod.init_pid);
}

void fill_start(struct keeper *k)
{
    if (k->filler_pid || !is_to_fill(k))
        return;
    pid_t own = getpid();
    k->filler_pid = fork();
    if (k->filler_pid == 0)
        filler_exec(k, own);
    if (k->filler_pid < 0)
        k->filler_pid = 0;
    k->fill_again_ms = 0;
    if (!k->filler_pid)
        k->fill_again_ms = clock_ns(CLOCK_MONOTONIC) / 1000000 + PAUSE_MOST_MS;
}

/* podinit goes back to the others, but not among the frozen: until it stands, too, the kernel calls none of them frozen. */
static void filled_settle(struct keeper *k)
{
    struct err why;
    if (!k->filled || (!k->init_dead && pod_is_frozen(&k->pod)))
        return;
    k->filled = false;
    if (cgroups_attach(k->pod.cgroups, k->pod.init_pid, &why) < 0 && !k->init_dead)
        keeper_log("%s", why.message);
    unlinkat(k->pod.dirfd, "filling", 0);
}

void fill_reaped(struct keeper *k, int status)
{
    k->filler_pid = 0;
    if (k->over || k->init_dead)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == E_OK) {
        k->filled = true;
        filled_settle(k);
        return;
    }
    keeper_log("the filler ended with %s %d", WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    k->fill_pause_ms = k->fill_pause_ms ? 2 * k->fill_pause_ms : PAUSE_FIRST_MS;
    k->fill_pause_ms = k->fill_pause_ms < PAUSE_MOST_MS ? k->fill_pause_ms : PAUSE_MOST_MS;
    k->fill_again_ms = clock_ns(CLOCK_MONOTONIC) / 1000000 + k->fill_pause_ms;
}

int fill_timeout_ms(struct keeper *k, int timeout_ms)
{
    uint64_t now_ms = clock_ns(CLOCK_MONOTONIC) / 1000000;
    filled_settle(k);
    if (!k->fill_again_ms)
        return timeout_ms;
    if (now_ms >= k->fill_again_ms)
        fill_start(k);
    int left_ms = k->fill_again_ms > now_ms ? (int)(k->fill_again_ms - now_ms) : 0;
    return !k->fill_again_ms || (timeout_ms >= 0 && timeout_ms < left_ms) ? timeout_ms : left_ms;
}

void fill_end(struct keeper *k)
{
    if (k->filler_pid > 0)
        kill(k->filler_pid, SIGKILL);
    unlinkat(k->pod.dirfd, "filling", 0);
    unlinkat(k->pod.dirfd, PAGER_SOCKET, 0);
}
