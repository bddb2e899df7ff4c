/* System V shared memory of the pod and of the ipc namespaces that the job made: every segment with its id, attached or not. Semaphores and message
 * queues beside it (sysvsem_save.c, sysvmsg_save.c). The engine enters the namespace for a moment: its own memory is not touched by that. Mirrored by restore/sysv_load.c. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "spaces.h"
#include "sysv_save.h"

#ifndef SHM_DEST
#define SHM_DEST 01000
#endif

/* Nothing else tells it of a segment: its pages cannot be taken apart. */
static bool is_huge(void *at)
{
    return mprotect(at, PAGE_BYTES, PROT_NONE) < 0 && errno == EINVAL;
}

static uint64_t page_size_of(void *at, struct err *e)
{
    PROC_MAPS struct proc_maps maps = {0};
    if (proc_maps_read(getpid(), true, &maps, e) < 0)
        return 0;
    for (size_t k = 0; k < maps.count; k++)
        if (maps.items[k].start == (uintptr_t)at)
            return maps.items[k].page_bytes;
    err_set(e, E_OS, "the size of its pages is not told");
    return 0;
}

static int content_put(struct snapshot *s, const void *at, uint64_t size, struct memobj *m, struct err *e)
{
    uint64_t stored = 0;
    int result = store_put_extents(s->store, 0, at, size, &m->extents, &m->extents_count, &stored, e);
    s->image.raw_bytes += size;
    s->image.new_bytes += stored;
    return result;
}

static int content_save(struct snapshot *s, int shmid, uint64_t size, struct memobj *m, struct err *e)
{
    void *at = shmat(shmid, NULL, SHM_RDONLY);
    if (at == (void *)-1)
        return err_errno(e, "attach it");
    int result = content_put(s, at, size, m, e);
    if (result == 0 && is_huge(at) && !(m->page_bytes = page_size_of(at, e)))
        result = -1;
    shmdt(at);
    return result;
}

static int segment_save(struct snapshot *s, int shmid, const struct shmid_ds *ds, struct err *e)
{
    struct memobj *m = LIST_ADD(&s->image, memobjs);
    m->id = s->image.memobjs_count; /* dev and ino stay 0: a segment's number may be another object's inode */
    m->kind = MEMOBJ_SYSV;
    m->name = xasprintf("SYSV%d", shmid);
    m->size = ds->shm_segsz;
    struct sysv_segment *out = LIST_ADD(&s->image, sysv_segments);
    *out = (struct sysv_segment){.shmid = (uint64_t)shmid, .key = ds->shm_perm.__key, .size = ds->shm_segsz,
                                 .mode = ds->shm_perm.mode & 0777, .uid = ds->shm_perm.uid, .gid = ds->shm_perm.gid,
                                 .memobj = m->id, .attached = ds->shm_nattch, .dest = (ds->shm_perm.mode & SHM_DEST) != 0};
    if (content_save(s, shmid, ds->shm_segsz, m, e) < 0)
        return err_wrap(e, "System V shared memory %d", shmid);
    return 0;
}

static int segments_save(struct snapshot *s, struct err *e)
{
    struct shm_info info;
    int highest = shmctl(0, SHM_INFO, (struct shmid_ds *)&info);
    if (highest < 0)
        return err_errno(e, "list System V shared memory");
    for (int index = 0; index <= highest && info.used_ids; index++) {
        struct shmid_ds ds;
        int shmid = shmctl(index, SHM_STAT, &ds);
        if (shmid >= 0 && segment_save(s, shmid, &ds, e) < 0)
            return -1;
    }
    return 0;
}

static int in_ipc_at(pid_t pid, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/ns/ipc", pid);
    AUTO_CLOSE int there = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int here = open("/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC);
    if (there < 0 || here < 0 || setns(there, CLONE_NEWIPC) < 0)
        return err_errno(e, "enter an ipc namespace of the pod");
    int result = fn(ctx, e);
    CHECK(setns(here, CLONE_NEWIPC) == 0);
    return result;
}

int in_ipc_of(const struct pod *pod, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    return in_ipc_at(pod->init_pid, fn, ctx, e);
}

/* ---- the namespaces that the job made */
uint64_t ipc_space_of(const struct spaces *spaces, pid_t pid)
{
    const struct seen_member *m = spaces ? spaces_member(spaces, pid) : NULL;
    return m ? m->others[OTHER_IPC] : 0;
}

static pid_t somebody_in(const struct spaces *spaces, uint64_t space)
{
    for (size_t k = 0; k < spaces->members_count; k++)
        if (spaces->members[k].others[OTHER_IPC] == space)
            return spaces->members[k].pid;
    return 0;
}

static int in_each_ipc(const struct pod *pod, const struct spaces *spaces, int (*fn)(void *ctx, struct err *e), void *ctx, uint64_t *space, struct err *e)
{
    *space = 0;
    if (in_ipc_of(pod, fn, ctx, e) < 0)
        return -1;
    for (size_t k = 0; spaces && k < spaces->others_count; k++) {
        pid_t pid = somebody_in(spaces, *space = k + 1);
        if (pid && !spaces->others[k].trouble[0] && in_ipc_at(pid, fn, ctx, e) < 0)
            return -1;
    }
    return 0;
}

struct kept_spaces {
    struct snapshot *s;
    uint64_t space;
};

static int save(void *ctx, struct err *e)
{
    const struct kept_spaces *k = ctx;
    struct image *image = &k->s->image;
    size_t segments = image->sysv_segments_count, sets = image->sysv_semaphores_count, queues = image->sysv_queues_count;
    if (segments_save(k->s, e) < 0 || sysvsem_save(k->s, k->space, e) < 0 || sysvmsg_save(k->s, e) < 0)
        return -1;
    for (; segments < image->sysv_segments_count; segments++)
        image->sysv_segments[segments].ipc_space = k->space;
    for (; sets < image->sysv_semaphores_count; sets++)
        image->sysv_semaphores[sets].ipc_space = k->space;
    for (; queues < image->sysv_queues_count; queues++)
        image->sysv_queues[queues].ipc_space = k->space;
    return k->space ? 0 : mqueues_save(k->s, e);
}

int sysv_save(struct snapshot *s, struct err *e)
{
    struct kept_spaces k = {.s = s};
    return in_each_ipc(s->pod, s->spaces, save, &k, &k.space, e);
}

static uint64_t mappings_of(const struct image *image, uint64_t memobj)
{
    uint64_t found = 0;
    for (size_t k = 0; k < image->tasks_count; k++)
        for (size_t n = 0; n < image->tasks[k].mm.vmas_count; n++)
            found += image->tasks[k].mm.vmas[n].kind == VMA_MEMOBJ && image->tasks[k].mm.vmas[n].memobj == memobj;
    return found;
}

int sysv_attachments_check(const struct snapshot *s, struct err *e)
{
    const struct image *image = &s->image;
    for (size_t k = 0; k < image->sysv_segments_count; k++)
        for (size_t n = 0; n < image->sysv_segments_count; n++) {
            const struct sysv_segment *one = &image->sysv_segments[k];
            if (n != k && one->shmid == image->sysv_segments[n].shmid && one->attached != mappings_of(image, one->memobj))
                return err_set(e, E_UNSUPPORTED, "System V shared memory %lu of another ipc namespace than that of a process that has it", one->shmid);
        }
    return 0;
}

struct checking {
    const struct pod *pod;
    const struct spaces *spaces;
    const pid_t *pids;
    size_t count;
    uint64_t space;
    struct refusals *out;
};

static int check(void *ctx, struct err *e)
{
    const struct checking *c = ctx;
    AUTO_FREE pid_t *inside = xcalloc(c->count + 1, sizeof *inside);
    size_t count = 0;
    for (size_t k = 0; k < c->count; k++)
        if (ipc_space_of(c->spaces, c->pids[k]) == c->space)
            inside[count++] = c->pids[k];
    sysvsem_check(inside, count, c->out);
    return c->space ? 0 : mqueues_check(c->pod, c->out, e);
}

int ipc_check(const struct pod *pod, const struct spaces *spaces, const pid_t *pids, size_t count, struct refusals *out, struct err *e)
{
    struct checking c = {.pod = pod, .spaces = spaces, .pids = pids, .count = count, .out = out};
    return in_each_ipc(pod, spaces, check, &c, &c.space, e);
}

/* Which memobj a mapping shows: maps gives the segment's id as inode. */
uint64_t sysv_memobj(const struct image *image, uint64_t ipc_space, uint64_t shmid)
{
    for (size_t k = 0; k < image->sysv_segments_count; k++)
        if (image->sysv_segments[k].shmid == shmid && image->sysv_segments[k].ipc_space == ipc_space)
            return image->sysv_segments[k].memobj;
    return 0;
}
