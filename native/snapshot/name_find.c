/* Another name of a file whose own name is gone (a hard link that was left, a name given to an O_TMPFILE file): looked for in all trees of
 * the pod, which takes as long as they are large; such files are rare. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files_facts.h"

#define DEPTH_MAX 128

static const struct {
    const char *tree, *place;
} places[] = {{"root", ""}, {"tmp", "/tmp"}, {"shm", "/dev/shm"}, {"run", "/run"}};

static char *below_find(const struct view *v, const struct stat *st, int dirfd, const char *path, int depth);

static char *entry_find(const struct view *v, const struct stat *st, int dirfd, const char *path, const char *name, int depth)
{
    struct stat found;
    char *inside = xasprintf("%s/%s", path, name);
    if (fstatat(dirfd, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
        found.st_mode = 0;
    if (S_ISREG(found.st_mode) && found.st_size == st->st_size && view_path_is(v, inside, st))
        return inside;
    char *deeper = NULL;
    if (S_ISDIR(found.st_mode) && depth < DEPTH_MAX) {
        int below = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        deeper = below < 0 ? NULL : below_find(v, st, below, inside, depth + 1);
    }
    free(inside);
    return deeper;
}

/* Takes dirfd. */
static char *below_find(const struct view *v, const struct stat *st, int dirfd, const char *path, int depth)
{
    char *result = NULL;
    AUTO_DIR DIR *dir = fdopendir(dirfd);
    if (!dir)
        close(dirfd);
    for (const struct dirent *d; dir && !result && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            result = entry_find(v, st, dirfd, path, d->d_name, depth);
    return result;
}

char *view_find_name(const struct view *v, const struct stat *st)
{
    char *result = NULL;
    struct err none;
    for (size_t i = 0; i < ARRAY_LENGTH(places) && !result; i++) {
        int tree = pod_tree_open(v->pod, places[i].tree, &none);
        result = tree < 0 ? NULL : below_find(v, st, tree, places[i].place, 0);
    }
    return result;
}
