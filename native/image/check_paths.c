/* Paths of an image. All come from the kernel (links of /proc, maps), which gives them whole: absolute, without "." and
 * "..", through no symbolic link, and through no magic link of /proc. An image that says otherwise was made to lead a restore, which opens
 * some of them with more rights than the job has, to a place outside of the pod. See image.h (image_check). */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"

struct links {
    char **items;   /* whole paths of the symbolic links that captured trees hold, sorted */
    size_t count;
};

static int bad_path(struct err *e, const char *what, const char *path)
{
    return err_set(e, E_BAD_IMAGE, "%s: the path '%.200s' is none that the kernel gives", what, path);
}

/* ---- "." and ".." */
static bool is_plain(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const char *part = path + 1; *part;) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > 255 || (len <= 2 && strncmp(part, "..", len) == 0))
            return false;
        part += len;
        if (*part && !*++part)
            return false;
    }
    return true;
}

/* ---- /proc: self, thread-self, and what lies behind PID/root, cwd, exe, fd/N, map_files/N, ns/N */
static bool part_is(const char *part, const char *name)
{
    size_t len = strlen(name);
    return strncmp(part, name, len) == 0 && (part[len] == '/' || !part[len]);
}

static const char *part_next(const char *part)
{
    part += strcspn(part, "/");
    return *part ? part + 1 : part;
}

/* Where the magic link's name ends, NULL if there is none. `part` is what follows /proc/PID/. */
static const char *magic_end(const char *part)
{
    static const char *const links[] = {"root", "cwd", "exe"}, *const folders[] = {"fd", "map_files", "ns"};
    if (part_is(part, "task"))
        part = part_next(part_next(part));
    for (size_t i = 0; i < ARRAY_LENGTH(links); i++)
        if (part_is(part, links[i]))
            return part + strcspn(part, "/");
    for (size_t i = 0; i < ARRAY_LENGTH(folders); i++)
        if (part_is(part, folders[i]) && *part_next(part))
            return part_next(part) + strcspn(part_next(part), "/");
    return NULL;
}

static bool is_magic(const char *path, bool link_itself)
{
    static const char proc[] = "/proc/";
    if (strncmp(path, proc, strlen(proc)))
        return false;
    const char *process = path + strlen(proc), *end;
    if (part_is(process, "self") || part_is(process, "thread-self"))
        return true;
    end = process[0] >= '0' && process[0] <= '9' ? magic_end(part_next(process)) : NULL;
    return end && (*end || !link_itself);
}

/* ---- symbolic links of the captured trees */
static int path_compare(const void *a, const void *b)
{
    const char *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return strcmp(x, y);
}

static void tree_links(const struct tree *t, struct links *out)
{
    static const char *const places[][2] = {{"root", ""}, {"tmp", "/tmp"}, {"shm", "/dev/shm"}, {"run", "/run"}};
    const char *place = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
        if (strcmp(t->name, places[i][0]) == 0)
            place = places[i][1];
    for (size_t i = 0; place && i < t->entries_count; i++)
        if (S_ISLNK((mode_t)t->entries[i].mode))
            *(char **)list_add((void **)&out->items, &out->count, sizeof *out->items) = xasprintf("%s/%s", place, t->entries[i].path);
}

static bool is_link(const struct links *l, const char *path)
{
    return l->count && bsearch(&path, l->items, l->count, sizeof *l->items, path_compare);
}

static bool passes_link(const struct links *l, const char *path, bool link_itself)
{
    if (!l->count)
        return false;
    AUTO_FREE char *copy = xstrdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        bool found = is_link(l, copy);
        *slash = '/';
        if (found)
            return true;
    }
    return !link_itself && is_link(l, path);
}

/* ---- each path of the image */
static int path_check(const struct links *l, const char *path, bool link_itself, const char *what, struct err *e)
{
    if (is_plain(path) && !is_magic(path, link_itself) && !passes_link(l, path, link_itself))
        return 0;
    return bad_path(e, what, path);
}

static int optional_check(const struct links *l, const char *path, const char *what, struct err *e)
{
    return path && path[0] ? path_check(l, path, false, what, e) : 0;
}

/* The links of the pod are not those of another mount namespace. */
static int task_paths(const struct task *t, const struct links *pods, struct err *e)
{
    const struct links none = {0}, *l = t->mount_space ? &none : pods;
    for (size_t k = 0; k < t->threads_count; k++)
        if (optional_check(l, t->threads[k].cwd, "a thread's working directory", e) || optional_check(l, t->threads[k].root, "a thread's root directory", e))
            return -1;
    if (optional_check(l, t->cwd, "a working directory", e) || optional_check(l, t->root, "a root directory", e) ||
        optional_check(l, t->mm.exe, "a program", e))
        return -1;
    for (size_t i = 0; i < t->mm.vmas_count; i++)
        if (t->mm.vmas[i].kind == VMA_FILE && path_check(l, t->mm.vmas[i].path ? t->mm.vmas[i].path : "", false, "a mapped file", e))
            return -1;
    return 0;
}

static int file_path(const struct file *f, const struct links *pods, struct err *e)
{
    const struct links none = {0}, *l = f->mount_space ? &none : pods;
    switch (f->kind) {
    case FILE_REGULAR: case FILE_DIRECTORY: case FILE_PATH_ONLY: case FILE_PROC: /* a FIFO's path stands with its pipe */
        return f->path && f->path[0] ? path_check(l, f->path, f->flags & O_PATH && f->flags & O_NOFOLLOW, "an open file", e) : 0;
    default:
        return 0;
    }
}

static int memobj_path(const struct memobj *m, const struct links *l, struct err *e)
{
    return m->kind == MEMOBJ_UNLINKED ? optional_check(l, m->name, "an unlinked file", e) : 0;
}

static int other_paths(const struct image *in, const struct links *l, struct err *e)
{
    const struct links none = {0};
    for (size_t i = 0; i < in->hostfiles_count; i++)
        if (path_check(l, in->hostfiles[i].path ? in->hostfiles[i].path : "", false, "a file of the node", e))
            return -1;
    for (size_t i = 0; i < in->pipes_count; i++)
        if (optional_check(in->pipes[i].mount_space ? &none : l, in->pipes[i].path, "a FIFO", e))
            return -1;
    for (size_t i = 0; i < in->unix_sockets_count; i++)
        if (optional_check(l, in->unix_sockets[i].dir, "the directory of a Unix socket", e))
            return -1;
    return 0;
}

static int all_paths(const struct image *in, const struct links *l, struct err *e)
{
    for (size_t i = 0; i < in->tasks_count; i++)
        if (task_paths(&in->tasks[i], l, e))
            return -1;
    for (size_t i = 0; i < in->files_count; i++)
        if (file_path(&in->files[i], l, e))
            return -1;
    for (size_t i = 0; i < in->memobjs_count; i++)
        if (memobj_path(&in->memobjs[i], l, e))
            return -1;
    return other_paths(in, l, e);
}

int paths_check(const struct image *in, struct err *e)
{
    struct links l = {0};
    for (size_t i = 0; i < in->trees_count; i++)
        tree_links(&in->trees[i], &l);
    if (l.count)
        qsort(l.items, l.count, sizeof *l.items, path_compare);
    int result = all_paths(in, &l, e);
    for (size_t i = 0; i < l.count; i++)
        free(l.items[i]);
    free(l.items);
    return result;
}
