/* Names that nothing tells: another name of a file whose own is gone (a hard link that was left, a name given to an O_TMPFILE file), the name of what
 * an ordinary user's inotify watches. Looked for in all trees of the pod, among so many names at most; both are rare. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files_facts.h"

#define DEPTH_MAX 128
#define LOOKS_MAX 200000l /* names: the job may be waiting */

static const struct {
    const char *tree, *place;
} places[] = {{"root", ""}, {"tmp", "/tmp"}, {"shm", "/dev/shm"}, {"run", "/run"}};

/* What is looked for: a file by its stat, or anything by inode and device as the pod sees them. */
struct wanted {
    const struct view *view;
    const struct stat *file;
    uint64_t dev, ino;
    long looks;              /* left */
};

static char *below_find(struct wanted *w, int dirfd, const char *path, int depth);

static bool is_it(const struct wanted *w, const char *inside, const struct stat *found)
{
    struct stat st;
    if (w->file)
        return S_ISREG(found->st_mode) && found->st_size == w->file->st_size && view_path_is(w->view, inside, w->file);
    return fstatat(w->view->root, inside + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == w->ino && st.st_dev == w->dev;
}

static char *entry_find(struct wanted *w, int dirfd, const char *path, const char *name, int depth)
{
    struct stat found;
    char *inside = xasprintf("%s/%s", path, name);
    if (fstatat(dirfd, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && is_it(w, inside, &found))
        return inside;
    int below = depth < DEPTH_MAX ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    char *deeper = below < 0 ? NULL : below_find(w, below, inside, depth + 1);
    free(inside);
    return deeper;
}

/* Takes dirfd. */
static char *below_find(struct wanted *w, int dirfd, const char *path, int depth)
{
    char *result = NULL;
    AUTO_DIR DIR *dir = fdopendir(dirfd);
    if (!dir)
        close(dirfd);
    for (const struct dirent *d; dir && !result && w->looks-- > 0 && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            result = entry_find(w, dirfd, path, d->d_name, depth);
    return result;
}

static char *everywhere_find(struct wanted *w)
{
    char *result = NULL;
    struct err none;
    for (size_t i = 0; i < ARRAY_LENGTH(places) && !result; i++) {
        int tree = pod_tree_open(w->view->pod, places[i].tree, &none);
        result = tree < 0 ? NULL : below_find(w, tree, places[i].place, 0);
    }
    return result;
}

char *view_find_name(const struct view *v, const struct stat *st)
{
    return everywhere_find(&(struct wanted){.view = v, .file = st, .looks = LOOKS_MAX});
}

char *view_find_inode(const struct view *v, uint64_t dev, uint64_t ino)
{
    return everywhere_find(&(struct wanted){.view = v, .dev = dev, .ino = ino, .looks = LOOKS_MAX});
}
