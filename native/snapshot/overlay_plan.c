/* An overlay that the job mounted: its options tell by which paths its layers were given; that these are still its layers is seen by what it shows at its top.
 * What is written lies on a tmpfs that is captured, so that with the layers it comes back. See spaces.h. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "overlay_plan.h"

struct overlay {
    const struct spaces *s;
    const struct seen_mounts *m;
    const struct mount_line *line;
    char *words;                /* why not */
    int *layers;                /* the upper one first */
    size_t layers_count;
    int top;                    /* what it shows */
};

static int directory_open(int root, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    return path[0] == '/' ? (int)syscall(SYS_openat2, root, path, &how, sizeof how) : -1;
}

/* The same place of that file system in the pod, where nothing is mounted upon it. */
static int pods_open(const struct overlay *o, const struct mount_line *above, const char *below)
{
    AUTO_FREE char *position = xasprintf("%s%s", strcmp(above->root, "/") == 0 ? "" : above->root, below);
    for (size_t k = 0; k < o->s->pod_mounts.count; k++) {
        const struct mount_line *pods = &o->s->pod_mounts.items[k];
        const char *rest = pods->dev == above->dev ? path_below(position, pods->root) : NULL;
        AUTO_FREE char *path = rest ? xasprintf("%s%s", strcmp(pods->place, "/") == 0 ? "" : pods->place, rest) : NULL;
        AUTO_CLOSE int fd = path ? directory_open(o->s->pod_root, *path ? path : "/") : -1;
        if (fd >= 0 && mount_id_of(fd) == pods->id)
            return fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    return -1;
}

/* Of what it is mounted over itself: without it. What the pod has mounted cannot be taken apart there. */
static int layer_open(const struct overlay *o, const char *path)
{
    struct err gone;
    if (!path_below(path, o->line->place))
        return directory_open(o->m->visitor.root, path);
    const struct mount_line *above = &o->m->table.items[o->line->above];
    const char *below = path_below(path, above->place);
    int pods = below ? pods_open(o, above, below) : -1;
    AUTO_CLOSE int bare = below && pods < 0 ? visitor_clone(&o->m->visitor, above->place, &gone) : -1;
    return bare < 0 ? pods : directory_open(bare, *below ? below : "/");
}

static int trouble(const struct overlay *o, const char *what, const char *path)
{
    snprintf(o->words, OVERLAY_WORDS, "%s %.180s", what, path);
    return -1;
}

/* ---- where it is written */
static bool is_on(const struct mount_table *table, dev_t dev, const char *type, const char *place)
{
    for (size_t k = 0; k < table->count; k++) {
        const struct mount_line *line = &table->items[k];
        if (line->dev == dev && strcmp(line->type, type) == 0 && (!place || strcmp(line->place, place) == 0))
            return true;
    }
    return false;
}

/* Of the pod's tmpfs those whose content is kept, and all of the job's. */
static bool is_captured(const struct overlay *o, int fd)
{
    const struct mount_table *pods = &o->s->pod_mounts;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    if (!is_on(pods, st.st_dev, "tmpfs", NULL))
        return is_on(&o->m->table, st.st_dev, "tmpfs", NULL);
    return is_on(pods, st.st_dev, "tmpfs", "/tmp") || is_on(pods, st.st_dev, "tmpfs", "/dev/shm") || is_on(pods, st.st_dev, "tmpfs", "/run");
}

/* Which of them would have to be mounted first is not found out. */
static bool is_upon_overlay(const struct overlay *o, int fd)
{
    const struct mount_table *own = &o->m->table;
    size_t at = mount_table_find(own, mount_id_of(fd));
    for (size_t k = at == SIZE_MAX ? o->line->above : at; k != SIZE_MAX; k = own->items[k].above)
        if (strcmp(own->items[k].type, "overlay") == 0 && !is_on(&o->s->pod_mounts, own->items[k].dev, "overlay", NULL))
            return true;
    return false;
}

static int layer_add(struct overlay *o, const char *path, bool written)
{
    int fd = layer_open(o, path);
    if (fd < 0)
        return trouble(o, "an overlay whose layer is not to be found:", path);
    o->layers = xrealloc(o->layers, o->layers_count + 1, sizeof *o->layers);
    o->layers[o->layers_count++] = fd;
    if (is_upon_overlay(o, fd))
        return trouble(o, "an overlay with a layer upon another one that it mounted:", path);
    return written && !is_captured(o, fd) ? trouble(o, "an overlay that is written to where nothing is captured:", path) : 0;
}

static int lowers_add(struct overlay *o, const char *paths)
{
    AUTO_FREE char *copy = xstrdup(paths);
    char *save = NULL;
    if (strstr(paths, "::"))
        return trouble(o, "an overlay with layers of data alone:", paths);
    for (char *path = strtok_r(copy, ":", &save); path; path = strtok_r(NULL, ":", &save))
        if (layer_add(o, path, false) < 0)
            return -1;
    return 0;
}

/* ---- are they its layers: at its top it shows what they have together */
static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static bool shows_rightly(const struct overlay *o, const char *name)
{
    struct stat shown, real = {0};
    bool is_shown = fstatat(o->top, name, &shown, AT_SYMLINK_NOFOLLOW) == 0, is_there = false;
    for (size_t k = 0; k < o->layers_count && !is_there; k++)
        is_there = fstatat(o->layers[k], name, &real, AT_SYMLINK_NOFOLLOW) == 0;
    if (!is_there || is_whiteout(&real))
        return !is_shown;
    bool alike = is_shown && (shown.st_mode & S_IFMT) == (real.st_mode & S_IFMT);
    return alike && (!S_ISREG(real.st_mode) || (shown.st_size == real.st_size && shown.st_mtim.tv_sec == real.st_mtim.tv_sec &&
                                                shown.st_mtim.tv_nsec == real.st_mtim.tv_nsec));
}

static bool all_shown_rightly(const struct overlay *o, int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = own < 0 ? NULL : fdopendir(own);
    for (const struct dirent *d; dir && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && !shows_rightly(o, d->d_name))
            return false;
    return dir;
}

/* On one file system it has the inode number of its upper directory. */
static bool is_same_top(const struct overlay *o)
{
    struct stat shown, real, lower;
    if (fstat(o->top, &shown) < 0 || fstat(o->layers[0], &real) < 0)
        return false;
    for (size_t k = 1; k < o->layers_count; k++)
        if (fstat(o->layers[k], &lower) < 0 || lower.st_dev != real.st_dev)
            return true;
    return shown.st_ino == real.st_ino;
}

static int layers_check(const struct overlay *o, const char *place)
{
    bool rightly = is_same_top(o) && all_shown_rightly(o, o->top);
    for (size_t k = 0; rightly && k < o->layers_count; k++)
        rightly = all_shown_rightly(o, o->layers[k]);
    return rightly ? 0 : trouble(o, "an overlay that shows something else than its layers by their paths, at", place);
}

/* ---- options */
static bool begins(const char *word, const char *const *names)
{
    for (; *names; names++)
        if (strncmp(word, *names, strlen(*names)) == 0)
            return true;
    return false;
}

static const char *value_of(const char *options, const char *name, char room[PATH_BYTES])
{
    const char *at = strstr(options, name);
    while (at && at != options && at[-1] != ',')
        at = strstr(at + 1, name);
    if (!at)
        return NULL;
    snprintf(room, PATH_BYTES, "%.*s", (int)strcspn(at + strlen(name), ","), at + strlen(name));
    return room;
}

static int options_take(const struct overlay *o, const char *super, struct buf *out)
{
    static const char *const kept[] = {"lowerdir=", "upperdir=", "workdir=", "userxattr", "redirect_dir=", "xino=", "uuid=", "metacopy=off", "index=off", "nfs_export=off", NULL};
    AUTO_FREE char *copy = xstrdup(super);
    bool writes = strstr(super, "upperdir=") != NULL;
    char *save = NULL;
    if (strchr(super, '\\') || strlen(super) >= PATH_BYTES)
        return trouble(o, "an overlay mounted with paths that cannot be told:", super);
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        bool known = begins(word, kept);
        if (!known && strcmp(word, writes ? "rw" : "ro") != 0 && strcmp(word, "rw") != 0)
            return trouble(o, "an overlay that was mounted with", word);
        if (known)
            buf_addf(out, "%s%s", out->len ? "," : "", word);
    }
    buf_add(out, "", 1);
    return 0;
}

static int layers_find(struct overlay *o, const char *super)
{
    char room[PATH_BYTES];
    const char *upper = value_of(super, "upperdir=", room);
    if (upper && layer_add(o, upper, true) < 0)
        return -1;
    const char *work = value_of(super, "workdir=", room);
    AUTO_CLOSE int fd = work ? layer_open(o, work) : -1;
    if (work && (fd < 0 || !is_captured(o, fd)))
        return trouble(o, "an overlay whose working directory is not to be found:", work);
    const char *lower = value_of(super, "lowerdir=", room);
    return lower ? lowers_add(o, lower) : trouble(o, "an overlay without layers:", super);
}

bool spaces_overlay_hides(const struct spaces *s, pid_t pid, int fd)
{
    const struct seen_member *member = s ? spaces_member(s, pid) : NULL;
    const struct seen_mounts *own = member && member->mounts ? spaces_mounts(s, member->mounts) : NULL;
    struct statfs fs;
    struct stat st;
    if (!own || fstatfs(fd, &fs) < 0 || fs.f_type != OVERLAYFS_SUPER_MAGIC || fstat(fd, &st) < 0 || spaces_of_device(s, st.st_dev))
        return false;
    for (size_t k = 0; k < own->image.filesystems_count; k++)
        if (strcmp(own->image.filesystems[k].type, "overlay") == 0)
            return true;
    return false;
}

int overlay_plan(const struct spaces *s, const struct seen_mounts *m, const struct mount_line *line, char **options, char words[OVERLAY_WORDS])
{
    AUTO_BUF struct buf out = {0};
    struct overlay o = {.s = s, .m = m, .line = line, .words = words};
    o.top = directory_open(m->visitor.root, line->place);
    int result = options_take(&o, line->super, &out) < 0 || layers_find(&o, line->super) < 0 ? -1 : 0;
    if (result == 0)
        result = o.top < 0 || mount_id_of(o.top) != line->id ? trouble(&o, "an overlay that is hidden by another mount, at", line->place) : layers_check(&o, line->place);
    for (size_t k = 0; k < o.layers_count; k++)
        close(o.layers[k]);
    free(o.layers);
    if (o.top >= 0)
        close(o.top);
    *options = result ? NULL : xstrdup((char *)out.data);
    return result;
}
