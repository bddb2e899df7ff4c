/* The keeper's life: start, the loop, the lease, the end. See keeper.h. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "keeper_parts.h"
#include "state.h"

#define DEAD_POD_ACT_GRACE_MS 10000

void keeper_log(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    AUTO_FREE char *text = NULL;
    CHECK(vasprintf(&text, format, args) >= 0);
    va_end(args);
    uint64_t now_ms = clock_ns(CLOCK_REALTIME) / 1000000;
    fprintf(stderr, "%lu.%03lu keeper[%d]: %s\n", now_ms / 1000, now_ms % 1000, getpid(), text);
}

int keeper_lock(int dirfd, struct err *e)
{
    int fd = openat(dirfd, "keeper.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        return err_errno(e, "open keeper.lock");
    if (fcntl(fd, F_SETLK, &lock) == 0)
        return fd;
    close(fd);
    return err_set(e, E_BUSY, "the pod has a keeper already");
}

bool keeper_alive(int dirfd)
{
    AUTO_CLOSE int fd = openat(dirfd, "keeper.lock", O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

_Noreturn void keeper_exec(const char *dir)
{
    AUTO_FREE char *copy = xstrdup(dir);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    char *const argv[] = {"native", "adopt", "--pod", copy, "--keeper", NULL};
    execv("/proc/self/exe", argv);
    keeper_log("cannot become the keeper: %s", strerror(errno));
    _exit(E_OS);
}

/* ---- what owner and lease want */

int keeper_end(struct keeper *k, const char *reason, struct err *e)
{
    act_kill(k, E_ABORTED, reason);
    if (pod_destroy(&k->pod, reason, e) < 0)
        return -1;
    fill_end(k);
    keeper_log("the pod has ended%s%s", k->pod.reason[0] ? ": " : "", k->pod.reason);
    k->over = true;
    return 0;
}

int keeper_settle(struct keeper *k, struct err *e)
{
    bool wanted = k->pod.suspended || k->pod.lease_frozen;
    if (k->act.pid || k->over || k->init_dead || pod_is_frozen(&k->pod) == wanted)
        return 0;
    if (!wanted)
        return pod_thaw(&k->pod, e);
    if (pod_freeze(&k->pod, e) == 0)
        return 0;
    if (!k->pod.lease_frozen)
        return -1;
    keeper_log("%s", e->message); /* it must not run on without a lease: another may start it elsewhere */
    return keeper_end(k, "its lease ran out and it cannot be frozen", e);
}

static int lease_timer(struct keeper *k, struct err *e)
{
    struct itimerspec at = {.it_value = {(time_t)(k->pod.lease_until_ns / 1000000000u), (long)(k->pod.lease_until_ns % 1000000000u)}};
    return timerfd_settime(k->lease_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0 ? err_errno(e, "set the lease's timer") : 0;
}

int keeper_lease(struct keeper *k, uint64_t epoch, uint64_t until_ns, struct err *e)
{
    if (k->pod.epoch && epoch < k->pod.epoch)
        return err_set(e, E_STALE, "epoch %lu is over: the pod is of epoch %lu", epoch, k->pod.epoch);
    if (k->pod.epoch && epoch > k->pod.epoch)
        return keeper_end(k, "a newer epoch of the run has begun", e);
    k->pod.epoch = epoch;
    if (until_ns > k->pod.lease_until_ns)
        k->pod.lease_until_ns = until_ns;
    if (k->pod.lease_until_ns > clock_ns(CLOCK_BOOTTIME))
        k->pod.lease_frozen = false;
    if (pod_lease_save(&k->pod, e) < 0)
        keeper_log("%s", e->message); /* an older lease on disk errs on the safe side */
    return lease_timer(k, e) < 0 ? -1 : keeper_settle(k, e);
}

static void lease_check(struct keeper *k)
{
    struct err why = {0};
    uint64_t ticks;
    if (read(k->lease_fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
        keeper_log("lease timer: %s", strerror(errno));
    if (!k->pod.lease_until_ns || k->pod.lease_until_ns > clock_ns(CLOCK_BOOTTIME) || k->pod.lease_frozen)
        return;
    keeper_log("the lease ran out");
    k->pod.lease_frozen = true;
    if (pod_lease_save(&k->pod, &why) < 0)
        keeper_log("%s", why.message);
    act_kill(k, E_ABORTED, "the pod's lease ran out");
    if (keeper_settle(k, &why) < 0)
        keeper_log("%s", why.message);
}

/* ---- children and podinit */

static void init_exit_take(struct keeper *k, int status)
{
    struct err why;
    char text[32];
    pod_exit_load(&k->pod);
    if (k->pod.has_exit || !WIFEXITED(status) || faccessat(k->pod.dirfd, "reason", F_OK, 0) == 0)
        return; /* COMMAND has no status: it was ended for a reason that podinit gave */
    int n = snprintf(text, sizeof text, "%d\n", WEXITSTATUS(status) << 8);
    if (io_replace(k->pod.dirfd, "exit", text, (size_t)n, 0600, &why) < 0)
        keeper_log("%s", why.message);
}

static void children_reap(struct keeper *k)
{
    struct signalfd_siginfo info;
    while (read(k->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        continue;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == k->act.pid)
            act_reaped(k, status);
        else if (pid == k->pod.init_pid)
            init_exit_take(k, status);
        else if (pid == k->filler_pid)
            fill_reaped(k, status);
    }
}

static void init_ended(struct keeper *k)
{
    struct err why = {0};
    k->init_dead = true;
    if (k->act.pid)
        return; /* its result first */
    children_reap(k);
    pod_exit_load(&k->pod);
    AUTO_BUF struct buf said = {0};
    bool has_said = io_slurp(k->pod.dirfd, "reason", &said, sizeof k->pod.reason, &why) == 0 && said.len;
    if (keeper_end(k, has_said ? (char *)said.data : k->pod.has_exit ? "" : "podinit was killed", &why) < 0) {
        keeper_log("%s", why.message);
        poll(NULL, 0, 500);
    }
}

/* ---- start */

static int socket_make(struct keeper *k, struct err *e)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "keeper.sock"};
    if (fchdir(k->pod.dirfd) < 0)
        return err_errno(e, "enter %s", k->pod.dir);
    unlink("keeper.sock");
    k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (k->listen_fd < 0 || bind(k->listen_fd, (struct sockaddr *)&name, sizeof name) < 0 || chmod("keeper.sock", 0600) < 0 || listen(k->listen_fd, 64) < 0)
        return err_errno(e, "make keeper.sock");
    return chdir("/") < 0 ? err_errno(e, "chdir /") : 0;
}

static int watches_make(struct keeper *k, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    k->lease_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    k->init_fd = pod_init_alive(&k->pod) ? (int)syscall(SYS_pidfd_open, k->pod.init_pid, 0) : -1;
    if (k->init_fd >= 0 && !pod_init_alive(&k->pod)) {
        close(k->init_fd);
        k->init_fd = -1;
    }
    k->init_dead = k->init_fd < 0;
    return k->signal_fd < 0 || k->lease_fd < 0 ? err_errno(e, "make the keeper's watches") : 0;
}

static void log_redirect(int dirfd)
{
    AUTO_CLOSE int log = openat(dirfd, "log/keeper.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log >= 0)
        dup2(log, 2);
}

static int keeper_start(struct keeper *k, struct err *e)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    prctl(PR_SET_NAME, "keeper");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (keeper_lock(k->pod.dirfd, e) < 0)
        return -1;
    log_redirect(k->pod.dirfd);
    bool half = strcmp(k->pod.phase, "making") == 0;
    k->pod.keeper_pid = getpid();
    if (watches_make(k, e) < 0)
        return -1;
    if (!half)
        fill_start(k); /* the job may wait for its memory already */
    bool is_last_act_done = act_recover(k);
    if (half)
        return keeper_end(k, "its making was interrupted", e);
    if (is_last_act_done)
        return act_pod_end(k, e);
    if (pod_state_save(&k->pod, e) < 0)
        keeper_log("%s", e->message);
    if (socket_make(k, e) < 0 || lease_timer(k, e) < 0)
        return -1;
    fill_begin(k);
    lease_check(k);
    return keeper_settle(k, e);
}

/* ---- the loop */

static size_t watched_fill(struct keeper *k, struct pollfd *watched)
{
    size_t count = 0;
    const int fixed[] = {k->listen_fd, k->signal_fd, k->init_dead ? -1 : k->init_fd, k->lease_fd, k->act.pid ? k->act.out_fd : -1};
    for (size_t n = 0; n < ARRAY_LENGTH(fixed); n++)
        watched[count++] = (struct pollfd){.fd = fixed[n], .events = POLLIN};
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX; n++)
        watched[count++] = (struct pollfd){.fd = k->clients[n].fd, .events = k->clients[n].said_all ? 0 : POLLIN};
    return count;
}

static void turn(struct keeper *k, int timeout_ms)
{
    struct pollfd watched[5 + KEEPER_CLIENTS_MAX];
    size_t count = watched_fill(k, watched);
    if (poll(watched, count, timeout_ms) <= 0)
        return;
    if (watched[3].revents)
        lease_check(k);
    if (watched[4].revents)
        act_readable(k);
    if (watched[1].revents)
        children_reap(k);
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX && !k->over; n++)
        if (watched[5 + n].revents && k->clients[n].fd == watched[5 + n].fd && k->clients[n].fd >= 0)
            client_readable(k, &k->clients[n]);
    if (watched[0].revents && !k->over)
        clients_accept(k);
    if (watched[2].revents && !k->init_dead)
        init_ended(k);
}

static void loop(struct keeper *k)
{
    uint64_t dead_since_ms = 0;
    while (!k->over) {
        turn(k, fill_timeout_ms(k, k->init_dead ? 100 : -1));
        uint64_t now_ms = clock_ns(CLOCK_MONOTONIC) / 1000000;
        if (!k->init_dead || k->over)
            continue;
        if (!dead_since_ms)
            dead_since_ms = now_ms;
        if (k->act.pid && now_ms - dead_since_ms > DEAD_POD_ACT_GRACE_MS)
            act_kill(k, E_ABORTED, "the pod ended");
        if (!k->act.pid)
            init_ended(k);
    }
}

int keeper_main(const char *dir)
{
    struct err why = {0};
    struct keeper k = {.listen_fd = -1, .signal_fd = -1, .init_fd = -1, .lease_fd = -1, .track = {-1, -1}, .act = {.in_fd = -1, .out_fd = -1}};
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX; n++)
        k.clients[n].fd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k.track) < 0 || pod_state_load(dir, &k.pod, &why) < 0 || keeper_start(&k, &why) < 0) {
        keeper_log("%s", why.message);
        return (int)why.code;
    }
    loop(&k);
    for (size_t n = 0; n < KEEPER_CLIENTS_MAX; n++)
        client_close(&k.clients[n]);
    unlinkat(k.pod.dirfd, "keeper.sock", 0);
    pod_close(&k.pod);
    return E_OK;
}
