/* What has a name, and memory objects and log files by descriptor. Mirrors snapshot/file_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "../store/sha256.h"
#include "files_load.h"
#include "spaces.h"

#define OPEN_FLAGS_ALLOWED (O_ACCMODE | FILE_FLAGS_SETTABLE | O_SYNC | O_DSYNC | O_DIRECTORY | O_NOFOLLOW | O_PATH)

/* /proc/N/… with N above 1, pidfds: there when the task is. /dev/tty: another one for each session. */
bool file_is_late(const struct file *f)
{
    static const char proc[] = "/proc/";
    if (f->kind == FILE_PIDFD)
        return true;
    if (f->kind == FILE_PTY_SLAVE)
        return strcmp(f->path, "/dev/tty") == 0;
    if (strncmp(f->path, proc, strlen(proc)) || f->kind == FILE_DEVICE)
        return false;
    const char *at = f->path + strlen(proc);
    size_t digits = strspn(at, "0123456789");
    return digits > 0 && (at[digits] == '/' || !at[digits]) && !(digits == 1 && *at == '1');
}

/* Opened before its mode was changed: the owner of a file could change it back. */
static int own_open(const struct restore *r, uint64_t space, const char *path, int flags)
{
    struct stat st;
    struct err ignored;
    if (space_enter(r, space, &ignored) < 0)
        return -1;
    AUTO_CLOSE int place = inside_open(path, O_PATH | O_NOFOLLOW, 0);
    space_leave(r, space);
    if (place < 0 || fstat(place, &st) < 0 || st.st_uid != r->pod->facts.uid || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
        errno = EACCES;
        return -1;
    }
    return flags & O_PATH ? fcntl(place, F_DUPFD_CLOEXEC, 0) : file_reopen(place, (uint64_t)flags, &ignored);
}

static int path_open(const struct restore *r, const struct file *f, struct err *e)
{
    int flags = (int)(f->flags & OPEN_FLAGS_ALLOWED & ~(uint64_t)O_ASYNC) | O_NOCTTY;
    if (f->path[0] != '/')
        return err_set(e, E_BAD_IMAGE, "the path \"%s\" is not absolute", f->path);
    const char *path = f->mount_space ? f->place : f->path;
    if (file_is_late(f) && strstr(f->path, "/.."))
        return err_set(e, E_BAD_IMAGE, "the path \"%s\" leads out of /proc", f->path);
    if (file_is_late(f)) /* of the job's own processes: nothing that the owner could not see */
        return inside_open(f->path, flags, 0);
    if (space_enter(r, f->mount_space, e) < 0)
        return -1;
    owner_rights_begin(r);
    int fd = inside_open(path, flags, 0);
    owner_rights_end(r);
    space_leave(r, f->mount_space);
    return fd < 0 && errno == EACCES ? own_open(r, f->mount_space, path, flags) : fd;
}

static int identity_check(int fd, const struct file *f, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "file %s", f->path);
    if (f->mode && (st.st_mode & S_IFMT) != (f->mode & S_IFMT))
        return err_set(e, E_UNSUPPORTED, "%s is now another kind of file", f->path);
    if (!f->host_part || f->flags & O_PATH)
        return 0;
    if ((uint64_t)st.st_size != f->size || f->prefix_len > (1u << 20))
        return err_set(e, E_UNSUPPORTED, "%s differs from the file that was open: %lu bytes, was %lu", f->path, (uint64_t)st.st_size, f->size);
    AUTO_FREE uint8_t *data = xcalloc(1, f->prefix_len + 1);
    struct digest digest;
    if (io_pread_all(fd, data, f->prefix_len, 0, e) < 0)
        return -1;
    sha256_of(data, f->prefix_len, &digest);
    return memcmp(&digest, &f->prefix_digest, sizeof digest) ? err_set(e, E_UNSUPPORTED, "%s differs from the file that was open", f->path) : 0;
}

/* To its end, as it was. */
static int directory_read(int fd, const struct file *f, struct err *e)
{
    _Alignas(8) char names[32768];
    long n;
    do
        n = syscall(SYS_getdents64, fd, names, sizeof names);
    while (n > 0);
    return n < 0 ? err_errno(e, "names in directory %s", f->path) : 0;
}

int file_open(const struct restore *r, const struct file *f, struct err *e)
{
    e->code = E_OK;
    int fd = path_open(r, f, e);
    if (fd < 0)
        return e->code == E_BAD_IMAGE ? -1 : err_errno(e, "open %s", f->path);
    if (identity_check(fd, f, e) < 0) {
        close(fd);
        return -1;
    }
    if (f->kind == FILE_DIRECTORY && f->at_end && directory_read(fd, f, e) < 0) {
        close(fd);
        return -1;
    }
    if (f->kind != FILE_DIRECTORY && !(f->flags & O_PATH) && f->offset)
        (void)lseek(fd, (off_t)f->offset, SEEK_SET); /* of files of /proc as far as they can */
    return fd;
}

/* ---- by number */
static int device_open(const struct file *f, struct err *e)
{
    static const struct {
        unsigned minor;
        const char *path;
    } known[] = {{3, "/dev/null"}, {5, "/dev/zero"}, {7, "/dev/full"}, {8, "/dev/random"}, {9, "/dev/urandom"}};
    for (size_t i = 0; i < ARRAY_LENGTH(known); i++)
        if (f->rdev == makedev(1, known[i].minor)) {
            int fd = open(known[i].path, (int)(f->flags & (O_ACCMODE | FILE_FLAGS_SETTABLE)) | O_CLOEXEC);
            return fd < 0 ? err_errno(e, "open %s", known[i].path) : fd;
        }
    return err_set(e, E_BAD_IMAGE, "device %u:%u is not one that images carry", major(f->rdev), minor(f->rdev));
}

static int reopen_at(int from, const struct file *f, struct err *e)
{
    if (from < 0)
        return err_set(e, E_BAD_IMAGE, "there is no log file or memory object to open");
    int fd = file_reopen(from, f->flags, e);
    if (fd >= 0 && f->kind == FILE_MEMOBJ && lseek(fd, (off_t)f->offset, SEEK_SET) < 0) {
        close(fd);
        return err_errno(e, "offset %lu", f->offset);
    }
    return fd;
}

int file_load(struct restore *r, size_t index, struct err *e)
{
    const struct file *f = &r->image->files[index];
    int fd = f->kind == FILE_DEVICE ? device_open(f, e)
             : f->deleted ? removed_directory_open(r, f, e)
             : f->kind == FILE_STDOUT ? reopen_at(r->stdout_fd, f, e)
             : f->kind == FILE_STDERR ? reopen_at(r->stderr_fd, f, e)
             : f->kind == FILE_MEMOBJ ? reopen_at(memobj_fd(r, f->ref, e), f, e)
                                      : file_open(r, f, e);
    if (fd >= 0 && f->deleted && f->at_end && directory_read(fd, f, e) < 0) {
        close(fd);
        return -1;
    }
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return -1;
    return f->flags & O_PATH ? 0 : file_flags_set(r, index, e);
}
