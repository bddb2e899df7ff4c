/* What a store knows to be damaged, and what it holds. See store.h. */
#include <fcntl.h>
#include "internal.h"
#include "store_io.h"

static int marker_write(struct store *s, const char *name, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/damaged", s->dir);
    if (store_io_mkdirs(path, e))
        return -1;
    AUTO_CLOSE int fd = openat(s->dirfd, "damaged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open damaged");
    return store_io_replace(fd, name, "", 0, e);
}

int store_forget_in(struct store *s, const struct digest *digest, const char *pack, struct err *e)
{
    char hex[65];
    digest_hex(digest, hex);
    AUTO_FREE char *name = xasprintf("%s-%s", hex, pack);
    return marker_write(s, name, e);
}

int store_forget(struct store *s, const struct digest *digest, struct err *e)
{
    int result = 0;
    char hex[65];
    digest_hex(digest, hex);
    pthread_mutex_lock(&s->mutex);
    struct place *p = place_wait(s, digest);
    if (p) {
        result = store_forget_in(s, digest, s->packs[p->pack].name, e);
        p->state = result ? p->state : PLACE_GONE;
    }
    pthread_mutex_unlock(&s->mutex);
    return result ? err_wrap(e, "store %s: forget chunk %s", s->dir, hex) : 0;
}

const char *store_damage(struct store *s, size_t number)
{
    for (size_t i = 0; i < s->pack_count; i++)
        if (s->packs[i].damage && number-- == 0)
            return s->packs[i].damage;
    return NULL;
}

void store_stat(struct store *s, struct store_stat *out)
{
    *out = (struct store_stat){.packs = s->pack_count};
    for (size_t i = 0; i < s->index.count; i++) {
        if (s->index.places[i].state == PLACE_GONE)
            continue;
        out->chunks++;
        out->stored_bytes += s->index.places[i].stored;
        out->raw_bytes += s->index.places[i].raw;
    }
}
