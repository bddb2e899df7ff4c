/* See gc.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gc.h"
#include "image/image.h"

#define DEPTH_MAX 8

static int mark(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    (void)len, (void)e;
    struct marks *m = ctx;
    struct place p = {.digest = *digest, .state = PLACE_PENDING};
    index_add(&m->index, &p);
    return 0;
}

static int image_mark(void *ctx, const char *dir, struct err *e)
{
    struct marks *m = ctx;
    struct image image;
    if (image_read(dir, &image, NULL, e))
        return e->code == E_NO_INPUT ? 0 : -1; /* no image here, or removed since */
    int result = image_each_chunk(&image, mark, m, e);
    image_free(&image);
    return result;
}

static bool is_dir(int dirfd, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_name[0] == '.' && (!entry->d_name[1] || (entry->d_name[1] == '.' && !entry->d_name[2])))
        return false;
    return fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

struct walk {
    int (*fn)(void *ctx, const char *dir, struct err *e);
    void *ctx;
};

static int folder_walk(const struct walk *w, const char *path, int depth, struct err *e)
{
    if (w->fn(w->ctx, path, e))
        return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && depth > 0)
        return 0;
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open %s", path);
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        AUTO_FREE char *below = xasprintf("%s/%s", path, entry->d_name);
        if (is_dir(dirfd(dir), entry) && depth < DEPTH_MAX && folder_walk(w, below, depth + 1, e))
            return -1;
    }
    return errno ? err_errno(e, "read %s", path) : 0;
}

int images_walk(const char *images_dir, int (*fn)(void *ctx, const char *dir, struct err *e), void *ctx, struct err *e)
{
    return folder_walk(&(struct walk){fn, ctx}, images_dir, 0, e);
}

int marks_collect(struct marks *m, const char *images_dir, struct err *e)
{
    return images_walk(images_dir, image_mark, m, e) ? err_wrap(e, "nothing is swept while an image cannot be read") : 0;
}
