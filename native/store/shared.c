/* A store on a directory that several nodes share: no lock, because not every file server has them for all. Writers only add packs of names of their
 * own. Who names an image touches the packs that it relies on, publishes the manifest and touches them once more; who sweeps moves a pack to trash/,
 * and only then looks once more at its time and at the manifests: of two who meet, one sees the other, however long either stood still between. A sweep that was killed leaves packs in trash/, which the next
 * one brings back or removes; two at once do the same work twice. Times are the file server's, so that clocks of nodes do not matter. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gc.h"
#include "pack.h"
#include "store_io.h"

#define REWRITE_MAX (1ul << 30)

/* ---- who names an image */
int store_rely(struct store *s, const struct digest *digest, uint64_t len, struct err *e)
{
    char hex[65];
    if (digest_is_zero(digest))
        return 0;
    pthread_mutex_lock(&s->mutex);
    struct place *p = place_wait(s, digest);
    bool there = p && p->raw == len;
    if (there)
        s->packs[p->pack].relied_on = true;
    pthread_mutex_unlock(&s->mutex);
    if (there)
        return 0;
    digest_hex(digest, hex);
    return err_set(e, E_BAD_IMAGE, "chunk %s of %lu bytes is not in the store", hex, len);
}

int store_pin(struct store *s, struct err *e)
{
    for (size_t i = 0; s->shared && i < s->pack_count; i++) {
        if (!s->packs[i].relied_on || !store_io_touch(s->packsfd, s->packs[i].name, e))
            continue;
        return e->code == E_NO_INPUT ? err_set(e, E_BUSY, "pack %s is being swept just now: put its chunks again", s->packs[i].name) : -1;
    }
    return 0;
}

/* ---- the sweep */
struct sweep {
    struct store *store;
    const char *images_dir;
    int trashfd;
    uint64_t young_since_ns, rewritten;
    bool dry_run, full;
    struct marks marks;
    struct rewrite rewrite;
    struct gc_result *out;
};
struct names {
    char (*list)[PACK_NAME_BYTES];
    size_t count;
};

static bool ends_with(const char *name, const char *ending)
{
    size_t len = strlen(name), n = strlen(ending);
    return len > n && len < PACK_NAME_BYTES && strcmp(name + len - n, ending) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(b, a);
}

/* Names of a folder that end so, the newest first. */
static int names_read(int folderfd, const char *ending, struct names *out, struct err *e)
{
    int fd = openat(folderfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    *out = (struct names){0};
    if (!dir)
        return err_errno(e, "open its folders");
    while (errno = 0, (entry = readdir(dir)))
        if (ends_with(entry->d_name, ending))
            memcpy(list_add((void **)&out->list, &out->count, sizeof *out->list), entry->d_name, strlen(entry->d_name) + 1);
    if (!errno && out->count)
        qsort(out->list, out->count, sizeof *out->list, by_name);
    return errno ? err_errno(e, "read its folders") : 0;
}

static uint64_t touched_ns(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

/* By the server's clock, which stamps what is touched. */
static int server_now(struct sweep *g, uint64_t *now_ns, struct err *e)
{
    char name[PACK_NAME_BYTES];
    struct stat st;
    AUTO_CLOSE int fd = -1;
    pack_name_new(name, "now");
    if (store_io_create(g->store->packsfd, name, &fd, e))
        return -1;
    int result = futimens(fd, NULL) < 0 || fstat(fd, &st) < 0 ? err_errno(e, "ask the file server's time") : 0;
    *now_ns = result ? 0 : touched_ns(&st);
    return store_io_unlink(g->store->packsfd, name, e) ? -1 : result;
}

static int trash_open(struct sweep *g, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/trash", g->store->dir);
    if (store_io_mkdirs(path, e))
        return -1;
    g->trashfd = openat(g->store->dirfd, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return g->trashfd < 0 ? err_errno(e, "open its trash") : 0;
}

static bool is_young(const struct sweep *g, const struct stat *st)
{
    return touched_ns(st) > g->young_since_ns;
}

/* A pack of a folder: its entries, NULL with count 0 if it cannot be read as one. fd -1: it is gone, or no file, which is no error. */
struct look {
    const char *name;
    int fd;
    bool young, damaged;
    struct place *places;
    size_t count;
    uint64_t bytes;
};

static int look_open(const struct sweep *g, int folderfd, const char *name, struct look *l, struct err *e)
{
    struct stat st;
    struct err why = {0};
    *l = (struct look){.name = name};
    l->fd = openat(folderfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (l->fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : err_errno(e, "open %s", name);
    if (fstat(l->fd, &st) < 0)
        return err_errno(e, "stat %s", name);
    if (!S_ISREG(st.st_mode)) { /* nothing of ours: left alone */
        cleanup_close(&l->fd);
        l->fd = -1;
        return 0;
    }
    l->young = is_young(g, &st);
    if (!pack_read(l->fd, &l->places, &l->count, &l->bytes, &why))
        return 0;
    l->damaged = why.code == E_BAD_IMAGE;
    *e = why;
    return l->damaged ? 0 : -1;
}

static void look_close(struct look *l)
{
    cleanup_close(&l->fd);
    free(l->places);
}

static int trash_put(struct sweep *g, const struct look *l, struct err *e)
{
    g->out->removed_chunks += l->count;
    g->out->removed_bytes += l->bytes;
    if (g->dry_run || !store_io_move(g->store->packsfd, g->trashfd, l->name, e) || e->code == E_NO_INPUT)
        return 0;
    return -1;
}

/* What is copied out of a wasteful pack makes that pack one that nobody needs: the newer name is the holder. */
static int pack_thin_out(struct sweep *g, struct look *l, const bool *keep, uint64_t live_bytes, struct err *e)
{
    struct pack source = {0};
    g->rewritten += live_bytes;
    if (g->dry_run || !rewrite_add(&g->rewrite, &source, l->fd, l->places, l->count, keep, e))
        return 0;
    g->full = e->code == E_NO_SPACE;
    return g->full || e->code == E_BAD_IMAGE ? 0 : -1;
}

static int pack_sweep(struct sweep *g, struct look *l, struct err *e)
{
    AUTO_FREE bool *keep = xcalloc(l->count + 1, sizeof *keep);
    size_t live = 0;
    uint64_t live_bytes = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct place *wanted = index_find(&g->marks.index, &l->places[i].digest);
        keep[i] = wanted && wanted->state == PLACE_PENDING;
        if (!keep[i])
            continue;
        wanted->state = PLACE_READY;
        live++;
        live_bytes += l->places[i].stored;
    }
    if (!live && !l->young)
        return trash_put(g, l, e);
    g->out->kept_chunks += l->young ? l->count : live;
    if (l->young || live_bytes >= l->bytes / 2 || g->full || g->rewritten + live_bytes > REWRITE_MAX)
        return 0;
    return pack_thin_out(g, l, keep, live_bytes, e);
}

static int packs_sweep(struct sweep *g, struct err *e)
{
    struct names names;
    int result = names_read(g->store->packsfd, ".pack", &names, e);
    for (size_t i = 0; i < names.count && !result; i++) {
        struct look l;
        result = look_open(g, g->store->packsfd, names.list[i], &l, e);
        if (!result && l.fd >= 0 && (!l.damaged || !l.young))
            result = l.damaged ? trash_put(g, &l, e) : pack_sweep(g, &l, e);
        g->out->packs += l.fd >= 0;
        look_close(&l);
    }
    free(names.list);
    return result;
}

/* The new pack is there before anything of the old ones goes, with a later sweep. */
static int rewrite_finish(struct sweep *g, struct err *e)
{
    free(g->rewrite.sources);
    g->rewrite.sources = NULL;
    g->rewrite.source_count = 0;
    return rewrite_end(&g->rewrite, e) && e->code != E_NO_SPACE ? -1 : 0;
}

/* Packs that nobody finished: old ones are of writers that died. */
static int parts_sweep(struct sweep *g, const char *ending, struct err *e)
{
    struct names names;
    struct stat st;
    int result = names_read(g->store->packsfd, ending, &names, e);
    for (size_t i = 0; i < names.count && !result; i++)
        if (fstatat(g->store->packsfd, names.list[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !is_young(g, &st) && !g->dry_run)
            result = store_io_unlink(g->store->packsfd, names.list[i], e);
    free(names.list);
    return result;
}

/* ---- the second look, at what lies in the trash: by now, or from a sweep that was killed */
static bool is_needed(const struct look *l, const struct marks *marks, struct store *now)
{
    for (size_t i = 0; i < l->count; i++)
        if (index_find(&marks->index, &l->places[i].digest) && !store_has(now, &l->places[i].digest))
            return true;
    return false;
}

static int trash_settle(struct sweep *g, const char *name, const struct marks *marks, struct store *now, struct err *e)
{
    struct look l;
    int result = look_open(g, g->trashfd, name, &l, e);
    if (!result && l.fd >= 0 && (l.young || is_needed(&l, marks, now)))
        result = store_io_move(g->trashfd, g->store->packsfd, name, e) && e->code != E_NO_INPUT ? -1 : 0;
    else if (!result && l.fd >= 0)
        result = store_io_unlink(g->trashfd, name, e);
    look_close(&l);
    return result;
}

/* Listed first, so that every manifest read afterwards is newer than the moves. */
static int trash_empty(struct sweep *g, struct err *e)
{
    struct names names;
    struct marks marks = {0};
    struct store *now = NULL;
    int result = names_read(g->trashfd, ".pack", &names, e);
    if (!result && names.count)
        result = marks_collect(&marks, g->images_dir, e) || store_open(g->store->dir, false, &now, e) ? -1 : 0;
    for (size_t i = 0; i < names.count && !result; i++)
        result = trash_settle(g, names.list[i], &marks, now, e);
    free(names.list);
    index_free(&marks.index);
    store_close(now);
    return result;
}

static int sweep_run(struct sweep *g, uint64_t min_age_s, struct err *e)
{
    uint64_t now_ns = 0, age_ns = min_age_s < UINT64_MAX / 1000000000u ? min_age_s * 1000000000u : UINT64_MAX;
    if (server_now(g, &now_ns, e) || trash_open(g, e))
        return -1;
    g->young_since_ns = min_age_s == 0 ? UINT64_MAX : now_ns > age_ns ? now_ns - age_ns : 0;
    if (marks_collect(&g->marks, g->images_dir, e) || packs_sweep(g, e) || rewrite_finish(g, e))
        return -1;
    if (g->dry_run)
        return 0;
    return parts_sweep(g, ".part", e) || parts_sweep(g, ".now", e) || trash_empty(g, e) ? -1 : store_io_sync(g->store->packsfd, "packs", e);
}

int store_gc_shared(const char *dir, const char *images_dir, uint64_t min_age_s, bool dry_run, struct gc_result *out, struct err *e)
{
    struct sweep g = {.images_dir = images_dir, .trashfd = -1, .dry_run = dry_run, .out = out};
    *out = (struct gc_result){0};
    if (store_open(dir, false, &g.store, e))
        return -1;
    g.rewrite = (struct rewrite){.store = g.store, .fd = -1};
    int result = g.store->shared ? sweep_run(&g, min_age_s, e) : err_set(e, E_CONFLICT, "it is no store that nodes share");
    rewrite_abandon(&g.rewrite);
    index_free(&g.marks.index);
    cleanup_close(&g.trashfd);
    store_close(g.store);
    return result ? err_wrap(e, "store %s: gc", dir) : 0;
}
