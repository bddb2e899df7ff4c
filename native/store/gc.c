/* Mark and sweep. See store.h and gc.h. A pack is kept as it is while it is young or nearly all alive, removed when
 * nothing in it is wanted, and rewritten otherwise; many small packs become one. Rewriting stops at a full disk and
 * at REWRITE_MAX bytes: writers wait meanwhile, the rest can wait for the next sweep. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gc.h"
#include "pack.h"
#include "store_io.h"

#define LOCK_WAIT_MS 10000u
#define REWRITE_MAX (1ul << 30)
#define NEW_PACK_BYTES (256ul << 20)
#define SMALL_PACK_BYTES (1ul << 20)
#define SMALL_PACKS 32

struct sweep {
    struct store *store;
    struct marks marks;
    uint64_t young_since_s;
    bool dry_run, merge_small, full;
    uint64_t rewritten;
    struct rewrite rewrite;
    struct gc_result *out;
};

/* One pack as the sweep sees it. */
struct look {
    struct pack *pack;
    int fd;
    bool young;
    uint64_t file_bytes, live_bytes;
    struct place *places;
    size_t count, live;
    bool *keep;
};

/* Wanted, whole as far as is known, and not kept in another pack already. */
static int look_choose(struct sweep *g, struct look *l, struct err *e)
{
    struct index forgotten = {0};
    int result = catalog_forgotten(g->store, l->pack->name, &forgotten, e);
    for (size_t i = 0; i < l->count && !result; i++) {
        struct place *wanted = index_find(&g->marks.index, &l->places[i].digest);
        l->keep[i] = wanted && wanted->state == PLACE_PENDING && !index_find(&forgotten, &l->places[i].digest);
        if (!l->keep[i])
            continue;
        wanted->state = PLACE_READY;
        l->live++;
        l->live_bytes += l->places[i].stored;
    }
    index_free(&forgotten);
    return result;
}

static int look_open(struct sweep *g, struct pack *pack, struct look *l, struct err *e)
{
    struct stat st;
    *l = (struct look){.pack = pack};
    l->fd = openat(g->store->packsfd, pack->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (l->fd < 0 || fstat(l->fd, &st) < 0)
        return err_errno(e, "open %s", pack->name);
    l->young = (uint64_t)st.st_mtim.tv_sec > g->young_since_s;
    if (pack_read(l->fd, &l->places, &l->count, &l->file_bytes, e))
        return err_wrap(e, "%s", pack->name);
    l->keep = xcalloc(l->count, sizeof *l->keep);
    return 0;
}

static void look_close(struct look *l)
{
    cleanup_close(&l->fd);
    free(l->places);
    free(l->keep);
}

static int pack_remove(struct sweep *g, struct look *l, struct err *e)
{
    g->out->removed_chunks += l->count;
    g->out->removed_bytes += l->file_bytes;
    return g->dry_run ? 0 : store_io_unlink(g->store->packsfd, l->pack->name, e);
}

static bool worth_rewriting(const struct sweep *g, const struct look *l)
{
    bool wasteful = l->live_bytes < l->file_bytes / 4 * 3, small = g->merge_small && l->file_bytes < SMALL_PACK_BYTES;
    return (wasteful || small) && !g->full && g->rewritten + l->live_bytes <= REWRITE_MAX;
}

static int rewrite_finish(struct sweep *g, struct err *e)
{
    if (!rewrite_end(&g->rewrite, e))
        return 0;
    g->full = e->code == E_NO_SPACE;
    return g->full ? 0 : -1;
}

/* A full disk or a damaged chunk leaves the pack as it is. */
static int pack_rewrite(struct sweep *g, struct look *l, struct err *e)
{
    if (!g->dry_run && rewrite_add(&g->rewrite, l->pack, l->fd, l->places, l->count, l->keep, e)) {
        g->full = g->full || e->code == E_NO_SPACE;
        g->out->kept_chunks += l->count;
        return e->code == E_NO_SPACE || e->code == E_BAD_IMAGE ? 0 : -1;
    }
    g->rewritten += l->live_bytes;
    g->out->kept_chunks += l->live;
    g->out->removed_chunks += l->count - l->live;
    g->out->removed_bytes += l->file_bytes - l->live_bytes;
    return g->rewrite.bytes < NEW_PACK_BYTES ? 0 : rewrite_finish(g, e);
}

static int pack_sweep(struct sweep *g, struct pack *pack, bool young, struct err *e)
{
    struct look l;
    int result = look_open(g, pack, &l, e);
    if (!result && l.young == young) {
        result = look_choose(g, &l, e);
        if (result || young)
            g->out->kept_chunks += l.count;
        else if (!l.live)
            result = pack_remove(g, &l, e);
        else if (worth_rewriting(g, &l))
            result = pack_rewrite(g, &l, e);
        else
            g->out->kept_chunks += l.count;
    }
    look_close(&l);
    return result;
}

/* What no program can read any more only takes room; a pack of a newer version is not that. */
static int damaged_pack_sweep(struct sweep *g, struct pack *pack, struct err *e)
{
    AUTO_CLOSE int fd = openat(g->store->packsfd, pack->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct look l = {.pack = pack, .fd = fd};
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "open %s", pack->name);
    struct err why = {0};
    int readable = pack_read(fd, &l.places, &l.count, &l.file_bytes, &why);
    free(l.places);
    if (readable == 0 || why.code != E_BAD_IMAGE || (uint64_t)st.st_mtim.tv_sec > g->young_since_s)
        return 0;
    l.count = 0;
    return pack_remove(g, &l, e);
}

static int packs_sweep(struct sweep *g, struct err *e)
{
    struct store *s = g->store;
    size_t small = 0;
    for (size_t i = 0; i < s->pack_count; i++)
        small += s->packs[i].bytes < SMALL_PACK_BYTES;
    g->merge_small = small >= SMALL_PACKS;
    /* young packs first: what they hold need not be kept twice */
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < s->pack_count; i++)
            if (!s->packs[i].damage && pack_sweep(g, &s->packs[i], round == 0, e))
                return -1;
    for (size_t i = 0; i < s->pack_count; i++)
        if (s->packs[i].damage && damaged_pack_sweep(g, &s->packs[i], e))
            return -1;
    return rewrite_finish(g, e);
}

static bool ends_with(const char *name, const char *ending)
{
    size_t len = strlen(name), n = strlen(ending);
    return len > n && strcmp(name + len - n, ending) == 0;
}

/* Uncommitted packs and temporary names: their writers are dead, or we had not the lock. Markers of removed packs. */
static bool is_leftover(struct sweep *g, const char *folder, const char *name)
{
    if (strcmp(folder, "packs") == 0)
        return ends_with(name, ".part");
    if (ends_with(name, ".tmp"))
        return true;
    const char *pack = strlen(name) > 65 ? name + 65 : NULL;
    return pack && ends_with(name, ".pack") && faccessat(g->store->packsfd, pack, F_OK, 0) < 0 && errno == ENOENT;
}

static int leftovers_sweep(struct sweep *g, const char *folder, struct err *e)
{
    int fd = openat(g->store->dirfd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open %s", folder);
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)))
        if (is_leftover(g, folder, entry->d_name) && !g->dry_run && store_io_unlink(dirfd(dir), entry->d_name, e))
            return -1;
    return errno ? err_errno(e, "read %s", folder) : 0;
}

static int packs_count(struct sweep *g, struct err *e)
{
    int fd = openat(g->store->packsfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open packs");
    struct dirent *entry;
    while ((entry = readdir(dir)))
        g->out->packs += ends_with(entry->d_name, ".pack");
    return 0;
}

static int sweep_run(struct sweep *g, const char *images_dir, struct err *e)
{
    if (session_exclusive(g->store->lockfd, LOCK_WAIT_MS, e) || catalog_load(g->store, e) ||
        marks_collect(&g->marks, images_dir, e) || leftovers_sweep(g, "packs", e) || packs_sweep(g, e) ||
        leftovers_sweep(g, "damaged", e) || packs_count(g, e))
        return -1;
    return g->dry_run ? 0 : store_io_sync(g->store->packsfd, "packs", e);
}

int store_gc(const char *dir, const char *images_dir, uint64_t min_age_s, bool dry_run, struct gc_result *out, struct err *e)
{
    struct sweep g = {.dry_run = dry_run, .out = out};
    uint64_t now_s = clock_ns(CLOCK_REALTIME) / 1000000000u;
    *out = (struct gc_result){0};
    g.young_since_s = min_age_s == 0 ? UINT64_MAX : now_s > min_age_s ? now_s - min_age_s : 0;
    if (store_open(dir, false, &g.store, e))
        return -1;
    if (g.store->shared) {
        store_close(g.store);
        return store_gc_shared(dir, images_dir, min_age_s, dry_run, out, e);
    }
    g.rewrite = (struct rewrite){.store = g.store, .fd = -1};
    g.store->lockfd = openat(g.store->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int result = g.store->lockfd < 0 ? err_errno(e, "open its lock") : sweep_run(&g, images_dir, e);
    rewrite_abandon(&g.rewrite);
    index_free(&g.marks.index);
    store_close(g.store);
    return result ? err_wrap(e, "store %s: gc", dir) : 0;
}
