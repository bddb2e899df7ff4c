/* Threads: made by clone3 inside the process with their old numbers, then what each told the kernel about itself; rights last.
 * Mirrors snapshot/thread_save.c. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "load.h"
#include "spaces.h"

#define LAST_CAPABILITY 40

struct kernel_sched_attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* ---- making them: by calls of the first thread, many at one stop. Each is born traced and stands before its first instruction; its stack pointer,
 * which it never uses there, says which it is. */
#define BIRTHS_AT_ONCE 128
#define BIRTH_STACK_BYTES 16ul

/* Threads have it from the first. */
static int bounding_drop(struct call_list *l, uint64_t which, struct err *e)
{
    for (uint64_t c = 0; c <= LAST_CAPABILITY; c++) {
        if (!(which >> c & 1))
            continue;
        if (CALL(l, e, SYS_prctl, PR_CAPBSET_DROP, c, 0, 0, 0, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true; /* a number that this kernel does not know */
    }
    return 0;
}

struct birth_call {
    struct clone_args args;
    int32_t tid, unused;
};

/* In a user namespace of its own: a number may not be asked for. */
static int birth_next(struct call_list *l, const struct restore *r, const struct task *task, size_t k, struct err *e)
{
    uint64_t at;
    struct clone_args args = {.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PTRACE,
                              .stack = k * BIRTH_STACK_BYTES, .stack_size = BIRTH_STACK_BYTES};
    if (space_next_pid(r, task->threads[k].tid, e) < 0 || call_data(l, &args, sizeof args, &at, e) < 0 ||
        CALL(l, e, SYS_clone3, at, sizeof args, 0, 0, 0, 0) < 0)
        return -1;
    l->wanted[l->count - 1] = (int64_t)task->threads[k].tid;
    return call_flush(l, e);
}

static int births_call(struct call_list *l, const struct task *task, size_t first, size_t count, struct err *e)
{
    struct birth_call births[BIRTHS_AT_ONCE] = {0};
    uint64_t at = l->v->data; /* where an empty list's data comes to lie */
    CHECK(l->count == 0 && l->data_used == 0);
    for (size_t k = 0; k < count; k++) {
        births[k].tid = (int32_t)task->threads[first + k].tid;
        births[k].args = (struct clone_args){
            .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PTRACE,
            .stack = (first + k) * BIRTH_STACK_BYTES, .stack_size = BIRTH_STACK_BYTES,
            .set_tid = at + k * sizeof births[0] + offsetof(struct birth_call, tid), .set_tid_size = 1};
    }
    if (call_data(l, births, count * sizeof births[0], &at, e) < 0)
        return -1;
    CHECK(births[0].args.set_tid == at + offsetof(struct birth_call, tid));
    for (size_t k = 0; k < count; k++) {
        if (CALL(l, e, SYS_clone3, at + k * sizeof births[0], sizeof births[0].args, 0, 0, 0, 0) < 0)
            return -1;
        l->wanted[l->count - 1] = births[k].tid;
    }
    return call_flush(l, e);
}

static int newborn_take(struct victim *v, const struct task *task, pid_t tid, struct err *e)
{
    struct user_regs_struct regs;
    int status;
    if (trace_wait(tid, 0, &status, e) < 0)
        return -1;
    if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP)
        return err_set(e, E_CONFLICT, "a new thread of process %d ended", v->inner_pid);
    if (trace_regs_get(tid, &regs, e) < 0)
        return -1;
    size_t index = regs.rsp / BIRTH_STACK_BYTES - 1;
    if (index < 1 || index >= task->threads_count || v->threads[index].tid)
        return err_set(e, E_CONFLICT, "process %d has a thread that nobody made", v->inner_pid);
    v->threads[index] = (struct victim_thread){.tid = tid, .inner_tid = (pid_t)task->threads[index].tid, .regs = regs, .sigmask = ~0ul, .stopped = true};
    v->thread_count++;
    return 0;
}

static int threads_make(struct call_list *l, const struct restore *r, const struct task *task, struct err *e)
{
    struct victim *v = l->v;
    size_t count = task->threads_count;
    PID_LIST struct pid_list tids = {0};
    if (call_flush(l, e) < 0)
        return -1;
    for (size_t k = 1; k < count && task->user_space; k++)
        if (birth_next(l, r, task, k, e) < 0)
            return -1;
    for (size_t first = 1; first < count && !task->user_space; first += BIRTHS_AT_ONCE)
        if (births_call(l, task, first, count - first < BIRTHS_AT_ONCE ? count - first : BIRTHS_AT_ONCE, e) < 0)
            return -1;
    if (proc_threads(v->pid, &tids, e) < 0)
        return -1;
    v->threads = xrealloc(v->threads, count, sizeof *v->threads);
    memset(v->threads + 1, 0, (count - 1) * sizeof *v->threads);
    for (size_t k = 0; k < tids.count; k++)
        if (tids.items[k] != v->pid && newborn_take(v, task, tids.items[k], e) < 0)
            return -1;
    return v->thread_count == count ? 0 : err_set(e, E_CONFLICT, "process %d has %zu of its %zu threads", v->inner_pid, v->thread_count, count);
}

/* ---- from outside */
static int sched_load(pid_t tid, const struct sched *s, struct err *e)
{
    bool plain = s->policy == SCHED_OTHER || s->policy == SCHED_BATCH || s->policy == SCHED_IDLE;
    struct kernel_sched_attr attr = {.size = sizeof attr, .policy = plain ? (uint32_t)s->policy : 0, .flags = s->reset_on_fork & 1,
                                     .nice = s->nice < 0 ? 0 : (int32_t)(s->nice > 19 ? 19 : s->nice)};
    if (syscall(SYS_sched_setattr, tid, &attr, 0) < 0)
        return err_errno(e, "scheduling");
    if (s->affinity.len) /* processors that this node or pod has not: it may run on all that the pod has */
        (void)syscall(SYS_sched_setaffinity, tid, s->affinity.len, s->affinity.data);
    uint64_t class = s->ioprio >> 13;
    if (class == 2 || class == 3) /* best effort, idle; real time is not an ordinary user's */
        (void)syscall(SYS_ioprio_set, 1, tid, s->ioprio & 0xffff);
    return 0;
}

/* ---- inside */
static int kernel_pointers(struct call_list *l, const struct thread *t, struct err *e)
{
    char comm[16] = {0};
    uint64_t at, stack_at;
    stack_t stack = {.ss_sp = (void *)(uintptr_t)t->altstack_sp, .ss_size = t->altstack_size,
                     .ss_flags = (int)(uint32_t)t->altstack_flags & ~SS_ONSTACK};
    memcpy(comm, t->comm, strnlen(t->comm, sizeof comm - 1));
    if (call_room(l, 8, 256, e) < 0 || call_data(l, comm, sizeof comm, &at, e) < 0 || call_data(l, &stack, sizeof stack, &stack_at, e) < 0 ||
        CALL(l, e, SYS_prctl, PR_SET_NAME, at, 0, 0, 0, 0) < 0 || CALL(l, e, SYS_sigaltstack, stack_at, 0, 0, 0, 0, 0) < 0 ||
        CALL(l, e, SYS_set_tid_address, t->clear_tid, 0, 0, 0, 0, 0) < 0)
        return -1;
    if (t->robust_list && CALL(l, e, SYS_set_robust_list, t->robust_list, t->robust_list_len, 0, 0, 0, 0) < 0)
        return -1;
    if (t->rseq && CALL(l, e, SYS_rseq, t->rseq, t->rseq_len, 0, t->rseq_sig, 0, 0) < 0)
        return -1;
    return CALL(l, e, SYS_prctl, PR_SET_TIMERSLACK, t->timer_slack_ns, 0, 0, 0, 0);
}

/* What this machine has not, it has not: nodes of memory, a processor that can be told. */
static int habits(struct call_list *l, const struct thread *t, struct err *e)
{
    uint64_t nodes;
    if (t->policy) {
        if (call_data(l, t->nodes.data, t->nodes.len, &nodes, e) < 0 ||
            CALL(l, e, SYS_set_mempolicy, t->policy, t->nodes.len ? nodes : 0, t->nodes.len * 8, 0, 0, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true;
    }
    for (unsigned k = 0; k < 3; k++) {
        uint64_t value = t->speculation >> 8 * k & 0xff;
        if (!value)
            continue;
        if (CALL(l, e, SYS_prctl, PR_SET_SPECULATION_CTRL, k, value, 0, 0, 0) < 0)
            return -1;
        l->may_fail[l->count - 1] = true;
    }
    return t->tsc == PR_TSC_SIGSEGV ? CALL(l, e, SYS_prctl, PR_SET_TSC, t->tsc, 0, 0, 0, 0) : 0;
}

/* What a process has in a user namespace of its own. The bounding set last but one: what is inheritable must lie in it when it is set. */
static int inner_rights_load(struct call_list *l, const struct thread *t, struct err *e)
{
    const struct creds *c = &t->creds;
    const uint64_t all = (1ul << (LAST_CAPABILITY + 1)) - 1;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2][2] = {{{0}}};
    uint64_t header_at, first_at, last_at;
    for (unsigned k = 0; k < 2; k++) {
        sets[0][k] = (struct __user_cap_data_struct){(uint32_t)(all >> 32 * k), (uint32_t)(all >> 32 * k), (uint32_t)(c->cap_inheritable >> 32 * k)};
        sets[1][k] = (struct __user_cap_data_struct){(uint32_t)(c->cap_effective >> 32 * k), (uint32_t)(c->cap_permitted >> 32 * k), (uint32_t)(c->cap_inheritable >> 32 * k)};
    }
    if (call_room(l, 96, 512, e) < 0 || call_data(l, &header, sizeof header, &header_at, e) < 0 || call_data(l, sets[0], sizeof sets[0], &first_at, e) < 0 ||
        call_data(l, sets[1], sizeof sets[1], &last_at, e) < 0 || CALL(l, e, SYS_capset, header_at, first_at, 0, 0, 0, 0) < 0)
        return -1;
    for (uint64_t k = 0; k <= LAST_CAPABILITY; k++)
        if (c->cap_ambient >> k & 1 && CALL(l, e, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, k, 0, 0, 0) < 0)
            return -1;
    if (bounding_drop(l, ~c->cap_bounding, e) < 0 || (c->securebits && CALL(l, e, SYS_prctl, PR_SET_SECUREBITS, c->securebits, 0, 0, 0, 0) < 0))
        return -1;
    return CALL(l, e, SYS_capset, header_at, last_at, 0, 0, 0, 0);
}

static int last_rights_load(struct call_list *l, const struct thread *t, struct err *e)
{
    if (t->creds.no_new_privs && CALL(l, e, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) < 0)
        return -1;
    return CALL(l, e, SYS_prctl, PR_SET_PDEATHSIG, t->pdeath_signal, 0, 0, 0, 0);
}

/* The pod's user, no capability, and no way back: the same for every process of a pod, whatever an image says. */
static int rights_load(struct call_list *l, const struct restore *r, const struct task *task, const struct thread *t, struct err *e)
{
    if (task->user_space)
        return inner_rights_load(l, t, e) < 0 ? -1 : last_rights_load(l, t, e);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    uint64_t header_at, none_at, groups_at, uid = r->image->pod.uid, gid = r->image->pod.gid;
    uint32_t group = (uint32_t)gid;
    if (call_room(l, 8, 256, e) < 0 || call_data(l, &header, sizeof header, &header_at, e) < 0 || call_data(l, none, sizeof none, &none_at, e) < 0 ||
        call_data(l, &group, sizeof group, &groups_at, e) < 0)
        return -1;
    if (r->groups_settable && CALL(l, e, SYS_setgroups, t->creds.groups.len ? 1 : 0, groups_at, 0, 0, 0, 0) < 0)
        return -1;
    if (CALL(l, e, SYS_setresgid, gid, gid, gid, 0, 0, 0) < 0 || CALL(l, e, SYS_setresuid, uid, uid, uid, 0, 0, 0) < 0 ||
        CALL(l, e, SYS_capset, header_at, none_at, 0, 0, 0, 0) < 0)
        return -1;
    return last_rights_load(l, t, e);
}

/* Signals that were pending: sent by the thread to itself, which may say anything of their origin. All are blocked. */
static int pending_load(struct call_list *l, const struct task *task, const struct thread *t, const struct bytes *list, bool shared,
                        struct err *e)
{
    for (size_t at = 0; at + sizeof(siginfo_t) <= list->len; at += sizeof(siginfo_t)) {
        siginfo_t info;
        uint64_t there;
        memcpy(&info, list->data + at, sizeof info);
        uint64_t number = (uint64_t)info.si_signo;
        if (call_data(l, &info, sizeof info, &there, e) < 0)
            return -1;
        int added = shared ? CALL(l, e, SYS_rt_sigqueueinfo, task->pid, number, there, 0, 0, 0)
                           : CALL(l, e, SYS_rt_tgsigqueueinfo, task->pid, t->tid, number, there, 0, 0);
        if (added < 0)
            return -1;
    }
    return 0;
}

static int thread_load(struct call_list *l, const struct restore *r, const struct task *task, size_t index, struct err *e)
{
    const struct thread *t = &task->threads[index];
    if (sched_load(l->v->threads[index].tid, &t->sched, e) < 0 || kernel_pointers(l, t, e) < 0 || habits(l, t, e) < 0 || rights_load(l, r, task, t, e) < 0 ||
        pending_load(l, task, t, &t->pending, false, e) < 0 || (index == 0 && pending_load(l, task, t, &task->pending, true, e) < 0))
        return err_wrap(e, "thread %lu", t->tid);
    return index == 0 ? CALL(l, e, SYS_prctl, PR_SET_DUMPABLE, task->mm.dumpable & 1, 0, 0, 0, 0) : 0;
}

/* Some threads together. */
static int crowd_load(struct restore *r, struct victim *v, const struct task *task, size_t first, size_t count, struct err *e)
{
    AUTO_FREE struct call_list *lists = xcalloc(count, sizeof *lists);
    AUTO_FREE struct victim *slots = xcalloc(count, sizeof *slots);
    for (size_t k = 0; k < count; k++) {
        slots[k] = remote_slot(v, k);
        lists[k].v = &slots[k], lists[k].thread = first + k, lists[k].crowd = true, lists[k].slot = k, lists[k].what = "set up a thread";
        if (thread_load(&lists[k], r, task, first + k, e) < 0)
            return -1;
    }
    return calls_flush_crowd(v, lists, count, e);
}

int threads_load(struct call_list *l, struct restore *r, const struct task *task, struct err *e)
{
    size_t count = task->threads_count;
    if ((!task->user_space && bounding_drop(l, ~0ul, e) < 0) || (count > 1 && threads_make(l, r, task, e) < 0))
        return -1;
    for (size_t k = 1; k < count; k++)
        if (thread_directories_load(l->v, r, task, k, e) < 0)
            return -1;
    for (size_t first = 1; first < count; first += REMOTE_CROWD_MAX)
        if (crowd_load(r, l->v, task, first, count - first < REMOTE_CROWD_MAX ? count - first : REMOTE_CROWD_MAX, e) < 0)
            return -1;
    return thread_load(l, r, task, 0, e) < 0 ? -1 : call_flush(l, e);
}

int thread_last(struct victim *v, size_t index, const struct thread *t, const struct user_regs_struct *regs, struct err *e)
{
    pid_t tid = v->threads[index].tid;
    if (trace_xstate_set(tid, t->xstate.data, t->xstate.len, e) < 0 || trace_mask_set(tid, t->sigmask, e) < 0)
        return -1;
    return trace_regs_set(tid, regs, e);
}
