/* What each mount of a namespace is made of. Of the pod's file systems a mount is a clone of what stands at a path of the pod; what the pod has
 * mounted below that comes along, since an ordinary user's namespace cannot take it apart. All else the job has mounted itself. Positions are
 * compared in the file system of the parent mount, so that it does not matter where a mount stands now. See spaces.h. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "overlay_plan.h"
#include "spaces.h"

#define NONE SIZE_MAX

struct plan {
    const struct spaces *s;
    struct seen_mounts *m;
    const struct mount_table *own, *pod;
    size_t *with;               /* by line: the line of the pod that it comes along as, NONE */
    size_t *number;             /* by line: its place in the image, NONE */
};

static int trouble(struct plan *p, const char *format, ...) PRINTF(2, 3);
static int trouble(struct plan *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->m->trouble, sizeof p->m->trouble, format, args);
    va_end(args);
    return -1;
}

/* ---- order: parents first; among the children of one mount those that stand deeper, since what is mounted above them later hides them */
static const struct plan *sorting;

static int deeper_first(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    size_t deep_x = strlen(sorting->own->items[x].place), deep_y = strlen(sorting->own->items[y].place);
    return deep_x != deep_y ? (deep_x > deep_y ? -1 : 1) : x < y ? -1 : x > y;
}

static void order_below(struct plan *p, size_t above, size_t *count)
{
    size_t first = *count;
    for (size_t k = 0; k < p->own->count; k++)
        if (p->own->items[k].above == above)
            p->m->order[(*count)++] = k;
    sorting = p;
    size_t end = *count;
    if (end > first)
        qsort(p->m->order + first, end - first, sizeof *p->m->order, deeper_first);
    for (size_t k = first; k < end; k++)
        order_below(p, p->m->order[k], count);
}

/* ---- what a path leads to */
static int path_open(int root, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static bool leads_to(int root, const char *path, uint64_t mount_id)
{
    AUTO_CLOSE int fd = path_open(root, path);
    return fd >= 0 && mount_id_of(fd) == mount_id;
}

/* ---- of the pod */
static bool is_pods(const struct plan *p, dev_t dev)
{
    for (size_t k = 0; k < p->pod->count; k++)
        if (p->pod->items[k].dev == dev)
            return true;
    return false;
}

/* The pod's mount that shows the same, and where. */
static char *source_find(const struct plan *p, const struct mount_line *m, size_t *of)
{
    for (size_t k = 0; k < p->pod->count; k++) {
        const struct mount_line *from = &p->pod->items[k];
        const char *below = from->dev == m->dev ? path_below(m->root, from->root) : NULL;
        if (!below)
            continue;
        char *path = strcmp(from->place, "/") == 0 ? xstrdup(*below ? below : "/") : xasprintf("%s%s", from->place, below);
        *of = k;
        if (leads_to(p->s->pod_root, path, from->id))
            return path;
        free(path);
    }
    return NULL;
}

/* Which mount upon `line` is that one of the pod's. */
static size_t twin_find(const struct plan *p, size_t line, const struct mount_line *pods, const char *position)
{
    for (size_t k = 0; k < p->own->count; k++) {
        const struct mount_line *m = &p->own->items[k];
        if (m->above != line || p->with[k] != NONE || m->dev != pods->dev || strcmp(m->root, pods->root) != 0)
            continue;
        AUTO_FREE char *own = mount_line_position(p->own, m);
        if (strcmp(own, position) == 0)
            return k;
    }
    return NONE;
}

/* What the pod has mounted upon `pods`, below `root` of its file system, is found upon `line`. */
static int along_find(struct plan *p, size_t line, size_t pods, const char *root, uint64_t *deep)
{
    for (size_t k = 0; k < p->pod->count; k++) {
        if (p->pod->items[k].above != pods)
            continue;
        AUTO_FREE char *position = mount_line_position(p->pod, &p->pod->items[k]);
        const char *below = path_below(position, root);
        if (!below || !*below)
            continue;
        size_t twin = twin_find(p, line, &p->pod->items[k], position);
        if (twin == NONE)
            return trouble(p, "%s is mounted without %s, which the pod has mounted there", p->own->items[line].place, p->pod->items[k].place);
        *deep = 1;
        p->with[twin] = k;
        if (along_find(p, twin, k, "/", deep) < 0)
            return -1;
    }
    return 0;
}

static int pods_plan(struct plan *p, size_t line, struct mounted *out)
{
    const struct mount_line *m = &p->own->items[line];
    size_t of = NONE;
    if (p->with[line] != NONE) {
        out->kind = MOUNTED_ALONG;
        return 0;
    }
    out->kind = MOUNTED_POD;
    out->source = source_find(p, m, &of);
    if (!out->source)
        return trouble(p, "what is mounted at %s is nowhere in the pod any more (%s)", m->place, m->root);
    return along_find(p, line, of, m->root, &out->deep);
}

/* ---- of the job */
static bool option_is(const char *word, const char *const *names)
{
    for (; *names; names++)
        if (strncmp(word, *names, strlen(*names)) == 0 && (word[strlen(*names)] == '=' || !word[strlen(*names)]))
            return true;
    return false;
}

/* Options that are told, and can be given again by an ordinary user. What names an owner stands in the tree. */
static int options_take(struct plan *p, const struct mount_line *m, char **out)
{
    static const char *const kept[] = {"size", "nr_blocks", "nr_inodes", "mode", "ptmxmode", "max", NULL};
    static const char *const plain[] = {"rw", "uid", "gid", "inode64", "inode32", NULL};
    AUTO_FREE char *copy = xstrdup(m->super);
    AUTO_BUF struct buf options = {0};
    char *save = NULL;
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (option_is(word, kept))
            buf_addf(&options, "%s%s", options.len ? "," : "", word);
        else if (!option_is(word, plain))
            return trouble(p, "the file system at %s was mounted with %s", m->place, word);
    }
    buf_add(&options, "", 1);
    *out = xstrdup((char *)options.data);
    return 0;
}

/* Mounted once, as a whole, upon something else: it is made when its layers stand at their paths. Those of its layers that the job has mounted come
 * before it in the table. */
static int overlay_take(struct plan *p, const struct mount_line *m, char **out)
{
    char words[OVERLAY_WORDS];
    size_t mounts = 0;
    for (size_t k = 0; k < p->own->count; k++)
        mounts += p->own->items[k].dev == m->dev;
    if (mounts != 1 || strcmp(m->root, "/") != 0 || m->above == NONE)
        return trouble(p, "an overlay that is mounted at more than one place, in part, or as the root (%s)", m->place);
    return overlay_plan(p->s, p->m, m, out, words) < 0 ? trouble(p, "%s", words) : 0;
}

static int filesystem_of(struct plan *p, const struct mount_line *m, uint64_t *id)
{
    struct mount_space *space = &p->m->image;
    for (size_t k = 0; k < space->filesystems_count; k++)
        if (p->m->device[k] == m->dev) {
            *id = k + 1;
            return 0;
        }
    bool overlay = strcmp(m->type, "overlay") == 0;
    if (!overlay && strcmp(m->type, "tmpfs") != 0 && strcmp(m->type, "devpts") != 0)
        return trouble(p, "a file system of type %s that it mounted at %s", m->type, m->place);
    for (size_t k = 0; k + 1 < p->s->mounts_count; k++)
        for (size_t n = 0; n < p->s->mounts[k].image.filesystems_count; n++)
            if (p->s->mounts[k].device[n] == m->dev)
                return trouble(p, "the file system at %s is mounted in another namespace of the job too", m->place);
    p->m->device = xrealloc(p->m->device, space->filesystems_count + 1, sizeof *p->m->device);
    p->m->device[space->filesystems_count] = m->dev;
    struct own_fs *fs = LIST_ADD(space, filesystems);
    *id = fs->id = space->filesystems_count;
    fs->type = xstrdup(m->type);
    fs->source = xstrdup(m->source);
    return overlay ? overlay_take(p, m, &fs->options) : options_take(p, m, &fs->options);
}

static int own_plan(struct plan *p, size_t line, struct mounted *out)
{
    const struct mount_line *m = &p->own->items[line];
    out->kind = MOUNTED_OWN;
    out->source = xstrdup(m->root);
    return filesystem_of(p, m, &out->fs);
}

/* ---- one mount */
static int propagation_take(struct plan *p, const struct mount_line *m, uint64_t *out)
{
    size_t peers = 0;
    for (size_t k = 0; m->shared && k < p->own->count; k++)
        peers += p->own->items[k].shared == m->shared || p->own->items[k].master == m->shared;
    if (m->master || peers > 1)
        return trouble(p, "the mount at %s takes part in what is mounted elsewhere (shared subtrees)", m->place);
    *out = m->shared ? MS_SHARED : m->unbindable ? MS_UNBINDABLE : 0;
    return 0;
}

static int mount_plan(struct plan *p, size_t line)
{
    const struct mount_line *m = &p->own->items[line];
    struct mounted *out = LIST_ADD(&p->m->image, mounts);
    out->id = p->m->image.mounts_count;
    p->number[line] = out->id;
    out->parent = m->above == NONE ? 0 : p->number[m->above];
    out->place = mount_line_place(p->own, m);
    out->attributes = m->attributes;
    out->hidden = !leads_to(p->m->visitor.root, m->place, m->id);
    if (!out->parent && out->id != 1)
        return trouble(p, "a mount that stands on none");
    if (m->idmapped)
        return trouble(p, "an id-mapped mount at %s", m->place);
    if (strstr(m->root, "//deleted"))
        return trouble(p, "what is mounted at %s was removed", m->place);
    if (propagation_take(p, m, &out->propagation) < 0)
        return -1;
    return is_pods(p, m->dev) ? pods_plan(p, line, out) : own_plan(p, line, out);
}

/* Content can be taken only of what some path leads to. */
static int contents_check(struct plan *p)
{
    for (size_t f = 0; f < p->m->image.filesystems_count; f++) {
        const struct mounted *seen = NULL;
        for (size_t k = 0; k < p->m->image.mounts_count; k++)
            if (p->m->image.mounts[k].fs == f + 1 && !p->m->image.mounts[k].hidden)
                seen = &p->m->image.mounts[k];
        for (size_t k = 0; k < p->m->image.mounts_count; k++)
            if (p->m->image.mounts[k].fs == f + 1 && !seen)
                return trouble(p, "what it mounted at %s is hidden by another mount", p->own->items[p->m->order[k]].place);
    }
    return 0;
}

void mounts_plan(const struct spaces *s, struct seen_mounts *m)
{
    size_t lines = m->table.count, count = 0;
    struct plan p = {.s = s, .m = m, .own = &m->table, .pod = &s->pod_mounts};
    AUTO_FREE size_t *with = xcalloc(lines + 1, sizeof *with), *number = xcalloc(lines + 1, sizeof *number);
    p.with = with, p.number = number;
    for (size_t k = 0; k < lines; k++)
        with[k] = number[k] = NONE;
    m->order = xcalloc(lines + 1, sizeof *m->order);
    order_below(&p, NONE, &count);
    for (size_t k = 0; k < count; k++)
        if (mount_plan(&p, m->order[k]) < 0)
            return;
    if (contents_check(&p) < 0)
        return;
    if (!count || count != lines)
        (void)trouble(&p, "mounts that stand on none");
}
