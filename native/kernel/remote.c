/* See remote.h. Order inside a call, so that the tracer may die between any two steps: write code and table, registers,
 * mask, resume, wait; then mask, registers. With the registers set the code itself puts mask and registers back. */
#include "remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "procfs.h"
#include "remote_code.h"
#include "trace.h"

#define TAIL_MIN_BYTES 512ul
#define CALL_DEADLINE_NS 20000000000ul
#define GAP_MARGIN (1ul << 20)

int (*remote_journal)(const struct victim *v, const char *what, uint64_t address, uint64_t len, struct err *e);

int (*remote_guard)(const struct victim *v, size_t thread, const struct remote_call *calls, size_t count, struct err *e);

int victim_read(const struct victim *v, uint64_t address, void *out, size_t len, struct err *e)
{
    if (io_pread_all(v->memfd, out, len, address, e) < 0)
        return err_wrap(e, "memory of process %d at 0x%lx", v->inner_pid, address);
    return 0;
}

int victim_write(const struct victim *v, uint64_t address, const void *data, size_t len, struct err *e)
{
    if (io_pwrite_all(v->memfd, data, len, address, e) < 0)
        return err_wrap(e, "memory of process %d at 0x%lx", v->inner_pid, address);
    return 0;
}

int victim_getfd(const struct victim *v, int fd, struct err *e)
{
    int copy = (int)syscall(SYS_pidfd_getfd, v->pidfd, fd, 0);
    return copy >= 0 ? copy : err_errno(e, "descriptor %d of process %d", fd, v->inner_pid);
}

static int guard(const struct victim *v, size_t thread, const struct remote_call *calls, size_t count, struct err *e)
{
    return remote_guard && !v->expendable ? remote_guard(v, thread, calls, count, e) : 0;
}

static int note(const struct victim *v, const char *what, uint64_t address, uint64_t len, struct err *e)
{
    return remote_journal && !v->expendable ? remote_journal(v, what, address, len, e) : 0;
}

/* The zero bytes at the end of an executable mapping, as an address; 0 if they are too few. */
static uint64_t tail_of(const struct victim *v, const struct proc_map *m, size_t *len)
{
    uint8_t page[PAGE_BYTES];
    struct err ignored;
    if (!(m->prot & PROT_EXEC) || m->shared || victim_read(v, m->end - PAGE_BYTES, page, sizeof page, &ignored) < 0)
        return 0;
    size_t zeros = 0;
    while (zeros < PAGE_BYTES && page[PAGE_BYTES - 1 - zeros] == 0)
        zeros++;
    *len = zeros < 32 ? 0 : (zeros - 16) & ~15ul;
    return *len >= TAIL_MIN_BYTES ? m->end - *len : 0;
}

/* The maps as they were at the stop, or read into `now`. */
static const struct proc_maps *maps_of(const struct victim *v, struct proc_maps *now, struct err *e)
{
    if (v->maps.count)
        return &v->maps;
    return proc_maps_read(v->pid, false, now, e) < 0 ? NULL : now;
}

int remote_find_tail(struct victim *v, struct err *e)
{
    PROC_MAPS struct proc_maps now = {0};
    const struct proc_maps *maps = maps_of(v, &now, e);
    if (!maps)
        return -1;
    v->tail = 0;
    for (int vdso = 1; vdso >= 0 && !v->tail; vdso--)
        for (size_t k = 0; k < maps->count && !v->tail; k++)
            if ((strcmp(maps->items[k].path, "[vdso]") == 0) == vdso && maps->items[k].path[0])
                v->tail = tail_of(v, &maps->items[k], &v->tail_len);
    return v->tail ? 0 : err_set(e, E_UNSUPPORTED, "process %d has no executable page with room for a system call", v->inner_pid);
}

static int gap_find(struct victim *v, uint64_t *address, struct err *e)
{
    PROC_MAPS struct proc_maps now = {0};
    const struct proc_maps *maps = maps_of(v, &now, e);
    if (!maps)
        return -1;
    uint64_t at = 0x10000000;
    for (size_t k = 0; k < maps->count; k++) {
        if (maps->items[k].end + GAP_MARGIN <= at)
            continue;
        if (maps->items[k].start >= at + REMOTE_SCRATCH_BYTES + GAP_MARGIN)
            break;
        at = maps->items[k].end + GAP_MARGIN;
    }
    *address = at;
    return at < 0x7f0000000000 ? 0 : err_set(e, E_OS, "process %d has no free address range", v->inner_pid);
}

/* Told: stopped at the place where the tracer is told. Other stops are resumed; signals among them are kept. */
int remote_code_await(struct victim *v, size_t thread, uint64_t told, struct user_regs_struct *last, struct err *e)
{
    struct victim_thread *t = &v->threads[thread];
    for (;;) {
        int status;
        int late = trace_wait(t->tid, v->expendable ? 0 : clock_ns(CLOCK_MONOTONIC) + CALL_DEADLINE_NS, &status, e);
        if (late < 0)
            return -1;
        if (late || !WIFSTOPPED(status)) {
            t->stopped = false;
            return err_set(e, E_CONFLICT, "process %d %s", v->inner_pid, late ? "does not finish a call" : "ended");
        }
        if (trace_regs_get(t->tid, last, e) < 0)
            return -1;
        if (last->rip == told)
            return 0;
        if (status >> 16 == 0)
            t->stop_signal = WSTOPSIG(status);
        if (trace_resume(t->tid, 0, e) < 0)
            return -1;
    }
}

int remote_code_start(struct victim *v, size_t thread, struct user_regs_struct *regs, struct err *e)
{
    struct victim_thread *t = &v->threads[thread];
    regs->orig_rax = (uint64_t)-1;
    regs->eflags &= ~0x100ull;
    uint64_t mask = ~(1ul << (v->notify_signal - 1));
    if (trace_regs_set(t->tid, regs, e) < 0 || trace_mask_set(t->tid, mask, e) < 0)
        return -1;
    return trace_resume(t->tid, 0, e);
}

static int code_run(struct victim *v, size_t thread, uint64_t told, struct user_regs_struct *regs, struct err *e)
{
    return remote_code_start(v, thread, regs, e) < 0 ? -1 : remote_code_await(v, thread, told, regs, e);
}

static int thread_put_back(struct victim *v, size_t thread, struct err *e)
{
    struct victim_thread *t = &v->threads[thread];
    if (trace_mask_set(t->tid, t->sigmask, e) < 0)
        return -1;
    return trace_regs_set(t->tid, &t->regs, e);
}

int remote_from_tail(struct victim *v, size_t thread, const uint64_t call[7], int64_t *ret, struct err *e)
{
    AUTO_SNIPPET struct snippet c = {0};
    struct remote_call same = {.nr = call[0]};
    memcpy(same.args, call + 1, sizeof same.args);
    if (guard(v, thread, &same, 1, e) < 0)
        return -1;
    if ((!v->tail && remote_find_tail(v, e) < 0) || (!v->scratch && note(v, "tail", v->tail, v->tail_len, e) < 0))
        return -1;
    code_one(&c, v, thread, v->tail);
    CHECK(c.bytes.len <= v->tail_len);
    struct user_regs_struct r = v->threads[thread].regs;
    r.rip = v->tail + CODE_START;
    r.rax = call[0], r.rdi = call[1], r.rsi = call[2], r.rdx = call[3], r.r10 = call[4], r.r8 = call[5], r.r9 = call[6];
    if (victim_write(v, v->tail, c.bytes.data, c.bytes.len, e) < 0 || code_run(v, thread, c.told, &r, e) < 0 ||
        thread_put_back(v, thread, e) < 0)
        return err_wrap(e, "call %lu in process %d", call[0], v->inner_pid);
    *ret = (int64_t)r.rbx;
    return 0;
}

static int scratch_make(struct victim *v, size_t thread, struct err *e)
{
    uint64_t at = v->scratch_wish;
    int64_t ret;
    if ((!at && gap_find(v, &at, e) < 0) || note(v, "scratch", at, REMOTE_SCRATCH_BYTES, e) < 0)
        return -1;
    const uint64_t call[7] = {SYS_mmap, at, REMOTE_SCRATCH_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0};
    if (remote_from_tail(v, thread, call, &ret, e) < 0)
        return -1;
    if (ret == -EACCES)
        return err_set(e, E_UNSUPPORTED, "process %d forbids itself memory that is written and executed (PR_SET_MDWE)", v->inner_pid);
    if (ret < 0 && ret > -4096) {
        errno = (int)-ret;
        return err_errno(e, "map a work area in process %d", v->inner_pid);
    }
    v->scratch = at;
    v->data = at + CODE_DATA;
    v->data_len = CODE_BYTES - CODE_DATA;
    return 0;
}

static int code_write(struct victim *v, size_t thread, const struct snippet *c, struct err *e)
{
    struct user_regs_struct r;
    code_resume_point(&v->threads[thread].regs, &r);
    if (victim_write(v, v->scratch, c->bytes.data, c->bytes.len, e) < 0)
        return -1;
    return victim_write(v, v->scratch + CODE_FLAGS, &r.eflags, sizeof r.eflags, e);
}

int remote_batch(struct victim *v, size_t thread, struct remote_call *calls, size_t count, bool stop_on_error, size_t *done,
                 struct err *e)
{
    CHECK(count <= REMOTE_BATCH_MAX);
    if (guard(v, thread, calls, count, e) < 0 || (!v->scratch && scratch_make(v, thread, e) < 0))
        return -1;
    AUTO_SNIPPET struct snippet c = {0};
    code_batch(&c, v, thread, v->scratch);
    struct user_regs_struct r = v->threads[thread].regs;
    r.rip = v->scratch + CODE_START;
    r.r15 = v->scratch + CODE_TABLE, r.r14 = count, r.r13 = stop_on_error;
    if (code_write(v, thread, &c, e) < 0 || victim_write(v, v->scratch + CODE_TABLE, calls, count * sizeof *calls, e) < 0 ||
        code_run(v, thread, c.told, &r, e) < 0 || thread_put_back(v, thread, e) < 0 ||
        victim_read(v, v->scratch + CODE_TABLE, calls, count * sizeof *calls, e) < 0)
        return err_wrap(e, "calls in process %d", v->inner_pid);
    if (done)
        *done = count - r.r14;
    return 0;
}

int remote_one(struct victim *v, size_t thread, int64_t *ret, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t f,
               uint64_t g, struct err *e)
{
    struct remote_call call = {.nr = nr, .args = {a, b, c, d, f, g}};
    if (remote_batch(v, thread, &call, 1, false, NULL, e) < 0)
        return -1;
    *ret = call.ret;
    return 0;
}

struct victim remote_lane(const struct victim *v, size_t lane)
{
    CHECK(v->scratch && lane < REMOTE_LANES);
    struct victim out = *v;
    out.scratch = v->scratch + lane * CODE_LANE_BYTES;
    out.data = out.scratch + CODE_LANE_DATA;
    out.data_len = CODE_LANE_BYTES - CODE_LANE_DATA;
    return out;
}

int remote_open(struct victim *v, struct err *e)
{
    return v->scratch ? 0 : scratch_make(v, 0, e);
}

int remote_put(struct victim *v, size_t offset, const void *data, size_t len, uint64_t *address, struct err *e)
{
    if (!v->scratch && scratch_make(v, 0, e) < 0)
        return -1;
    CHECK(offset <= v->data_len && len <= v->data_len - offset);
    *address = v->data + offset;
    return victim_write(v, *address, data, len, e);
}

int remote_close(struct victim *v, struct err *e)
{
    if (!v->tail)
        return 0;
    if (v->scratch) {
        int64_t ret;
        const uint64_t call[7] = {SYS_munmap, v->scratch, REMOTE_SCRATCH_BYTES, 0, 0, 0, 0};
        if (remote_from_tail(v, 0, call, &ret, e) < 0)
            return -1;
        v->scratch = v->data = 0;
    }
    AUTO_FREE uint8_t *zeros = xcalloc(1, v->tail_len);
    return victim_write(v, v->tail, zeros, v->tail_len, e);
}

uint64_t remote_exit_address(const struct victim *v)
{
    return v->scratch + CODE_EXIT;
}

static bool is_injected(const struct victim *v, uint64_t rip, uint64_t scratch)
{
    return (v->tail && rip - v->tail < v->tail_len) || (scratch && rip - scratch < REMOTE_SCRATCH_BYTES);
}

/* Let one thread run until it is out of the injected code; the code ends by itself. */
static int thread_get_out(struct victim *v, struct victim_thread *t, uint64_t scratch, struct err *e)
{
    uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + CALL_DEADLINE_NS;
    for (;;) {
        int status;
        if (trace_regs_get(t->tid, &t->regs, e) < 0)
            return -1;
        if (!is_injected(v, t->regs.rip, scratch))
            return trace_mask_get(t->tid, &t->sigmask, e);
        if (trace_resume(t->tid, 0, e) < 0)
            return -1;
        struct timespec nap = {0, 200000};
        nanosleep(&nap, NULL);
        if (trace_interrupt(t->tid, e) < 0 || trace_wait(t->tid, deadline, &status, e) != 0 || !WIFSTOPPED(status))
            return err_set(e, E_CONFLICT, "thread %d of process %d does not stop", t->inner_tid, v->inner_pid);
        if (clock_ns(CLOCK_MONOTONIC) > deadline)
            return err_set(e, E_CONFLICT, "thread %d of process %d stays in injected code", t->inner_tid, v->inner_pid);
    }
}

static bool is_scratch_there(const struct victim *v, uint64_t scratch)
{
    PROC_MAPS struct proc_maps maps = {0};
    struct err ignored;
    if (!scratch || proc_maps_read(v->pid, false, &maps, &ignored) < 0)
        return false;
    for (size_t k = 0; k < maps.count; k++)
        if (maps.items[k].start == scratch)
            return maps.items[k].end == scratch + REMOTE_SCRATCH_BYTES && !maps.items[k].path[0];
    return false;
}

int remote_undo(struct victim *v, uint64_t tail, uint64_t tail_len, uint64_t scratch, struct err *e)
{
    v->tail = tail, v->tail_len = tail_len;
    for (size_t k = 0; k < v->thread_count; k++)
        if (thread_get_out(v, &v->threads[k], scratch, e) < 0)
            return -1;
    v->scratch = is_scratch_there(v, scratch) ? scratch : 0;
    return remote_close(v, e);
}

/* The event of the clone, the child's first stop, then on to the end. A failing clone tells at once. */
static int clone_events(struct victim *v, size_t thread, uint64_t told, pid_t *child, struct user_regs_struct *last, struct err *e)
{
    struct victim_thread *t = &v->threads[thread];
    int status;
    unsigned long id;
    if (trace_wait(t->tid, 0, &status, e) < 0)
        return -1;
    int event = status >> 16;
    if (event != PTRACE_EVENT_CLONE && event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK) {
        *child = 0;
        if (!WIFSTOPPED(status) || trace_regs_get(t->tid, last, e) < 0 || last->rip != told)
            return err_set(e, E_CONFLICT, "a clone in process %d went astray (%x)", v->inner_pid, (unsigned)status);
        return 0;
    }
    if (ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &id) != 0)
        return err_errno(e, "child of process %d", v->inner_pid);
    *child = (pid_t)id;
    if (trace_wait(*child, 0, &status, e) < 0)
        return -1;
    if (status >> 16 != PTRACE_EVENT_STOP)
        return err_set(e, E_CONFLICT, "a child of process %d ended", v->inner_pid);
    if (v->expendable)
        return 0; /* it was there for nothing else */
    if (trace_resume(t->tid, 0, e) < 0)
        return -1;
    return remote_code_await(v, thread, told, last, e);
}

int remote_clone(struct victim *v, size_t thread, uint64_t args_address, uint64_t args_len, bool closes, pid_t *child, int64_t *ret,
                 struct err *e)
{
    struct victim_thread *t = &v->threads[thread];
    if (!v->scratch && scratch_make(v, thread, e) < 0)
        return -1;
    AUTO_SNIPPET struct snippet c = {0};
    code_clone(&c, v, thread, v->scratch, &(struct code_child){args_address, args_len, closes});
    struct user_regs_struct r = t->regs;
    r.rip = v->scratch + CODE_START;
    r.orig_rax = (uint64_t)-1;
    uint64_t mask = ~(1ul << (v->notify_signal - 1));
    if (code_write(v, thread, &c, e) < 0 || trace_regs_set(t->tid, &r, e) < 0 || trace_mask_set(t->tid, mask, e) < 0 ||
        trace_resume(t->tid, 0, e) < 0 || clone_events(v, thread, c.told, child, &r, e) < 0 ||
        (!v->expendable && thread_put_back(v, thread, e) < 0))
        return err_wrap(e, "clone in process %d", v->inner_pid);
    *ret = v->expendable && *child ? *child : (int64_t)r.rbx;
    return 0;
}
