/* Directory trees of the pod, and the files of the host's part of its root that the job has mapped or opened: kept by content, so that
 * an image is whole. Host files are read after the pause; they must still be what was mapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../image/tree.h"
#include "save.h"
#include "spaces.h"

static const struct tree *tree_of_parent(const struct snapshot *s, const char *name)
{
    for (size_t k = 0; s->parent && k < s->parent->trees_count; k++)
        if (strcmp(s->parent->trees[k].name, name) == 0)
            return &s->parent->trees[k];
    return NULL;
}

int trees_save(struct snapshot *s, struct err *e)
{
    struct stand_ins leased = {s->leased, s->leased_count};
    for (const char *const *name = pod_tree_names; *name; name++) {
        struct err none = {0};
        AUTO_CLOSE int dir = pod_tree_open(s->pod, *name, &none);
        if (dir < 0 && none.code == E_NO_INPUT)
            continue;
        if (dir < 0) {
            *e = none;
            return -1;
        }
        if (tree_save(dir, *name, tree_of_parent(s, *name), &leased, s->store, LIST_ADD(&s->image, trees), &s->image.new_bytes, e) < 0)
            return err_wrap(e, "files of the pod (%s)", *name);
    }
    return spaces_trees_save(s, e);
}

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || !path[len]);
}

/* In the host's part of the root: in none of the captured trees, and no kernel file system. */
static bool is_host_part(int upper, const char *path)
{
    static const char *const not_host[] = {"/proc", "/sys", "/dev", "/tmp", "/run"};
    struct stat at;
    for (size_t k = 0; k < ARRAY_LENGTH(not_host); k++)
        if (is_below(path, not_host[k]))
            return false;
    return path[0] == '/' && (upper < 0 || fstatat(upper, path + 1, &at, AT_SYMLINK_NOFOLLOW) < 0);
}

static const struct hostfile *hostfile_find(const struct image *image, const char *path)
{
    for (size_t k = 0; image && k < image->hostfiles_count; k++)
        if (strcmp(image->hostfiles[k].path, path) == 0)
            return &image->hostfiles[k];
    return NULL;
}

/* Opened as the pod sees it, through podinit's root; links resolve inside the pod. */
static int open_inside(const struct pod *pod, const char *path, struct err *e)
{
    AUTO_FREE char *root_path = xasprintf("/proc/%d/root", pod->init_pid);
    AUTO_CLOSE int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct {
        uint64_t flags, mode, resolve;
    } how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = 0x10 /* RESOLVE_IN_ROOT */};
    int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd >= 0 ? fd : err_errno(e, "open %s in the pod", path);
}

static int hostfile_add(struct snapshot *s, int upper, const char *path, struct err *e)
{
    if (!path || !path[0] || hostfile_find(&s->image, path) || !is_host_part(upper, path))
        return 0;
    AUTO_CLOSE int fd = open_inside(s->pod, path, e);
    if (fd < 0)
        return -1;
    const struct hostfile *previous = hostfile_find(s->parent, path);
    return hostfile_save(fd, path, previous, s->store, LIST_ADD(&s->image, hostfiles), &s->image.new_bytes, e);
}

int hostfiles_save(struct snapshot *s, struct err *e)
{
    struct err none;
    AUTO_CLOSE int upper = pod_tree_open(s->pod, "root", &none);
    for (size_t k = 0; k < s->image.tasks_count; k++) {
        const struct mm *mm = &s->image.tasks[k].mm;
        if (s->image.tasks[k].mount_space)
            continue; /* its paths are not the pod's */
        if (hostfile_add(s, upper, mm->exe, e) < 0)
            return -1;
        for (size_t m = 0; m < mm->vmas_count; m++)
            if (mm->vmas[m].kind == VMA_FILE && hostfile_add(s, upper, mm->vmas[m].path, e) < 0)
                return -1;
    }
    for (size_t k = 0; s->spaces && k < s->spaces->mapped_count; k++)
        if (hostfile_add(s, upper, s->spaces->mapped[k], e) < 0)
            return -1;
    for (size_t k = 0; k < s->image.files_count; k++)
        if (s->image.files[k].host_part && hostfile_add(s, upper, s->image.files[k].path, e) < 0)
            return -1;
    return 0;
}
