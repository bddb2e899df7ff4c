/* File locks: flock(2), open-file-description locks and leases belong to a description, POSIX locks to a process and an inode. From the
 * "lock:" lines of fdinfo, which name exactly those that belong to the descriptor (or to its process). */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "files_lock.h"
#include "files_save.h"
#include "lease_save.h"

struct lock_line {
    char kind[16], access[16], end[32];
    int pid;
    unsigned long start;
};

/* "lock:\t1: POSIX  ADVISORY  WRITE 1234 00:2c:99 0 EOF" */
static bool lock_parse(const char *line, struct lock_line *out)
{
    return sscanf(line, "\nlock:\t%*u: %15s %*s %15s %d %*x:%*x:%*u %lu %31s", out->kind, out->access, &out->pid, &out->start, out->end) == 5;
}

static uint64_t lock_kind(const struct lock_line *line)
{
    return !strcmp(line->kind, "FLOCK") ? LOCK_KIND_FLOCK : !strcmp(line->kind, "POSIX") ? LOCK_KIND_POSIX
           : !strcmp(line->kind, "OFDLCK") ? LOCK_KIND_OFD : !strcmp(line->kind, "LEASE") ? LOCK_KIND_LEASE : 0;
}

static bool lock_known(const struct saving *v, const struct file_lock *new_lock, const struct source *src)
{
    const struct image *image = &v->s->image;
    for (size_t i = 0; i < image->locks_count; i++) {
        const struct file_lock *old = &image->locks[i];
        const struct stat *st = &v->sources[old->file - 1].facts.st;
        bool same_file = new_lock->kind == LOCK_KIND_POSIX
                             ? old->pid == new_lock->pid && st->st_ino == src->facts.st.st_ino && st->st_dev == src->facts.st.st_dev
                             : old->file == new_lock->file;
        if (same_file && old->kind == new_lock->kind && old->start == new_lock->start && old->len == new_lock->len)
            return true;
    }
    return false;
}

/* A POSIX lock for writing can only be set again through a descriptor that may write. */
static bool can_set(const struct source *src, const struct file_lock *lock)
{
    uint64_t access = src->facts.flags & O_ACCMODE;
    return lock->kind == LOCK_KIND_FLOCK || lock->kind == LOCK_KIND_LEASE || access == O_RDWR || access == (lock->type == F_WRLCK ? O_WRONLY : O_RDONLY);
}

static int line_save(struct saving *v, const struct slot *slot, const struct source *src, const char *at, struct err *e)
{
    struct lock_line line;
    struct file_lock lock = {.file = src->file->id, .pid = (uint64_t)v->s->victims[slot->victim].inner_pid};
    if (!lock_parse(at, &line) || !(lock.kind = lock_kind(&line)))
        return source_refuse(v, src, e, "a lock of an unknown kind");
    if (lock.kind == LOCK_KIND_LEASE && lease_is_anothers(v, slot, line.pid))
        return 0;
    lock.type = (uint64_t)(!strcmp(line.access, "WRITE") ? F_WRLCK : F_RDLCK);
    lock.start = line.start;
    lock.len = strcmp(line.end, "EOF") ? strtoul(line.end, NULL, 10) - line.start + 1 : 0;
    if (can_set(src, &lock) && !lock_known(v, &lock, src))
        *LIST_ADD(&v->s->image, locks) = lock;
    return 0;
}

/* What has a place in a file system. */
static bool can_be_locked(const struct source *src)
{
    switch (src->kind) {
    case FILE_REGULAR: case FILE_DIRECTORY: case FILE_MEMOBJ: case FILE_FIFO: case FILE_DEVICE: case FILE_STDOUT: case FILE_STDERR:
    case FILE_PTY_MASTER: case FILE_PTY_SLAVE:
        return true;
    default:
        return false;
    }
}

static int slot_locks(struct saving *v, const struct slot *slot, struct err *e)
{
    const struct source *src = &v->sources[slot->source];
    if (!can_be_locked(src))
        return 0;
    for (const char *at = strstr(slot->facts.fdinfo, "\nlock:"); at; at = strstr(at + 1, "\nlock:"))
        if (line_save(v, slot, src, at, e) < 0)
            return -1;
    return 0;
}

int locks_save(struct saving *v, struct err *e)
{
    for (size_t i = 0; i < v->slots_count; i++)
        if (slot_locks(v, &v->slots[i], e) < 0)
            return -1;
    return 0;
}
