/* See lazy.h. */
#include "lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include "fill.h"
#include "load.h"

#define AROUND_BYTES PAGE_BYTES
#define POLL_ENTRY_BYTES 8
#define RANGES_MAX 65536ul /* of a pod: what is scattered more is read at once */

/* ---- what must be there */
struct hot {
    const struct mm *mm;
    bool *extents;
};

static void hot_mark(struct hot *h, uint64_t at, uint64_t len)
{
    const struct extent *all = h->mm->extents;
    size_t k = FIRST_NOT(h->mm->extents_count, n, all[n].at + all[n].len <= at);
    for (; k < h->mm->extents_count && all[k].at < at + len; k++)
        h->extents[k] = true;
}

static void hot_around(struct hot *h, uint64_t at)
{
    hot_mark(h, at > AROUND_BYTES ? at - AROUND_BYTES : 0, 2 * AROUND_BYTES);
}

/* Whatever a register points to may be what a call that is begun once more looks at. */
static void thread_mark(struct hot *h, const struct thread *t)
{
    struct user_regs_struct r;
    memcpy(&r, t->regs.data, sizeof r);
    const uint64_t addresses[] = {r.rsp, r.rip, r.fs_base, r.gs_base, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
    for (size_t k = 0; k < ARRAY_LENGTH(addresses); k++)
        hot_around(h, addresses[k]);
    if (t->restart_nr == SYS_poll && r.rsi < UINT32_MAX)
        hot_mark(h, r.rdi, r.rsi * POLL_ENTRY_BYTES + 1);
    hot_around(h, t->robust_list);
    hot_around(h, t->clear_tid);
    hot_mark(h, t->rseq, t->rseq_len + 1);
}

/* ---- the plan */
static bool is_worth_a_piece(const struct vma *v, const struct extent *x)
{
    const uint64_t never = ADV_DONTFORK | ADV_WIPEONFORK | ADV_SEALED | ADV_MERGEABLE;
    return !(v->advice & never) && !(v->prot & PROT_EXEC) && !digest_is_zero(&x->digest) && x->at >= v->start && x->at + x->len <= v->end &&
           x->len && x->len <= CHUNK_MAX && x->at % PAGE_BYTES == 0 && x->len % PAGE_BYTES == 0;
}

static void pieces_find(const struct fill *f, const struct mm *mm, const bool *hot, struct pager_model *out)
{
    size_t v = 0;
    for (size_t k = 0; k < mm->extents_count; k++) {
        const struct extent *x = &mm->extents[k];
        while (v < mm->vmas_count && mm->vmas[v].end <= x->at)
            v++;
        if (v < mm->vmas_count && !hot[k] && fill_takes(f, x->at) && is_worth_a_piece(&mm->vmas[v], x))
            *LIST_ADD(out, pieces) = (struct pager_piece){x->at, (uint32_t)x->len, (uint32_t)k};
    }
}

static size_t ranges_count(const struct pager_model *m)
{
    size_t count = 0;
    for (size_t k = 0; k < m->pieces_count; k++)
        count += k == 0 || m->pieces[k - 1].at + m->pieces[k - 1].len != m->pieces[k].at;
    return count;
}

static bool model_plan(const struct restore *r, const struct task *t, size_t *room, struct pager_model *out)
{
    struct fill f = {.fd = -1};
    AUTO_FREE bool *extents = xcalloc(t->mm.extents_count + 1, sizeof *extents);
    struct hot hot = {&t->mm, extents};
    fill_ranges(r, t, true, &f);
    for (size_t k = 0; k < t->threads_count && f.ranges_count; k++)
        thread_mark(&hot, &t->threads[k]);
    if (f.ranges_count)
        pieces_find(&f, &t->mm, hot.extents, out);
    fill_close(&f);
    size_t count = ranges_count(out);
    if (count > *room) {
        free(out->pieces);
        *out = (struct pager_model){0};
        return false;
    }
    *room -= count;
    return out->pieces_count > 0;
}

int lazy_plan(struct restore *r, struct err *e)
{
    size_t count = 0, room = RANGES_MAX;
    struct pager *p = xcalloc(1, sizeof *p);
    *p = (struct pager){.models = xcalloc(r->image->tasks_count + 1, sizeof *p->models), .models_count = r->image->tasks_count, .queue = {-1, -1}, .listening = -1};
    r->pager = p;
    for (size_t k = 0; k < r->image->tasks_count && count < PAGER_PROCESSES_MAX; k++)
        if (r->image->tasks[k].state != TASK_ZOMBIE)
            count += model_plan(r, &r->image->tasks[k], &room, &p->models[k]);
    r->lazy_bytes = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(r->lazy_bytes != MAP_FAILED);
    if (!count)
        lazy_plan_free(r);
    else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->queue) < 0)
        return err_errno(e, "socketpair");
    return 0;
}

void lazy_plan_free(struct restore *r)
{
    struct pager *p = r->pager;
    if (!p)
        return;
    for (size_t k = 0; k < p->models_count; k++)
        free(p->models[k].pieces);
    for (size_t k = 0; k < ARRAY_LENGTH(p->queue); k++)
        if (p->queue[k] >= 0)
            close(p->queue[k]);
    free(p->models);
    free(p);
    r->pager = NULL;
}

bool lazy_is(const struct pager *p, size_t task, const struct extent *x)
{
    const struct pager_model *m = &p->models[task];
    size_t k = FIRST_NOT(m->pieces_count, n, m->pieces[n].at < x->at);
    return k < m->pieces_count && m->pieces[k].at == x->at && m->pieces[k].len == x->len;
}

int lazy_note(const struct restore *r, const struct pod *pod, struct err *e)
{
    char hex[65];
    AUTO_FREE char *image = realpath(r->image_dir, NULL), *store = realpath(r->store_dir, NULL);
    if (!image || !store)
        return err_errno(e, "the path of the image");
    if (strchr(image, '\n') || strchr(store, '\n'))
        return err_set(e, E_UNSUPPORTED, "a path with a line break");
    digest_hex(&r->digest, hex);
    AUTO_FREE char *text = xasprintf("%s\n%s\n%s\n", hex, image, store);
    return io_replace_soon(pod->dirfd, "filling", text, strlen(text), 0600, e);
}

/* ---- in the tracer */
bool lazy_is_refused(struct victim *v, const struct task *t)
{
    struct robust { /* struct robust_list_head */
        uint64_t next;
        int64_t offset;
        uint64_t pending;
    } head;
    struct err ignored;
    for (size_t k = 0; k < t->threads_count; k++) {
        uint64_t at = t->threads[k].robust_list;
        if (at && t->threads[k].robust_list_len == sizeof head &&
            (victim_read(v, at, &head, sizeof head, &ignored) < 0 || head.next != at || head.pending))
            return true;
    }
    return false;
}

int lazy_give(struct restore *r, struct err *e)
{
    size_t count = 0;
    AUTO_FREE uint32_t *models = xcalloc(r->image->tasks_count + 1, sizeof *models);
    AUTO_FREE int *fds = xcalloc(r->image->tasks_count + 1, sizeof *fds);
    for (size_t k = 0; k < r->image->tasks_count; k++)
        if (r->victims[k].thread_count && r->fills[k].lazy) {
            models[count] = (uint32_t)k;
            fds[count++] = r->fills[k].fd;
            for (size_t n = 0; n < r->pager->models[k].pieces_count; n++)
                *r->lazy_bytes += r->pager->models[k].pieces[n].len;
        }
    if (count && pager_give(r->pager, models, fds, count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        fill_close(&r->fills[models[k]]);
    return 0;
}
