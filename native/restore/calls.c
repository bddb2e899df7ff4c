/* Batches of remote calls that must succeed. See load.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "load.h"

static int results_check(struct call_list *l, struct err *e)
{
    for (size_t k = 0; k < l->count; k++) {
        int64_t ret = l->calls[k].ret;
        bool failed = ret < 0 && ret > -4096;
        if (failed && !l->may_fail[k]) {
            errno = (int)-ret;
            return err_errno(e, "%s: call %lu (0x%lx, 0x%lx, 0x%lx)", l->what, l->calls[k].nr, l->calls[k].args[0], l->calls[k].args[1],
                             l->calls[k].args[2]);
        }
        if (!failed && l->wanted[k] >= 0 && ret != l->wanted[k])
            return err_set(e, E_OS, "%s: call %lu gave %ld and not %ld", l->what, l->calls[k].nr, ret, l->wanted[k]);
    }
    l->count = l->data_used = 0;
    return 0;
}

int call_flush(struct call_list *l, struct err *e)
{
    size_t done = 0;
    if (l->count == 0)
        return 0;
    if (l->crowd)
        return calls_flush_crowd(l->v, l, 1, e);
    if (remote_batch(l->v, l->thread, l->calls, l->count, false, &done, e) < 0)
        return err_wrap(e, "%s", l->what);
    return results_check(l, e);
}

int calls_flush_crowd(struct victim *v, struct call_list *lists, size_t count, struct err *e)
{
    struct remote_job jobs[REMOTE_CROWD_MAX] = {0};
    CHECK(count <= REMOTE_CROWD_MAX);
    for (size_t k = 0; k < count; k++)
        jobs[k] = (struct remote_job){lists[k].thread, lists[k].slot, lists[k].count, lists[k].calls};
    if (remote_crowd(v, jobs, count, e) < 0)
        return -1;
    for (size_t k = 0; k < count; k++)
        if (results_check(&lists[k], e) < 0)
            return err_wrap(e, "thread %d", v->threads[lists[k].thread].inner_tid);
    return 0;
}

static size_t calls_max(const struct call_list *l)
{
    return l->crowd ? REMOTE_CROWD_CALLS : REMOTE_BATCH_MAX;
}

int call_add(struct call_list *l, const uint64_t call[7], struct err *e)
{
    if (l->count == calls_max(l) && call_flush(l, e) < 0)
        return -1;
    struct remote_call *c = &l->calls[l->count];
    c->nr = call[0];
    memcpy(c->args, call + 1, sizeof c->args);
    c->ret = 0;
    l->may_fail[l->count] = false;
    l->wanted[l->count++] = -1;
    return 0;
}

int call_room(struct call_list *l, size_t calls, size_t data, struct err *e)
{
    bool fits = l->count + calls + 8 <= calls_max(l) && l->v->scratch && l->data_used + data <= l->v->data_len;
    return fits ? 0 : call_flush(l, e);
}

int call_data(struct call_list *l, const void *data, size_t len, uint64_t *address, struct err *e)
{
    size_t room = (len + 15) & ~15ul;
    if (!l->v->scratch) { /* made on first use */
        uint64_t ignored;
        if (remote_put(l->v, 0, &(char){0}, 1, &ignored, e) < 0)
            return -1;
    }
    if ((l->data_used + room > l->v->data_len || l->count > calls_max(l) - 8) && call_flush(l, e) < 0)
        return -1;
    if (room > l->v->data_len)
        return err_set(e, E_BAD_IMAGE, "%s: %zu bytes of arguments", l->what, len);
    if (remote_put(l->v, l->data_used, data, len, address, e) < 0)
        return -1;
    l->data_used += room;
    return 0;
}

int call_open(struct call_list *l, const char *path, int flags, struct err *e)
{
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .resolve = RESOLVE_NO_MAGICLINKS};
    AUTO_BUF struct buf both = {0};
    uint64_t address;
    buf_add(&both, &how, sizeof how);
    buf_add(&both, path, strlen(path) + 1);
    if (call_data(l, both.data, both.len, &address, e) < 0)
        return -1;
    return CALL(l, e, SYS_openat2, (uint64_t)AT_FDCWD, address + sizeof how, address, sizeof how, 0, 0);
}
