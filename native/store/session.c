/* Opening and closing a store, and the lock between processes: writing sessions share it, gc has it alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "crew.h"
#include "internal.h"
#include "store_io.h"

static int lock_take(int lockfd, int how, struct err *e)
{
    while (flock(lockfd, how) < 0)
        if (errno != EINTR)
            return err_errno(e, "flock");
    return 0;
}

int session_exclusive(int lockfd, uint64_t wait_ms, struct err *e)
{
    for (uint64_t waited_ms = 0; flock(lockfd, LOCK_EX | LOCK_NB) < 0; waited_ms += 20) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(e, "flock");
        if (waited_ms >= wait_ms)
            return err_set(e, E_BUSY, "somebody writes to it");
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return 0;
}

int session_begin(struct store *s, struct err *e)
{
    if (s->session)
        return 0;
    if (!s->shared && s->lockfd < 0)
        s->lockfd = openat(s->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!s->shared && s->lockfd < 0)
        return err_errno(e, "open its lock");
    if ((!s->shared && lock_take(s->lockfd, LOCK_SH, e)) || catalog_load(s, e))
        return -1;
    s->session = true;
    return 0;
}

static int folders_open(struct store *s, bool create, struct err *e)
{
    AUTO_FREE char *packs = xasprintf("%s/packs", s->dir);
    if (create && store_io_mkdirs(packs, e))
        return -1;
    s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->packsfd = s->dirfd < 0 ? -1 : openat(s->dirfd, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->shared = s->packsfd >= 0 && faccessat(s->dirfd, SHARED_MARK, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (s->shared) { /* who else writes there must not lead us to another store */
        close(s->packsfd);
        s->packsfd = openat(s->dirfd, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (s->packsfd >= 0)
        return 0;
    return errno == ENOENT ? err_set(e, E_NO_INPUT, "there is no store") : err_errno(e, "open");
}

int store_open(const char *dir, bool create, struct store **out, struct err *e)
{
    struct store *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(dir);
    crew_prepare();
    s->dirfd = s->packsfd = s->lockfd = s->part.fd = s->belt.fd = -1;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->progress, NULL);
    pthread_cond_init(&s->belt.wake, NULL);
    if (!folders_open(s, create, e) && !(create ? session_begin(s, e) : catalog_load(s, e))) {
        *out = s;
        return 0;
    }
    store_close(s);
    *out = NULL;
    return err_wrap(e, "store %s", dir);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    store_later_end(s);
    pthread_mutex_lock(&s->mutex);
    part_discard(s);
    pthread_mutex_unlock(&s->mutex);
    belt_free(s);
    catalog_free(s);
    scratch_free(s);
    cleanup_close(&s->packsfd);
    cleanup_close(&s->dirfd);
    cleanup_close(&s->lockfd);
    pthread_cond_destroy(&s->progress);
    pthread_mutex_destroy(&s->mutex);
    free(s->dir);
    free(s);
}
