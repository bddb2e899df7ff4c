/* Shared memory without a path. Anonymous and memfd objects come back as memfds; an unlinked file comes back as an unlinked file
 * of the same name in the same directory, so that link count and kind of file system stay true. Mirrors memobj_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "huge.h"
#include "nameless.h"

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#define SEALS_KNOWN 0x3f /* seal, shrink, grow, write, future write, exec */

int memobj_fd(const struct restore *r, uint64_t id, struct err *e)
{
    for (size_t i = 0; i < r->image->memobjs_count; i++)
        if (r->image->memobjs[i].id == id)
            return r->memobj_fds[i];
    return err_set(e, E_BAD_IMAGE, "a reference to memory object %lu, which is not there", id);
}

static int memfd_make(const struct memobj *m, struct err *e)
{
    char name[250];
    snprintf(name, sizeof name, "%s", m->kind == MEMOBJ_SHARED_ANON ? "shared" : m->name);
    unsigned huge = m->page_bytes ? MFD_HUGETLB | (unsigned)huge_size_flags(m->page_bytes) : 0;
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
    return fd < 0 ? err_errno(e, "memfd %s", name) : fd;
}

/* One that never had a name may still be given one. */
static int unlinked_open(int above, const char *name, const void *ctx)
{
    const struct memobj *m = ctx;
    int fd = m->linkable ? openat(above, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
    return fd >= 0 ? fd : openat(above, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int unlinked_make(const struct restore *r, const struct memobj *m, struct err *e)
{
    return nameless_make(r, m->mount_space, m->name, 0, unlinked_open, m, e);
}

/* Nobody but the pod's owner may come to own a file with set-id bits out of an image. */
static int attributes_set(const struct restore *r, int fd, const struct memobj *m, struct err *e)
{
    bool own = r->pod->facts.uid == 0 || m->uid == r->pod->facts.uid;
    if (own && io_chown(fd, "", m->uid, m->gid, AT_EMPTY_PATH) < 0)
        return err_errno(e, "owner of %s", m->name);
    if (fchmod(fd, (mode_t)(m->mode & 0777)) < 0)
        return err_errno(e, "mode of %s", m->name);
    return 0;
}

static int memobj_load(struct restore *r, size_t index, struct err *e)
{
    const struct memobj *m = &r->image->memobjs[index];
    if (m->kind == MEMOBJ_SYSV)
        return 0; /* System V segments are made with their ids elsewhere */
    int fd = m->kind == MEMOBJ_UNLINKED ? unlinked_make(r, m, e) : memfd_make(m, e);
    if (fd < 0 || (fd = high_place(r, fd, e)) < 0)
        return -1;
    r->memobj_fds[index] = fd;
    if ((m->page_bytes ? huge_memobj_fill(r, fd, m, e) : store_get_file(r->store, fd, m->size, m->extents, m->extents_count, e)) < 0)
        return err_wrap(e, "content of %s", m->name);
    return attributes_set(r, fd, m, e);
}

int memobjs_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->memobjs_count; i++)
        if (r->memobj_fds[i] < 0 && memobj_load(r, i, e) < 0)
            return err_wrap(e, "memory object %lu", r->image->memobjs[i].id);
    return 0;
}

/* At the very end: a seal against future writing would forbid mapping it again as it was. */
int memobjs_seal(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->memobjs_count; i++) {
        const struct memobj *m = &r->image->memobjs[i];
        int seals = (int)(m->seals & SEALS_KNOWN);
        if (m->kind == MEMOBJ_MEMFD && seals && fcntl(r->memobj_fds[i], F_ADD_SEALS, seals) < 0)
            return err_errno(e, "seals %x of memfd %s", (unsigned)seals, m->name);
    }
    return 0;
}
