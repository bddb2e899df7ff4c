/* System V shared memory with its old ids, made and filled in podinit before the processes; a segment that was marked for removal is
 * marked again once all are attached. Mirrors snapshot/sysv_save.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#include "huge.h"
#include "sysv_load.h"

#define SEGMENT_MAX (1ul << 46)

static const struct memobj *memobj_of(const struct image *image, uint64_t id)
{
    for (size_t k = 0; k < image->memobjs_count; k++)
        if (image->memobjs[k].id == id && image->memobjs[k].kind == MEMOBJ_SYSV)
            return &image->memobjs[k];
    return NULL;
}

static int sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    if (data)
        memcpy((uint8_t *)ctx + at, data, len);
    return 0;
}

static int content_load(struct restore *r, int shmid, const struct memobj *m, struct err *e)
{
    for (size_t k = 0; k < m->extents_count; k++)
        if (m->extents[k].at > m->size || m->extents[k].len > m->size - m->extents[k].at)
            return err_set(e, E_BAD_IMAGE, "contents outside of it");
    void *at = shmat(shmid, NULL, 0);
    if (at == (void *)-1)
        return err_errno(e, "attach it");
    int result = store_get_ranges(r->store, m->extents, m->extents_count, sink, at, e);
    shmdt(at);
    return result;
}

static int segment_load(struct restore *r, const struct sysv_segment *s, struct err *e)
{
    const struct memobj *m = memobj_of(r->image, s->memobj);
    if (!m || s->size != m->size || s->size == 0 || s->size > SEGMENT_MAX || s->shmid > INT32_MAX)
        return err_set(e, E_BAD_IMAGE, "it has no content");
    if (ipc_next_id(r, "shm", s->shmid, e) < 0)
        return -1;
    int huge = m->page_bytes ? SHM_HUGETLB | (int)huge_size_flags(m->page_bytes) : 0;
    int shmid = shmget((key_t)s->key, s->size, IPC_CREAT | IPC_EXCL | huge | 0600);
    if (shmid < 0)
        return err_errno(e, "make it");
    if ((uint64_t)shmid != s->shmid)
        return err_set(e, E_OS, "it got the number %d", shmid);
    if (content_load(r, shmid, m, e) < 0)
        return -1;
    bool own = s->uid == r->image->pod.uid;
    struct shmid_ds ds = {.shm_perm = {.uid = own ? (uid_t)s->uid : getuid(), .gid = own ? (gid_t)r->image->pod.gid : getgid(), .mode = s->mode & 0777}};
    return shmctl(shmid, IPC_SET, &ds) < 0 ? err_errno(e, "set its owner") : 0;
}

int sysv_load(struct restore *r, uint64_t space, struct err *e)
{
    for (size_t k = 0; k < r->image->sysv_segments_count; k++)
        if (r->image->sysv_segments[k].ipc_space == space && segment_load(r, &r->image->sysv_segments[k], e) < 0)
            return err_wrap(e, "System V shared memory %lu", r->image->sysv_segments[k].shmid);
    return 0;
}

int sysv_load_finish(struct restore *r, uint64_t space, struct err *e)
{
    for (size_t k = 0; k < r->image->sysv_segments_count; k++) {
        const struct sysv_segment *s = &r->image->sysv_segments[k];
        if (s->dest && s->ipc_space == space && shmctl((int)s->shmid, IPC_RMID, NULL) < 0)
            return err_errno(e, "mark System V shared memory %lu for removal", s->shmid);
    }
    return 0;
}

const struct sysv_segment *sysv_of(const struct image *image, uint64_t memobj)
{
    for (size_t k = 0; k < image->sysv_segments_count; k++)
        if (image->sysv_segments[k].memobj == memobj)
            return &image->sysv_segments[k];
    return NULL;
}
