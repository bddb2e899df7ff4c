/* See mapped.h. */
#include "mapped.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PIECE_BYTES (1ul << 20)
#define PAGE_BYTES 4096ul

/* ---- by path */

static int open_inside(const struct pod *pod, const char *path)
{
    AUTO_FREE char *root_path = xasprintf("/proc/%d/root", pod->init_pid);
    AUTO_CLOSE int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct {
        uint64_t flags, mode, resolve;
    } how = {.flags = O_PATH | O_CLOEXEC, .resolve = 0x10 /* RESOLVE_IN_ROOT */};
    return root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int mapped_stat(const struct pod *pod, pid_t pid, const struct proc_map *m, struct stat *out, struct err *e)
{
    AUTO_FREE char *entry = xasprintf("/proc/%d/map_files/%lx-%lx", pid, m->start, m->end);
    if (stat(entry, out) == 0)
        return 0;
    AUTO_CLOSE int fd = errno == EPERM ? open_inside(pod, m->path) : -1;
    return fd < 0 || fstat(fd, out) < 0 ? err_errno(e, "mapping at 0x%lx of %s", m->start, m->path) : 0;
}

/* ---- by a descriptor */

static bool same_object(const struct proc_map *a, const struct proc_map *b)
{
    return a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && strcmp(a->path, b->path) == 0;
}

static bool is_descriptor_of(const char *entry, const struct proc_map *m)
{
    struct stat st;
    char target[PATH_BYTES];
    if (stat(entry, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != m->ino)
        return false;
    ssize_t n = readlink(entry, target, sizeof target - 1);
    target[n < 0 ? 0 : n] = 0;
    return st.st_dev == makedev(m->dev_major, m->dev_minor) || strncmp(target, m->path, strlen(m->path)) == 0;
}

static int descriptor_open(pid_t pid, const struct proc_map *m)
{
    int fd = -1;
    AUTO_FREE char *folder = xasprintf("/proc/%d/fd", pid);
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && fd < 0 && (d = readdir(dir));) {
        AUTO_FREE char *entry = xasprintf("%s/%s", folder, d->d_name);
        if (d->d_name[0] != '.' && is_descriptor_of(entry, m))
            fd = open(entry, O_RDONLY | O_CLOEXEC);
    }
    if (dir)
        closedir(dir);
    return fd;
}

/* ---- by what the mappings show */

static bool is_zero(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* Pages beyond the end of the object cannot be read; zeros stay holes. *end grows to the last page that is there. */
static int piece_copy(const struct victim *v, uint64_t address, size_t len, int fd, uint64_t offset, uint64_t *end, struct err *e)
{
    struct err beyond;
    AUTO_FREE uint8_t *data = xcalloc(1, len);
    bool whole = victim_read(v, address, data, len, &beyond) == 0;
    for (size_t at = 0; at < len; at += PAGE_BYTES) {
        if (!whole && victim_read(v, address + at, data + at, PAGE_BYTES, &beyond) < 0)
            continue;
        if (offset + at + PAGE_BYTES > *end)
            *end = offset + at + PAGE_BYTES;
        if (!is_zero(data + at, PAGE_BYTES) && pwrite(fd, data + at, PAGE_BYTES, (off_t)(offset + at)) != (ssize_t)PAGE_BYTES)
            return err_errno(e, "copy shared memory");
    }
    return 0;
}

static int mapping_copy(const struct victim *v, const struct proc_map *m, int fd, uint64_t *end, struct err *e)
{
    for (uint64_t at = m->start; at < m->end; at += PIECE_BYTES) {
        size_t len = m->end - at < PIECE_BYTES ? m->end - at : PIECE_BYTES;
        if (piece_copy(v, at, len, fd, m->offset + (at - m->start), end, e) < 0)
            return -1;
    }
    return 0;
}

static int mappings_copy(const struct snapshot *s, const struct proc_map *m, int fd, uint64_t *end, struct err *e)
{
    for (size_t k = 0; k < s->victim_count; k++) {
        PROC_MAPS struct proc_maps maps = {0};
        if (!s->victims[k].thread_count)
            continue;
        if (proc_maps_read(s->victims[k].pid, false, &maps, e) < 0)
            return -1;
        for (size_t i = 0; i < maps.count; i++)
            if (same_object(&maps.items[i], m) && mapping_copy(&s->victims[k], &maps.items[i], fd, end, e) < 0)
                return -1;
    }
    return 0;
}

static int copy_save(struct snapshot *s, const struct proc_map *m, uint64_t kind, const char *name, uint64_t *id, struct err *e)
{
    uint64_t end = 0;
    struct stat st;
    AUTO_CLOSE int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(e, "memfd");
    if (mappings_copy(s, m, fd, &end, e) < 0)
        return -1;
    if (ftruncate(fd, (off_t)end) < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "copy of shared memory");
    st.st_dev = makedev(m->dev_major, m->dev_minor);
    st.st_ino = m->ino;
    if (memobj_save_as(s, fd, &st, kind, name, id, e) < 0)
        return -1;
    s->image.memobjs[s->image.memobjs_count - 1].page_bytes = proc_map_has(m, "ht") ? m->page_bytes : 0; /* the copy is none of huge pages */
    return 0;
}

int mapped_save(struct snapshot *s, const struct proc_map *m, uint64_t kind, const char *name, uint64_t *id, struct err *e)
{
    if (memobj_is_saved(s, makedev(m->dev_major, m->dev_minor), m->ino, id))
        return 0;
    for (size_t k = 0; k < s->victim_count; k++) {
        AUTO_CLOSE int fd = descriptor_open(s->victims[k].pid, m);
        if (fd >= 0)
            return memobj_save(s, fd, kind, name, id, e);
    }
    return copy_save(s, m, kind, name, id, e);
}
