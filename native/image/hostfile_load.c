/* Files of the host's part of the root, compared and made. See tree.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/sha256.h"
#include "tree_parts.h"

/* ---- compare */
static bool stretch_matches(int fd, uint8_t *room, uint64_t at, uint64_t len, const struct digest *wanted)
{
    struct err ignored;
    struct digest digest;
    if (io_pread_all(fd, room, len, at, &ignored))
        return false;
    if (!wanted)
        return room[0] == 0 && memcmp(room, room + 1, len - 1) == 0;
    sha256_of(room, len, &digest);
    return memcmp(&digest, wanted, sizeof digest) == 0;
}

static bool zeros_match(int fd, uint8_t *room, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to;) {
        uint64_t len = to - at < CHUNK_MAX ? to - at : CHUNK_MAX;
        if (!stretch_matches(fd, room, at, len, NULL))
            return false;
        at += len;
    }
    return true;
}

bool hostfile_matches(int fd, const struct hostfile *in)
{
    struct stat st;
    uint64_t at = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != in->size)
        return false;
    AUTO_FREE uint8_t *room = xcalloc(CHUNK_MAX, 1);
    for (size_t i = 0; i < in->extents_count; i++) {
        const struct extent *x = &in->extents[i];
        if (digest_is_zero(&x->digest))
            continue;
        if (x->at < at || x->len == 0 || x->len > CHUNK_MAX || !zeros_match(fd, room, at, x->at) ||
            !stretch_matches(fd, room, x->at, x->len, &x->digest))
            return false;
        at = x->at + x->len;
    }
    return zeros_match(fd, room, at, in->size);
}

/* ---- make */
static bool lower_stat(int lowerfd, const char *path, struct stat *out)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, lowerfd, path, &how, sizeof how);
    return fd >= 0 && fstat(fd, out) == 0;
}

/* The directory `name` below parentfd, made if it is not there; `path` is its whole path. */
static int folder_enter(int parentfd, const char *name, int lowerfd, const char *path, struct err *e)
{
    struct stat st = {.st_mode = 0755};
    bool made = mkdirat(parentfd, name, 0700) == 0;
    int fd = made || errno == EEXIST ? openat(parentfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0)
        return errno == ELOOP || errno == ENOTDIR ? err_set(e, E_BAD_IMAGE, "%s is no directory in the pod", path)
                                                  : err_errno(e, "make %s in the pod", path);
    (void)lower_stat(lowerfd, path, &st);
    if (!made || (io_chown(fd, "", st.st_uid, st.st_gid, AT_EMPTY_PATH) == 0 && fchmod(fd, st.st_mode & 01777) == 0))
        return fd;
    err_errno(e, "make %s in the pod", path);
    close(fd);
    return -1;
}

/* The directory of the last name of `path` (relative, changed meanwhile and put back). */
static int folders_enter(int upperfd, int lowerfd, char *path, struct err *e)
{
    int fd = openat(upperfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *name = path;
    for (char *slash; fd >= 0 && (slash = strchr(name, '/')); name = slash + 1) {
        *slash = 0;
        int next = folder_enter(fd, name, lowerfd, path, e);
        *slash = '/';
        close(fd);
        fd = next;
        if (fd < 0)
            return -1;
    }
    return fd < 0 ? err_errno(e, "open the pod's root") : fd;
}

static int content_load(int fd, const struct hostfile *in, struct store *store, struct err *e)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {in->mtime_s, (long)in->mtime_ns}};
    if (in->uid >= UINT32_MAX || in->gid >= UINT32_MAX || in->mtime_ns >= 1000000000u)
        return err_set(e, E_BAD_IMAGE, "an impossible owner or time");
    if (store_get_file(store, fd, in->size, in->extents, in->extents_count, e))
        return -1;
    if (io_chown(fd, "", in->uid, in->gid, AT_EMPTY_PATH) < 0 || fchmod(fd, (mode_t)in->mode & 0777) < 0 || futimens(fd, times) < 0)
        return err_errno(e, "owner, mode and time");
    return 0;
}

/* Removed again when it cannot be made whole. */
static int file_make(int folder, const char *name, const struct hostfile *in, struct store *store, struct err *e)
{
    AUTO_CLOSE int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? 0 : err_errno(e, "create");
    if (!content_load(fd, in, store, e))
        return 0;
    unlinkat(folder, name, 0);
    return -1;
}

int hostfile_load(int upperfd, int lowerfd, const struct hostfile *in, struct store *store, struct err *e)
{
    if (in->path[0] != '/' || !tree_path_sane(in->path + 1) || strcmp(in->path, "/.") == 0)
        return err_set(e, E_BAD_IMAGE, "a file of the node with the path '%.200s'", in->path);
    AUTO_FREE char *path = xstrdup(in->path + 1);
    AUTO_CLOSE int folder = folders_enter(upperfd, lowerfd, path, e);
    const char *slash = strrchr(path, '/');
    if (folder < 0 || file_make(folder, slash ? slash + 1 : path, in, store, e))
        return err_wrap(e, "%s", in->path);
    return 0;
}
