/* One stopped thread: registers, signals, what it told the kernel about itself. Mirrored by restore/thread_load.c. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel/namespaces.h"
#include "../kernel/procfs.h"
#include "../kernel/trace.h"
#include "inquiry.h"
#include "save.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

#define SPECULATION_SET (PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE | PR_SPEC_DISABLE_NOEXEC) /* what a thread may have asked for */

struct kernel_sched_attr { /* linux/sched/types.h, which does not go together with sched.h */
    uint32_t size, sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t runtime, deadline, period;
};

static int sched_save(pid_t tid, struct sched *out, struct err *e)
{
    struct kernel_sched_attr attr = {.size = sizeof attr};
    if (syscall(SYS_sched_getattr, tid, &attr, sizeof attr, 0) < 0)
        return err_errno(e, "scheduling of thread %d", tid);
    out->policy = attr.sched_policy;
    out->nice = attr.sched_nice;
    out->priority = attr.sched_priority;
    out->reset_on_fork = attr.sched_flags & 1;
    out->ioprio = (uint64_t)syscall(SYS_ioprio_get, 1, tid);
    unsigned long mask[128] = {0};
    long n = syscall(SYS_sched_getaffinity, tid, sizeof mask, mask);
    if (n < 0)
        return err_errno(e, "affinity of thread %d", tid);
    bytes_set(&out->affinity, mask, (size_t)n);
    return 0;
}

static void creds_save(struct proc_status *s, struct creds *out)
{
    out->ruid = s->uid[0], out->euid = s->uid[1], out->suid = s->uid[2], out->fsuid = s->uid[3];
    out->rgid = s->gid[0], out->egid = s->gid[1], out->sgid = s->gid[2], out->fsgid = s->gid[3];
    groups_drop_nameless(&s->groups);
    bytes_set(&out->groups, s->groups.data, s->groups.len);
    out->cap_inheritable = s->cap_inheritable;
    out->cap_permitted = s->cap_permitted;
    out->cap_effective = s->cap_effective;
    out->cap_bounding = s->cap_bounding;
    out->cap_ambient = s->cap_ambient;
    out->no_new_privs = s->no_new_privs;
}

static int outside_save(struct victim_thread *t, struct thread *out, struct err *e)
{
    AUTO_BUF struct buf xstate = {0}, pending = {0};
    unsigned long head, len;
    if (trace_xstate_get(t->tid, &xstate, e) < 0 ||
        trace_pending(t->tid, false, &pending, e) < 0 || sched_save(t->tid, &out->sched, e) < 0)
        return -1;
    creds_save(&t->status, &out->creds);
    bytes_set(&out->regs, &t->regs, sizeof t->regs);
    bytes_set(&out->xstate, xstate.data, xstate.len);
    bytes_set(&out->pending, pending.data, pending.len);
    out->comm = xstrdup(t->status.comm);
    out->rseq = t->rseq.rseq_abi_pointer;
    out->rseq_len = t->rseq.rseq_abi_size;
    out->rseq_sig = t->rseq.signature;
    out->rseq_flags = t->rseq.flags;
    if (syscall(SYS_get_robust_list, t->tid, &head, &len) < 0)
        return err_errno(e, "robust list of thread %d", t->inner_tid);
    out->robust_list = head;
    out->robust_list_len = len;
    return 0;
}

struct answers {
    uint64_t clear_tid, pdeath, tsc, policy;
    stack_t stack;
    uint8_t nodes[NODES_MAX / 8];
};

size_t thread_ask(struct inquiry *q)
{
    const uint64_t at = inquiry_room(q, sizeof(struct answers));
    const struct remote_call calls[] = {
        {.nr = SYS_prctl, .args = {PR_GET_TID_ADDRESS, at}},
        {.nr = SYS_prctl, .args = {PR_GET_PDEATHSIG, at + offsetof(struct answers, pdeath)}},
        {.nr = SYS_sigaltstack, .args = {0, at + offsetof(struct answers, stack)}},
        {.nr = SYS_prctl, .args = {PR_GET_TIMERSLACK}},
        {.nr = SYS_prctl, .args = {PR_GET_SECUREBITS}},
        {.nr = SYS_prctl, .args = {PR_GET_TSC, at + offsetof(struct answers, tsc)}}, /* from here on: not every machine can tell */
        {.nr = SYS_get_mempolicy, .args = {at + offsetof(struct answers, policy), at + offsetof(struct answers, nodes), NODES_MAX}},
        {.nr = SYS_prctl, .args = {PR_GET_SPECULATION_CTRL, 0}},
        {.nr = SYS_prctl, .args = {PR_GET_SPECULATION_CTRL, 1}},
        {.nr = SYS_prctl, .args = {PR_GET_SPECULATION_CTRL, 2}},
    };
    const size_t first = q->count;
    for (size_t k = 0; k < ARRAY_LENGTH(calls); k++)
        inquiry_add(q, calls[k]);
    return first;
}

int thread_take(const struct inquiry *q, size_t first, struct thread *out, struct err *e)
{
    const struct remote_call *calls = q->calls + first;
    const struct answers *a = inquiry_answer(q, calls[0].args[1]);
    for (size_t k = 0; k < 5; k++)
        if (calls[k].ret < 0) {
            errno = (int)-calls[k].ret;
            return err_errno(e, "ask thread %d (call %zu)", q->v->threads[q->thread].inner_tid, k);
        }
    out->clear_tid = a->clear_tid;
    out->pdeath_signal = a->pdeath & 0xffffffff;
    out->altstack_sp = (uint64_t)(uintptr_t)a->stack.ss_sp;
    out->altstack_size = a->stack.ss_size;
    out->altstack_flags = (uint64_t)(unsigned)a->stack.ss_flags;
    out->timer_slack_ns = (uint64_t)calls[3].ret;
    out->creds.securebits = (uint64_t)calls[4].ret;
    out->tsc = calls[5].ret < 0 ? 0 : a->tsc & 0xffffffff;
    out->policy = calls[6].ret < 0 ? 0 : a->policy & 0xffffffff;
    if (out->policy)
        bytes_set(&out->nodes, a->nodes, sizeof a->nodes);
    for (unsigned k = 0; k < 3; k++)
        out->speculation |= calls[7 + k].ret < 0 ? 0 : ((uint64_t)calls[7 + k].ret & SPECULATION_SET) << 8 * k;
    return 0;
}

int thread_look(struct victim *v, size_t index, struct thread *out, struct err *e)
{
    struct victim_thread *t = &v->threads[index];
    out->tid = (uint64_t)t->inner_tid;
    out->sigmask = t->sigmask;
    return outside_save(t, out, e) < 0 ? err_wrap(e, "thread %d", t->inner_tid) : 0;
}

int thread_save(struct victim *v, size_t index, struct inquiry *q, struct thread *out, struct err *e)
{
    if (thread_look(v, index, out, e) < 0)
        return -1;
    if (inquiry_begin(q, v, index, e) == 0) {
        size_t first = thread_ask(q);
        if (inquiry_run(q, e) == 0 && thread_take(q, first, out, e) == 0)
            return 0;
    }
    return err_wrap(e, "thread %d", v->threads[index].inner_tid);
}
