/* inotify(7): watches with the paths that they mean today, found by the file handle in fdinfo. Events not read yet cannot be
 * put back; they are read within moments. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "files_save.h"
#include "spaces.h"

#define HANDLE_BYTES_MAX 128u

struct watch_line {
    unsigned wd, mask, handle_bytes;
    int handle_type;
    unsigned long ino, dev;
    uint8_t handle[HANDLE_BYTES_MAX];
};

static bool handle_parse(const char *hex, struct watch_line *out)
{
    for (unsigned i = 0; i < out->handle_bytes; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return false;
        out->handle[i] = (uint8_t)byte;
    }
    return true;
}

static bool watch_parse(const char *line, struct watch_line *out)
{
    unsigned handle_type, dev;
    int at = 0;
    if (sscanf(line, "\ninotify wd:%x ino:%lx sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x fhandle-type:%x f_handle:%n", &out->wd,
               &out->ino, &dev, &out->mask, &out->handle_bytes, &handle_type, &at) != 6 || !at || out->handle_bytes > HANDLE_BYTES_MAX)
        return false;
    out->handle_type = (int)handle_type;
    out->dev = makedev(dev >> 20, dev & 0xfffff); /* as the kernel keeps it */
    return handle_parse(line + at, out);
}

/* A path by its handle on one file system of the pod. */
static char *path_by_handle(int mount, const struct watch_line *w)
{
    struct {
        struct file_handle head;
        uint8_t bytes[HANDLE_BYTES_MAX];
    } handle = {.head = {.handle_bytes = w->handle_bytes, .handle_type = w->handle_type}};
    char path[64], link[PATH_BYTES];
    memcpy(handle.head.f_handle, w->handle, w->handle_bytes);
    AUTO_CLOSE int fd = open_by_handle_at(mount, &handle.head, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != w->ino)
        return NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    return n > 0 && link[0] == '/' ? xstrdup(link) : NULL;
}

/* ---- overlayfs wraps the handle of the file below (struct ovl_fh): decoded there, and led back to the pod's path */
#define OVERLAY_HANDLE 0xf8
#define OVERLAY_MAGIC 0xfb
#define OVERLAY_UPPER 4
struct overlay_handle {
    uint8_t padding[3], version, magic, len, flags, type, uuid[16], real[HANDLE_BYTES_MAX];
};
#define OVERLAY_HEADER (offsetof(struct overlay_handle, real) - offsetof(struct overlay_handle, version))

/* The root that the pod's overlay lies on, as it was mounted. */
static char *lower_of(const struct pod *pod)
{
    static const char option[] = "lowerdir=";
    AUTO_BUF struct buf text = {0};
    struct err none;
    if (io_slurpf(&text, 16ul << 20, &none, "/proc/%d/mountinfo", pod->init_pid) < 0)
        return NULL;
    const char *line = strstr((const char *)text.data, " / / "), *end = line ? strchr(line, '\n') : NULL;
    const char *at = line ? strstr(line, option) : NULL;
    if (!at || (end && at > end))
        return NULL;
    at += strlen(option);
    return xasprintf("%.*s", (int)strcspn(at, ",\n"), at);
}

static char *below_decode(const char *tree, const struct overlay_handle *h, size_t real_len)
{
    struct {
        struct file_handle head;
        uint8_t bytes[HANDLE_BYTES_MAX];
    } handle = {.head = {.handle_bytes = (unsigned)real_len, .handle_type = h->type}};
    char path[64], link[PATH_BYTES];
    memcpy(handle.head.f_handle, h->real, real_len);
    AUTO_CLOSE int mount = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int fd = mount < 0 ? -1 : open_by_handle_at(mount, &handle.head, O_PATH | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = fd < 0 ? -1 : readlink(path, link, sizeof link - 1);
    size_t len = strcmp(tree, "/") == 0 ? 0 : strlen(tree);
    link[n < 0 ? 0 : n] = 0;
    return n > 0 && strncmp(link, tree, len) == 0 && (link[len] == '/' || !link[len]) ? xstrdup(link[len] ? link + len : "/") : NULL;
}

static char *path_by_overlay(const struct saving *v, const struct watch_line *w)
{
    struct overlay_handle h = {0};
    char self[64], upper[PATH_BYTES];
    struct stat st;
    memcpy(&h, w->handle, w->handle_bytes < sizeof h ? w->handle_bytes : sizeof h);
    if (w->handle_type != OVERLAY_HANDLE || h.magic != OVERLAY_MAGIC || h.len < OVERLAY_HEADER || h.len + sizeof h.padding > w->handle_bytes)
        return NULL;
    snprintf(self, sizeof self, "/proc/self/fd/%d", v->view.upper);
    ssize_t n = h.flags & OVERLAY_UPPER ? readlink(self, upper, sizeof upper - 1) : 0;
    upper[n < 0 ? 0 : n] = 0;
    AUTO_FREE char *tree = h.flags & OVERLAY_UPPER ? xstrdup(upper) : lower_of(v->s->pod);
    AUTO_FREE char *path = tree && tree[0] == '/' ? below_decode(tree, &h, h.len - OVERLAY_HEADER) : NULL;
    bool same = path && fstatat(v->view.root, path[1] ? path + 1 : ".", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == w->ino;
    return same ? xstrdup(path) : NULL;
}

/* ---- What handles cannot tell (an ordinary user may not decode them): the working directories and open directories of the pod, and those above them. */
static char *path_by_guess(const struct saving *v, const struct watch_line *w, const char *start)
{
    AUTO_FREE char *path = xstrdup(start);
    while (path[0] == '/') {
        AUTO_CLOSE int fd = openat(v->view.root, path[1] ? path + 1 : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == w->ino && st.st_dev == w->dev)
            return xstrdup(path);
        char *slash = strrchr(path, '/');
        if (slash == path && !path[1])
            break;
        slash[slash == path ? 1 : 0] = 0;
    }
    return NULL;
}

static char *path_find(const struct saving *v, const struct watch_line *w)
{
    static const char *const mounts[] = {".", "tmp", "dev/shm", "run", "dev"};
    for (size_t i = 0; i < ARRAY_LENGTH(mounts); i++) {
        AUTO_CLOSE int mount = openat(v->view.root, mounts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *path = mount < 0 ? NULL : path_by_handle(mount, w);
        if (path)
            return path;
    }
    char *below = path_by_overlay(v, w);
    if (below)
        return below;
    for (size_t i = 0; i < v->s->victim_count; i++) {
        char link[64], cwd[PATH_BYTES];
        snprintf(link, sizeof link, "/proc/%d/cwd", v->s->victims[i].pid);
        ssize_t n = readlink(link, cwd, sizeof cwd - 1);
        cwd[n < 0 ? 0 : n] = 0;
        char *path = path_by_guess(v, w, cwd);
        if (path)
            return path;
    }
    for (size_t i = 0; i < v->sources_count; i++) {
        char *path = path_by_guess(v, w, v->sources[i].facts.link);
        if (path)
            return path;
    }
    return view_find_inode(&v->view, w->dev, w->ino);
}

/* On a file system that the job has mounted. */
static char *own_path_find(const struct saving *v, const struct watch_line *w, uint64_t *space)
{
    uint64_t id = spaces_of_device(v->s->spaces, w->dev);
    const struct seen_mounts *m = id ? spaces_mounts(v->s->spaces, id) : NULL;
    *space = id;
    for (size_t k = 0; m && k < m->image.mounts_count; k++) {
        const char *place = m->table.items[m->order[k]].place;
        if (!m->image.mounts[k].fs || m->image.mounts[k].hidden || m->table.items[m->order[k]].dev != w->dev)
            continue;
        AUTO_CLOSE int mount = openat(m->visitor.root, place[1] ? place + 1 : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *path = mount < 0 ? NULL : path_by_handle(mount, w);
        if (path)
            return path;
    }
    for (size_t k = 0; m && k < v->sources_count; k++) { /* an ordinary user may decode no handle */
        const struct facts *f = &v->sources[k].facts;
        if (f->space == id && f->st.st_ino == w->ino && f->st.st_dev == w->dev && f->st.st_nlink)
            return xstrdup(f->place);
    }
    return NULL;
}

int inotify_save(struct saving *v, struct source *src, struct err *e)
{
    int waiting = 0;
    if (ioctl(src->fd, FIONREAD, &waiting) < 0)
        return err_errno(e, "queue of an inotify instance");
    if (waiting)
        return source_busy(v, src, e, "an inotify instance with events not read yet");
    struct inotify *inotify = LIST_ADD(&v->s->image, inotifies);
    inotify->id = src->file->ref = src->file->id;
    for (const char *at = strstr(src->facts.fdinfo, "\ninotify wd:"); at; at = strstr(at + 1, "\ninotify wd:")) {
        struct watch_line line = {0};
        if (!watch_parse(at, &line))
            return source_refuse(v, src, e, "an inotify instance whose state this kernel shows in an unknown way");
        uint64_t space = 0;
        char *path = own_path_find(v, &line, &space);
        path = path || space ? path : path_find(v, &line);
        if (!path)
            return source_refuse(v, src, e, "an inotify watch (%u) on a file whose path cannot be found", line.wd);
        struct inotify_watch *watch = LIST_ADD(inotify, watches);
        watch->wd = line.wd;
        watch->mask = line.mask;
        watch->path = path;
        watch->mount_space = space;
    }
    return 0;
}
