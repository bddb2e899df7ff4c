/* The committed packs of a store and the index over them. See internal.h. A pack that cannot be read is kept in the
 * list with its damage, and its chunks are not there. Packs may come and go (gc) while the folder is read. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "pack.h"

void pack_name_new(char out[PACK_NAME_BYTES], const char *ending)
{
    uint64_t random;
    CHECK(getrandom(&random, sizeof random, 0) == (ssize_t)sizeof random);
    snprintf(out, PACK_NAME_BYTES, "%016lx-%016lx.%s", clock_ns(CLOCK_REALTIME), random, ending);
}

uint32_t catalog_add(struct store *s, const char *name, int fd)
{
    struct pack *p = list_add((void **)&s->packs, &s->pack_count, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->fd = fd;
    s->open_count += fd >= 0;
    return (uint32_t)(s->pack_count - 1);
}

static struct pack *pack_find(struct store *s, const char *name)
{
    for (size_t i = 0; i < s->pack_count; i++)
        if (strcmp(s->packs[i].name, name) == 0)
            return &s->packs[i];
    return NULL;
}

int catalog_forgotten(const struct store *s, const char *pack, struct index *out, struct err *e)
{
    int fd = openat(s->dirfd, "damaged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open damaged");
    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        struct place p = {.state = PLACE_READY};
        struct err no_marker;
        char *name = entry->d_name;
        if (strlen(name) <= 65 || name[64] != '-' || strcmp(name + 65, pack) != 0)
            continue;
        name[64] = 0;
        if (!digest_parse(name, &p.digest, &no_marker))
            index_add(out, &p);
    }
    return errno ? err_errno(e, "read damaged") : 0;
}

static int places_take(struct store *s, const struct place *places, size_t count, uint32_t pack, struct err *e)
{
    struct index forgotten = {0};
    int result = catalog_forgotten(s, s->packs[pack].name, &forgotten, e);
    index_reserve(&s->index, count);
    for (size_t i = 0; i < count && !result; i++) {
        struct place p = places[i];
        p.pack = pack;
        if (!index_find(&forgotten, &p.digest))
            index_add(&s->index, &p);
    }
    index_free(&forgotten);
    return result;
}

/* *gone: gc took it away between the look at the folder and now. */
static int pack_load(struct store *s, const char *name, bool *gone, struct err *e)
{
    AUTO_CLOSE int fd = openat(s->packsfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        *gone = true;
        return 0;
    }
    if (fd < 0)
        return errno == ELOOP ? 0 : err_errno(e, "open %s", name); /* a link is nothing of ours */
    AUTO_FREE struct place *places = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    struct err why = {0};
    int result = pack_read(fd, &places, &count, &bytes, &why);
    uint32_t number = catalog_add(s, name, -1);
    s->packs[number].bytes = bytes;
    if (result)
        s->packs[number].damage = xasprintf("%s: %s", name, why.message);
    return result ? 0 : places_take(s, places, count, number, e);
}

static bool is_pack(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && len < PACK_NAME_BYTES && strcmp(name + len - 5, ".pack") == 0;
}

static int catalog_scan(struct store *s, bool *gone, struct err *e)
{
    int fd = openat(s->packsfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_errno(e, "open packs");
    *gone = false;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry)
            return errno ? err_errno(e, "read packs") : 0;
        if (is_pack(entry->d_name) && !pack_find(s, entry->d_name) && pack_load(s, entry->d_name, gone, e))
            return -1;
    }
}

int catalog_load(struct store *s, struct err *e)
{
    bool gone = true;
    for (int round = 0; gone && round < 100; round++)
        if (catalog_scan(s, &gone, e))
            return -1;
    return gone ? err_set(e, E_BUSY, "packs change all the time") : 0;
}

int catalog_fd(struct store *s, uint32_t number, bool *temporary, struct err *e)
{
    struct pack *p = &s->packs[number];
    *temporary = false;
    if (p->fd >= 0)
        return p->fd;
    int fd = openat(s->packsfd, p->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, E_NO_INPUT, "pack %s is gone", p->name);
    if (fd < 0)
        return err_errno(e, "open pack %s", p->name);
    *temporary = s->open_count >= PACK_OPEN_MAX;
    if (!*temporary) {
        p->fd = fd;
        s->open_count++;
    }
    return fd;
}

void catalog_free(struct store *s)
{
    for (size_t i = 0; i < s->pack_count; i++) {
        cleanup_close(&s->packs[i].fd);
        free(s->packs[i].damage);
    }
    free(s->packs);
    index_free(&s->index);
}
