/* A file of the host's part of the root that the job has changed while it was mapped: the overlay made a copy for the change, and the mapping
 * goes on showing the old file, which has no name in the pod any more. It is kept like an unlinked file, from what the mapping
 * shows. Only files that the overlay has copied are looked at. */
#include "stale.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PIECE_BYTES (256ul * 1024)
#define PAGE_OF_FILE (1ul << 61) /* /proc/PID/pagemap */
#define PAGE_SWAPPED (1ul << 62)
#define PAGE_PRESENT (1ul << 63)

/* The overlay's copy of a file that the host had; -1 if it is none. */
static int copy_open(const struct snapshot *s, const char *path)
{
    int fd = s->upper < 0 ? -1 : openat(s->upper, path + 1, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fgetxattr(fd, "trusted.overlay.origin", NULL, 0) >= 0 || fgetxattr(fd, "user.overlay.origin", NULL, 0) >= 0)
        return fd;
    close(fd);
    return -1;
}

/* Pages of its own the process has anyway; those beyond the end of the file cannot be read. */
static int piece_compare(const struct victim *v, const struct proc_map *m, uint64_t at, size_t len, int pagemap, int copy, bool *differs, struct err *e)
{
    uint64_t entries[PIECE_BYTES / PAGE_BYTES];
    uint8_t shown[PAGE_BYTES], now[PAGE_BYTES];
    size_t pages = len / PAGE_BYTES;
    if (pread(pagemap, entries, pages * sizeof *entries, (off_t)(at / PAGE_BYTES * sizeof *entries)) != (ssize_t)(pages * sizeof *entries))
        return err_errno(e, "page map at 0x%lx", at);
    for (size_t k = 0; k < pages && !*differs; k++) {
        struct err beyond;
        bool own = entries[k] & PAGE_SWAPPED || (entries[k] & PAGE_PRESENT && !(entries[k] & PAGE_OF_FILE));
        if (own || victim_read(v, at + k * PAGE_BYTES, shown, sizeof shown, &beyond) < 0)
            continue;
        memset(now, 0, sizeof now);
        if (pread(copy, now, sizeof now, (off_t)(m->offset + (at - m->start) + k * PAGE_BYTES)) < 0)
            return err_errno(e, "read %s", m->path);
        *differs = memcmp(shown, now, sizeof now) != 0;
    }
    return 0;
}

static int is_stale(const struct victim *v, const struct proc_map *m, int copy, bool *stale, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/pagemap", v->pid);
    AUTO_CLOSE int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return err_errno(e, "open %s", path);
    *stale = false;
    for (uint64_t at = m->start; at < m->end && !*stale; at += PIECE_BYTES)
        if (piece_compare(v, m, at, m->end - at < PIECE_BYTES ? m->end - at : PIECE_BYTES, pagemap, copy, stale, e) < 0)
            return -1;
    return 0;
}

/* What can be read of the mapping, at its place in the file. */
static int shown_copy(const struct victim *v, const struct proc_map *m, int to, struct err *e)
{
    uint8_t page[PAGE_BYTES];
    uint64_t end = m->offset;
    for (uint64_t at = m->start; at < m->end; at += PAGE_BYTES) {
        struct err beyond;
        uint64_t place = m->offset + (at - m->start);
        if (victim_read(v, at, page, sizeof page, &beyond) < 0)
            break;
        if (pwrite(to, page, sizeof page, (off_t)place) != (ssize_t)sizeof page)
            return err_errno(e, "copy of %s", m->path);
        end = place + sizeof page;
    }
    return ftruncate(to, (off_t)end) < 0 ? err_errno(e, "copy of %s", m->path) : 0;
}

int stale_save(struct snapshot *s, const struct victim *v, const struct proc_map *m, uint64_t *id, struct err *e)
{
    bool stale = false;
    struct stat st;
    AUTO_CLOSE int copy = copy_open(s, m->path);
    if (copy < 0)
        plain_files_add(&s->plain_files, m);
    if (copy < 0)
        return 0;
    if (is_stale(v, m, copy, &stale, e) < 0)
        return -1;
    if (!stale)
        return 0;
    AUTO_CLOSE int kept = memfd_create("copy", MFD_CLOEXEC);
    if (kept < 0 || fstat(copy, &st) < 0 || fchmod(kept, st.st_mode & 0777) < 0)
        return err_errno(e, "copy of %s", m->path);
    if (shown_copy(v, m, kept, e) < 0)
        return -1;
    mode_t mode = st.st_mode; /* owner and mode are the path's, the number is nobody else's: the copy's own */
    uid_t uid = st.st_uid;
    gid_t gid = st.st_gid;
    if (fstat(kept, &st) < 0)
        return err_errno(e, "copy of %s", m->path);
    st.st_mode = mode;
    st.st_uid = uid;
    st.st_gid = gid;
    return memobj_save_as(s, kept, &st, MEMOBJ_UNLINKED, m->path, id, e) < 0 ? -1 : 1;
}
