/* The processes of an image, made in podinit by ordinary code. Each runs task_main: it makes its children in the order that its
 * session asks for, takes its descriptors, and waits for the tracer, which turns it into what it was. A board in shared memory keeps
 * them in step; whoever fails writes why, and all end with podinit. */
#include <errno.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "files_load.h"
#include "load.h"
#include "share.h"
#include "spaces.h"

#define STEP_DEADLINE_NS 60000000000ul

enum step { STEP_BORN, STEP_GROUPED, STEP_FILES, STEP_READY, STEPS };

struct tree_board {
    _Atomic uint32_t reached[STEPS]; /* how many processes got there */
    _Atomic uint32_t failed;
    struct err error;
    uint32_t expected;               /* processes that take part */
    uint64_t patience_ns;            /* for one step */
    _Atomic uint32_t helper_pid;     /* numbers for helpers, downwards; none of the image's */
};

int tree_board_make(struct restore *r, struct err *e)
{
    r->board = mmap(NULL, sizeof *r->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->board == MAP_FAILED)
        return err_errno(e, "map the board");
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 64, e, "/proc/sys/kernel/pid_max") < 0)
        return -1;
    r->board->helper_pid = (uint32_t)strtoul((char *)text.data, NULL, 10) - 1;
    r->board->patience_ns = STEP_DEADLINE_NS + shares_patience_ns(r);
    for (size_t k = 0; k < r->image->tasks_count; k++)
        r->board->expected += !r->births[k].skip;
    return 0;
}

static bool is_used(const struct image *image, uint64_t id)
{
    for (size_t k = 0; k < image->tasks_count; k++) {
        const struct task *t = &image->tasks[k];
        if (t->pid == id || t->sid == id || t->pgid == id)
            return true;
        for (size_t n = 0; n < t->threads_count; n++)
            if (t->threads[n].tid == id)
                return true;
    }
    return false;
}

static uint64_t helper_number(const struct restore *r)
{
    uint32_t id;
    do
        id = atomic_fetch_sub(&r->board->helper_pid, 1);
    while (is_used(r->image, id));
    return id;
}

static void board_fail(struct tree_board *b, const struct err *e)
{
    if (atomic_exchange(&b->failed, 1) == 0) {
        b->error = *e;
        atomic_store(&b->failed, 2);
    }
}

/* Only the last wakes the others: if each did, a hundred processes would be woken thousands of times. */
static void step_reach(struct tree_board *b, enum step step)
{
    if (atomic_fetch_add(&b->reached[step], 1) + 1 >= b->expected)
        syscall(SYS_futex, &b->reached[step], FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Whoever was killed in the making does not come any more: podinit sees it. Zombies end as they should. */
static int deaths_check(const struct restore *r, struct err *e)
{
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        const struct task *t = &r->image->tasks[k];
        struct proc_stat stat;
        struct err unborn;
        if (t->state != TASK_ZOMBIE && proc_stat_read((pid_t)t->pid, (pid_t)t->pid, &stat, &unborn) == 0 && stat.state == 'Z')
            return err_set(e, E_OS, "process %lu was ended while it was made", t->pid);
    }
    return 0;
}

/* Until all are there; -1 when one failed or time is up. */
static int step_await(const struct restore *r, size_t own, enum step step, struct err *e)
{
    struct tree_board *b = r->board;
    uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + b->patience_ns;
    for (;;) {
        uint32_t now = atomic_load(&b->reached[step]);
        if (now >= b->expected)
            return 0;
        if (atomic_load(&b->failed) == 2) {
            *e = b->error;
            return -1;
        }
        if (clock_ns(CLOCK_MONOTONIC) > deadline)
            return err_set(e, E_OS, "the processes do not come up (step %d: %u of %u)", step, now, b->expected);
        struct timespec nap = {0, 50000000};
        if (syscall(SYS_futex, &b->reached[step], FUTEX_WAIT, now, &nap, NULL, 0) < 0 && errno == ETIMEDOUT && own == BIRTH_INIT &&
            deaths_check(r, e) < 0)
            return -1;
    }
}

static int step_all(const struct restore *r, size_t own, enum step step, struct err *e)
{
    step_reach(r->board, step);
    return step_await(r, own, step, e);
}

static pid_t spawn_pid(uint64_t pid, uint64_t exit_signal)
{
    pid_t wanted = (pid_t)pid;
    struct clone_args args = {.exit_signal = exit_signal, .set_tid = pid ? (uint64_t)(uintptr_t)&wanted : 0, .set_tid_size = pid ? 1 : 0};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

pid_t helper_spawn(const struct restore *r, int exit_signal)
{
    return spawn_pid(helper_number(r), (uint64_t)exit_signal);
}

static _Noreturn void task_main(struct restore *r, size_t index);

static int task_spawn(struct restore *r, size_t index, struct err *e)
{
    const struct task *t = &r->image->tasks[index];
    pid_t pid = spawn_pid(t->pid, t->state == TASK_ZOMBIE ? SIGCHLD : t->exit_signal);
    if (pid == 0)
        task_main(r, index);
    return pid > 0 ? 0 : err_errno(e, "make process %lu", t->pid);
}

/* Through a helper that ends at once, so that podinit becomes the parent. */
static int orphan_spawn(struct restore *r, size_t index, struct err *e)
{
    pid_t helper = helper_spawn(r, SIGCHLD);
    if (helper == 0) {
        struct err error;
        if (task_spawn(r, index, &error) < 0)
            board_fail(r->board, &error);
        _exit(0);
    }
    if (helper < 0)
        return err_errno(e, "make a helper");
    while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
        continue;
    return 0;
}

static int children_spawn(struct restore *r, size_t index, bool before_setsid, struct err *e)
{
    for (size_t k = index + 1; k < r->image->tasks_count; k++)
        if (r->births[k].parent == index && r->births[k].before_setsid == before_setsid && task_spawn(r, k, e) < 0)
            return -1;
    for (size_t k = 0; k < r->image->tasks_count && !before_setsid; k++)
        if (r->births[k].through == index && orphan_spawn(r, k, e) < 0)
            return -1;
    return 0;
}

static bool is_task(const struct restore *r, uint64_t pid)
{
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->image->tasks[k].pid == pid && !r->births[k].skip)
            return true;
    return false;
}

/* ---- process groups: a dead leader's number is held by a helper until everybody has joined */
static bool is_first_of_group(const struct restore *r, size_t index)
{
    for (size_t k = 0; k < index; k++)
        if (r->image->tasks[k].pgid == r->image->tasks[index].pgid && !r->births[k].skip)
            return false;
    return true;
}

static bool needs_group_holder(const struct restore *r, size_t index)
{
    const struct task *t = &r->image->tasks[index];
    return t->pgid && t->pgid != t->sid && !is_task(r, t->pgid) && is_first_of_group(r, index);
}

static int group_holder_spawn(const struct task *t, pid_t *holder, struct err *e)
{
    *holder = spawn_pid(t->pgid, SIGCHLD);
    if (*holder == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    if (*holder < 0)
        return err_errno(e, "hold process group %lu", t->pgid);
    return setpgid(*holder, *holder) < 0 ? err_errno(e, "make process group %lu", t->pgid) : 0;
}

static void holder_end(pid_t holder)
{
    if (holder <= 0)
        return;
    kill(holder, SIGKILL);
    while (waitpid(holder, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static int group_join(const struct task *t, struct err *e)
{
    if (t->pgid == 0 || t->pgid == t->pid)
        return 0;
    return setpgid(0, (pid_t)t->pgid) < 0 ? err_errno(e, "join process group %lu", t->pgid) : 0;
}

/* ---- zombies */
static _Noreturn void zombie_end(uint64_t status)
{
    struct rlimit64 none = {0, 0};
    syscall(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL);
    int signal_number = (int)(status & 0x7f);
    if (signal_number) {
        signal(signal_number, SIG_DFL);
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        kill(getpid(), signal_number);
    }
    _exit((int)(status >> 8) & 0xff);
}

/* What is seen of the dead: a name and an owner, not ours and root's. */
static void zombie_look(const struct restore *r, const struct task *t)
{
    gid_t gid = (gid_t)r->image->pod.gid;
    uid_t uid = (uid_t)r->image->pod.uid;
    prctl(PR_SET_NAME, t->comm);
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return; /* an ordinary user has that number already */
}

/* A parent sees its zombies dead before it is made what it was: no late SIGCHLD. */
static void zombies_await(const struct restore *r, size_t index)
{
    for (size_t k = index + 1; k < r->image->tasks_count; k++) {
        siginfo_t info;
        if (r->births[k].parent == index && r->image->tasks[k].state == TASK_ZOMBIE)
            while (waitid(P_PID, (id_t)r->image->tasks[k].pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                continue;
    }
}

/* ---- the life of a process until the tracer takes it */
static int birth_steps(struct restore *r, size_t index, pid_t *holder, struct err *e)
{
    const struct task *t = &r->image->tasks[index];
    if (shares_build(r, index, e) < 0 || children_spawn(r, index, true, e) < 0)
        return -1;
    if (t->sid == t->pid && setsid() < 0)
        return err_errno(e, "make session %lu", t->sid);
    if (tty_take(r, t, e) < 0)
        return -1;
    if (t->pgid == t->pid && t->sid != t->pid && setpgid(0, 0) < 0)
        return err_errno(e, "make process group %lu", t->pgid);
    if (needs_group_holder(r, index) && group_holder_spawn(t, holder, e) < 0)
        return -1;
    if (children_spawn(r, index, false, e) < 0 || step_all(r, index, STEP_BORN, e) < 0)
        return -1;
    if (group_join(t, e) < 0 || step_all(r, index, STEP_GROUPED, e) < 0)
        return -1;
    return tty_foreground(r, t, e) < 0 ? -1 : tty_drop(t, e);
}

static int task_steps(struct restore *r, size_t index, struct err *e)
{
    const struct task *t = &r->image->tasks[index];
    pid_t holder = 0;
    if (birth_steps(r, index, &holder, e) < 0)
        return -1;
    holder_end(holder);
    if (t->state == TASK_ZOMBIE) {
        step_reach(r->board, STEP_FILES);
        step_reach(r->board, STEP_READY);
        zombie_look(r, t);
        zombie_end(t->exit_status);
    }
    size_t keep_count;
    AUTO_FREE int *keep = spaces_keep(r, &keep_count);
    if (files_load_task(r, t, keep, keep_count, e) < 0 || step_all(r, index, STEP_FILES, e) < 0 ||
        files_load_epolls(r, t, e) < 0)
        return -1;
    if (!r->image->pod.io_uring_allowed && pod_seccomp_io_uring(e) < 0)
        return -1;
    zombies_await(r, index);
    if (space_join(r, t, e) < 0)
        return -1;
    step_reach(r->board, STEP_READY);
    return 0;
}

static _Noreturn void task_main(struct restore *r, size_t index)
{
    struct err e = {0};
    if (task_steps(r, index, &e) < 0) {
        err_wrap(&e, "process %lu", r->image->tasks[index].pid);
        board_fail(r->board, &e);
    }
    for (;;)
        pause();
}

/* ---- podinit */
struct standin { /* of a dead session leader; podinit's child */
    uint64_t session;
    pid_t pid;
};

static int standin_spawn(struct restore *r, uint64_t session, pid_t *out, struct err *e)
{
    *out = spawn_pid(session, SIGCHLD);
    if (*out == 0) {
        struct err error = {0};
        setsid();
        for (size_t k = 0; k < r->image->tasks_count; k++)
            if (r->births[k].through == BIRTH_HELPER && r->births[k].session == session && orphan_spawn(r, k, &error) < 0)
                board_fail(r->board, &error);
        for (;;)
            pause();
    }
    return *out > 0 ? 0 : err_errno(e, "stand in for the leader of session %lu", session);
}

static int standins_spawn(struct restore *r, struct standin *standins, size_t *count, struct err *e)
{
    for (size_t k = 0; k < r->image->tasks_count; k++) {
        if (r->births[k].through != BIRTH_HELPER)
            continue;
        bool known = false;
        for (size_t s = 0; s < *count; s++)
            known |= standins[s].session == r->births[k].session;
        if (known)
            continue;
        standins[*count].session = r->births[k].session;
        if (standin_spawn(r, r->births[k].session, &standins[*count].pid, e) < 0)
            return -1;
        ++*count;
    }
    return 0;
}

int processes_make(struct restore *r, struct err *e)
{
    AUTO_FREE struct standin *standins = xcalloc(r->image->tasks_count, sizeof *standins);
    size_t count = 0;
    if (shares_build(r, BIRTH_INIT, e) < 0)
        return -1;
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->births[k].parent == BIRTH_INIT && r->births[k].through == BIRTH_DIRECT && !r->births[k].skip && task_spawn(r, k, e) < 0)
            return -1;
    if (standins_spawn(r, standins, &count, e) < 0 || step_await(r, BIRTH_INIT, STEP_GROUPED, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        holder_end(standins[k].pid);
    shares_forget(r);
    return step_await(r, BIRTH_INIT, STEP_READY, e);
}
