/* What an image says is not believed: numbers, ranges and rights are checked before anything is made. The manifest's digest tells who
 * vouches for it; even so an image may only do what the owner of the pod could do: its processes run as the pod's user, without any
 * capability but in user namespaces of their own, with files opened under that user's rights (vma_load.c). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/user.h>

#include "huge.h"
#include "spaces.h"

#define USER_END 0x7ffffffff000ul
#define LOWEST_ADDRESS 0x1000ul
#define TASKS_MAX 32768
#define XSTATE_MIN 576

static int bad(struct err *e, const char *words, uint64_t pid, uint64_t value)
{
    return err_set(e, E_BAD_IMAGE, "process %lu: %s (0x%lx)", pid, words, value);
}

static uint64_t pid_max(void)
{
    AUTO_BUF struct buf text = {0};
    struct err ignored;
    if (io_slurpf(&text, 64, &ignored, "/proc/sys/kernel/pid_max") < 0)
        return 32768;
    return strtoul((char *)text.data, NULL, 10);
}

struct ids {
    uint8_t *seen;
    uint64_t max;
};

static int id_claim(struct ids *ids, uint64_t id, struct err *e)
{
    if (id < 2 || id >= ids->max || ids->seen[id])
        return bad(e, "its number is out of range or taken twice", id, id);
    ids->seen[id] = 1;
    return 0;
}

static bool is_huge_rightly(const struct vma *v)
{
    if (!(v->flags & VMAF_HUGETLB) || !v->page_bytes)
        return !(v->flags & VMAF_HUGETLB) && !v->page_bytes;
    bool fits = huge_size_is_known(v->page_bytes) && (v->start | v->end) % v->page_bytes == 0;
    return fits && !(v->flags & VMAF_GROWSDOWN) && (v->kind == VMA_ANON || (v->kind == VMA_MEMOBJ && v->offset % v->page_bytes == 0));
}

static int memobjs_validate(const struct image *image, struct err *e)
{
    for (size_t k = 0; k < image->memobjs_count; k++) {
        const struct memobj *m = &image->memobjs[k];
        bool whole = m->page_bytes && (m->kind == MEMOBJ_SYSV || m->size % m->page_bytes == 0) && m->size <= INT64_MAX - m->page_bytes;
        if (m->page_bytes && (!huge_size_is_known(m->page_bytes) || !whole || m->kind == MEMOBJ_UNLINKED))
            return err_set(e, E_BAD_IMAGE, "memory object %lu: huge pages that cannot be", m->id);
    }
    return 0;
}

static int vma_validate(const struct image *image, uint64_t pid, const struct vma *v, uint64_t after, struct err *e)
{
    if ((v->start | v->end | v->offset) % PAGE_BYTES || v->start >= v->end || v->end > USER_END || v->start < LOWEST_ADDRESS ||
        v->start < after)
        return bad(e, "mappings overlap or lie outside of user space", pid, v->start);
    if (v->nodes.len > 4096 || v->prot > 7 || v->kind < VMA_ANON || v->kind > VMA_VVAR_CLOCK || (v->flags & ~15ul))
        return bad(e, "a mapping of an unknown kind", pid, v->start);
    if (v->kind == VMA_FILE && v->path[0] != '/')
        return bad(e, "a mapping without its file", pid, v->start);
    bool there = v->kind != VMA_MEMOBJ;
    uint64_t page_bytes = v->page_bytes;
    for (size_t k = 0; !there && k < image->memobjs_count; k++) {
        there = image->memobjs[k].id == v->memobj;
        page_bytes = image->memobjs[k].page_bytes;
    }
    if (!is_huge_rightly(v) || page_bytes != v->page_bytes)
        return bad(e, "a mapping of huge pages that cannot be", pid, v->start);
    return there ? 0 : bad(e, "a mapping of shared memory that is not there", pid, v->memobj);
}

static bool takes_content(const struct vma *v)
{
    return !(v->flags & VMAF_SHARED) && v->kind != VMA_VDSO && v->kind != VMA_VVAR && v->kind != VMA_VVAR_CLOCK;
}

/* Extents lie, ascending, in private mappings. */
static int extents_validate(uint64_t pid, const struct mm *mm, struct err *e)
{
    size_t m = 0;
    uint64_t after = 0;
    for (size_t k = 0; k < mm->extents_count; k++) {
        const struct extent *x = &mm->extents[k];
        if (x->at < after || x->at >= USER_END || x->at % PAGE_BYTES || x->len % PAGE_BYTES || !x->len || x->len > CHUNK_MAX)
            return bad(e, "contents out of order", pid, x->at);
        after = x->at + x->len;
        for (uint64_t at = x->at; at < after;) {
            while (m < mm->vmas_count && mm->vmas[m].end <= at)
                m++;
            if (m == mm->vmas_count || mm->vmas[m].start > at || !takes_content(&mm->vmas[m]))
                return bad(e, "contents outside of its private memory", pid, at);
            at = mm->vmas[m].end;
        }
    }
    return 0;
}

static int mm_validate(const struct image *image, uint64_t pid, const struct mm *mm, struct err *e)
{
    uint64_t after = 0;
    for (size_t k = 0; k < mm->vmas_count; k++) {
        if (vma_validate(image, pid, &mm->vmas[k], after, e) < 0)
            return -1;
        after = mm->vmas[k].end;
    }
    if (mm->exe[0] != '/' || mm->auxv.len > 4096 || mm->auxv.len % 16 || mm->dumpable > 1)
        return bad(e, "its program is not named as it should be", pid, mm->auxv.len);
    return extents_validate(pid, mm, e);
}

static int creds_validate(const struct image *image, const struct task *t, uint64_t tid, const struct creds *c, struct err *e)
{
    const uint64_t uids[] = {c->ruid, c->euid, c->suid, c->fsuid}, gids[] = {c->rgid, c->egid, c->sgid, c->fsgid};
    for (size_t k = 0; k < 4; k++)
        if (uids[k] != image->pod.uid || gids[k] != image->pod.gid)
            return bad(e, "it is another user's than the pod", tid, uids[k]);
    uint32_t group = (uint32_t)image->pod.gid;
    if (c->groups.len > sizeof group || (c->groups.len && memcmp(c->groups.data, &group, sizeof group) != 0))
        return bad(e, "it is in groups that the pod is not in", tid, c->groups.len);
    if (t->user_space)
        return c->securebits > 0xff || (c->cap_effective & ~c->cap_permitted) ? bad(e, "impossible capabilities", tid, c->cap_effective) : 0;
    if (c->cap_inheritable | c->cap_permitted | c->cap_effective | c->cap_bounding | c->cap_ambient | c->securebits)
        return bad(e, "it holds capabilities", tid, c->cap_permitted | c->cap_bounding);
    return 0;
}

static int thread_validate(const struct image *image, const struct task *task, const struct thread *t, struct err *e)
{
    if (t->regs.len != sizeof(struct user_regs_struct) || t->xstate.len < XSTATE_MIN || t->xstate.len > 65536 || t->xstate.len % 8)
        return bad(e, "its registers have the wrong size", t->tid, t->xstate.len);
    if (t->pending.len % sizeof(siginfo_t) || t->sched.affinity.len > 8192 || t->pdeath_signal > 64 || t->restart_nr > 600 || t->nodes.len > 4096)
        return bad(e, "signals or scheduling", t->tid, t->pending.len);
    if (t->cwd[0] && (t->cwd[0] != '/' || t->root[0] != '/'))
        return bad(e, "its own working directory is not named as it should be", t->tid, 0);
    for (size_t k = 0; k < t->filters_count; k++)
        if (!t->filters[k].code.len || t->filters[k].code.len % 8 || t->filters[k].code.len > 4096 * 8)
            return bad(e, "a seccomp filter of a wrong length", t->tid, t->filters[k].code.len);
    return creds_validate(image, task, t->tid, &t->creds, e);
}

static int lists_validate(const struct task *t, struct err *e)
{
    for (size_t k = 0; k < t->sigactions_count; k++)
        if (t->sigactions[k].signal < 1 || t->sigactions[k].signal > 64)
            return bad(e, "a signal that there is not", t->pid, t->sigactions[k].signal);
    for (size_t k = 0; k < t->rlimits_count; k++)
        if (t->rlimits[k].resource >= RLIM_NLIMITS)
            return bad(e, "a limit that there is not", t->pid, t->rlimits[k].resource);
    for (size_t k = 0; k < t->itimers_count; k++)
        if (t->itimers[k].which > 2)
            return bad(e, "a timer that there is not", t->pid, t->itimers[k].which);
    for (size_t k = 0; k < t->posix_timers_count; k++)
        if (t->posix_timers[k].id > 100000)
            return bad(e, "a timer with an absurd number", t->pid, t->posix_timers[k].id);
    if (t->pending.len % sizeof(siginfo_t) || t->exit_signal > 64 || t->cwd[0] != '/' || t->root[0] != '/')
        return bad(e, "its directories or signals", t->pid, t->exit_signal);
    return 0;
}

static int threads_validate(const struct image *image, const struct task *t, struct ids *ids, struct err *e)
{
    if (!t->threads_count || t->threads[0].tid != t->pid)
        return bad(e, "its first thread is not there", t->pid, t->threads_count);
    for (size_t k = 0; k < t->threads_count; k++)
        if ((k && id_claim(ids, t->threads[k].tid, e) < 0) || thread_validate(image, t, &t->threads[k], e) < 0)
            return -1;
    return 0;
}

static bool is_earlier_task(const struct image *image, size_t index, uint64_t pid)
{
    for (size_t k = 0; k < index; k++)
        if (image->tasks[k].pid == pid && image->tasks[k].state != TASK_ZOMBIE)
            return true;
    return false;
}

static int task_validate(const struct image *image, size_t index, struct ids *ids, struct err *e)
{
    const struct task *t = &image->tasks[index];
    if (id_claim(ids, t->pid, e) < 0)
        return -1;
    if (t->ppid != 1 && !is_earlier_task(image, index, t->ppid))
        return bad(e, "its parent is not there", t->pid, t->ppid);
    if (t->state < TASK_RUNNING || t->state > TASK_ZOMBIE || t->sid >= ids->max || t->pgid >= ids->max)
        return bad(e, "its state, session or group", t->pid, t->state);
    if (t->state == TASK_ZOMBIE)
        return t->exit_status > 0xffff ? bad(e, "its exit status", t->pid, t->exit_status) : 0;
    if (lists_validate(t, e) < 0 || threads_validate(image, t, ids, e) < 0)
        return -1;
    return mm_validate(image, t->pid, &t->mm, e);
}

int image_validate(const struct image *image, struct err *e)
{
    struct ids ids = {.max = pid_max()};
    if (!image->tasks_count || image->tasks_count > TASKS_MAX)
        return err_set(e, E_BAD_IMAGE, "the image holds %zu processes", image->tasks_count);
    if (memobjs_validate(image, e) < 0 || spaces_validate(image, e) < 0)
        return -1;
    AUTO_FREE uint8_t *seen = ids.seen = xcalloc(ids.max + 1, 1);
    bool command = false;
    for (size_t k = 0; k < image->tasks_count; k++) {
        if (task_validate(image, k, &ids, e) < 0)
            return -1;
        command |= image->tasks[k].pid == image->pod.command_pid && image->tasks[k].ppid == 1;
    }
    (void)seen;
    return command ? 0 : err_set(e, E_BAD_IMAGE, "the image does not hold the pod's command (process %lu)", image->pod.command_pid);
}
