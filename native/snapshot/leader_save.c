/* Processes whose first thread has ended while others run on (pthread_exit in main). It comes back as a thread that does nothing but end, the same way: it
 * stands at a system call of the vDSO, about to make exit(2). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "save.h"

static int syscall_find(const struct task *t, uint64_t *address, struct err *e)
{
    static const uint8_t instruction[] = {0x0f, 0x05};
    for (size_t k = 0; k < t->mm.vmas_count; k++) {
        const uint8_t *found = t->mm.vmas[k].kind == VMA_VDSO && t->mm.vdso.len
                                   ? memmem(t->mm.vdso.data, t->mm.vdso.len, instruction, sizeof instruction) : NULL;
        if (found) {
            *address = t->mm.vmas[k].start + (uint64_t)(found - t->mm.vdso.data);
            return 0;
        }
    }
    return err_set(e, E_UNSUPPORTED, "process %lu: its first thread has ended, and it has no vDSO", t->pid);
}

/* When it ends once more, children that its process has would get their parent death signal. */
static int children_check(const struct image *image, const struct task *t, struct err *e)
{
    for (size_t k = 0; k < image->tasks_count; k++)
        for (size_t n = 0; image->tasks[k].ppid == t->pid && n < image->tasks[k].threads_count; n++)
            if (image->tasks[k].threads[n].pdeath_signal)
                return err_set(e, E_UNSUPPORTED, "process %lu: its first thread has ended, and a child has a parent death signal", t->pid);
    return 0;
}

static int thread_copy(const struct thread *from, struct thread *to, struct err *e)
{
    AUTO_BUF struct buf bytes = {0};
    thread_encode(&bytes, from);
    struct cursor at = {bytes.data, bytes.data + bytes.len};
    return thread_decode(&at, to, e);
}

/* What the thread told the kernel of itself is not the ended one's. */
static void habits_drop(struct thread *t)
{
    free(t->pending.data);
    t->pending = (struct bytes){0};
    for (size_t k = 0; k < t->filters_count; k++)
        seccomp_filter_free(&t->filters[k]);
    free(t->filters);
    t->filters = NULL;
    t->filters_count = 0;
    t->altstack_sp = t->altstack_size = 0;
    t->altstack_flags = SS_DISABLE;
    t->robust_list = t->robust_list_len = t->clear_tid = t->rseq = t->rseq_len = t->rseq_sig = 0;
    t->restart_nr = t->restart_remaining_ns = t->pdeath_signal = 0;
}

static int ended_make(const struct task *t, struct thread *out, struct err *e)
{
    struct user_regs_struct regs;
    uint64_t address = 0;
    if (syscall_find(t, &address, e) < 0 || thread_copy(&t->threads[0], out, e) < 0)
        return -1;
    CHECK(out->regs.len == sizeof regs);
    habits_drop(out);
    out->tid = t->pid;
    out->sigmask = ~0ul;
    free(out->comm);
    out->comm = xstrdup(t->comm);
    memcpy(&regs, out->regs.data, sizeof regs);
    regs.rip = address;
    regs.rax = SYS_exit;
    regs.rdi = t->exit_status >> 8 & 0xff;
    regs.orig_rax = (uint64_t)-1;
    memcpy(out->regs.data, &regs, sizeof regs);
    return 0;
}

static int leader_save(struct task *t, struct err *e)
{
    struct thread ended = {0};
    if (ended_make(t, &ended, e) < 0) {
        thread_free(&ended);
        return -1;
    }
    LIST_ADD(t, threads);
    memmove(&t->threads[1], &t->threads[0], (t->threads_count - 1) * sizeof *t->threads);
    t->threads[0] = ended;
    return 0;
}

int leaders_save(struct snapshot *s, struct err *e)
{
    for (size_t k = 0; k < s->victim_count; k++) {
        struct task *t = &s->image.tasks[k];
        if (t->threads_count && t->threads[0].tid != t->pid && (children_check(&s->image, t, e) < 0 || leader_save(t, e) < 0))
            return -1;
    }
    return 0;
}
