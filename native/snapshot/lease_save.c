/* See lease_save.h. From the "lock:" lines of fdinfo: "lock:\t1: LEASE  ACTIVE    WRITE 1234 00:2c:99 0 EOF". */
#include "lease_save.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../image/tree.h"

#define PIECE_BYTES (1ul << 20)

static bool has_lease(const struct facts *f, const char *state)
{
    for (const char *at = strstr(f->fdinfo, ": LEASE "); at; at = strstr(at + 1, ": LEASE ")) {
        char words[2][16];
        if (sscanf(at, ": LEASE %15s %15s", words[0], words[1]) == 2 && (!strcmp(words[0], state) || !strcmp(words[1], state)))
            return true;
    }
    return false;
}

const char *lease_trouble(const struct view *v, const struct facts *f)
{
    if (!strstr(f->fdinfo, ": LEASE "))
        return NULL;
    if (view_is_outside(f))
        return "a lease (F_SETLEASE) on a file that no image carries";
    if (!has_lease(f, "WRITE"))
        return NULL;
    if (f->st.st_nlink == 0)
        return "a lease for writing (F_SETLEASE) on a file without a name";
    if (view_in_host_part(v, f))
        return "a lease for writing (F_SETLEASE) on a file of the node";
    return (f->flags & O_ACCMODE) == O_WRONLY && f->fs_type == TMPFS_MAGIC
               ? "a lease for writing (F_SETLEASE) on a file that its holder cannot read" : NULL;
}

/* ---- files that nobody may open */
/* Mapped, it would have to be opened for its mapping at a restore. */
static bool is_mapped(const struct snapshot *s, const char *path)
{
    for (size_t i = 0; i < s->image.tasks_count; i++)
        for (size_t k = 0; k < s->image.tasks[i].mm.vmas_count; k++) {
            const struct vma *m = &s->image.tasks[i].mm.vmas[k];
            if (m->kind == VMA_FILE && !strcmp(m->path, path))
                return true;
        }
    return false;
}

/* Everything that its holder can read of it, by places: nobody's offset moves. Zeros become holes. */
static int content_copy(int from, uint64_t size, int to, struct err *e)
{
    static const uint8_t zeros[4096];
    AUTO_FREE uint8_t *data = xcalloc(1, PIECE_BYTES);
    for (uint64_t at = 0; at < size; at += PIECE_BYTES) {
        size_t len = size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
        if (io_pread_all(from, data, len, at, e) < 0)
            return -1;
        for (size_t k = 0; k < len; k += sizeof zeros) {
            size_t n = len - k < sizeof zeros ? len - k : sizeof zeros;
            if (memcmp(data + k, zeros, n) && pwrite(to, data + k, n, (off_t)(at + k)) != (ssize_t)n)
                return err_errno(e, "copy of a file");
        }
    }
    return ftruncate(to, (off_t)size) < 0 ? err_errno(e, "copy of a file") : 0;
}

static int leased_add(struct saving *v, const struct source *src, struct err *e)
{
    const struct stat *st = &src->facts.st;
    int copy = memfd_create("leased", MFD_CLOEXEC);
    if (copy < 0)
        return err_errno(e, "memfd");
    *LIST_ADD(v->s, leased) = (struct stand_in){st->st_dev, st->st_ino, copy};
    return content_copy(src->fd, (uint64_t)st->st_size, copy, e);
}

static int source_look(struct saving *v, const struct source *src, struct err *e)
{
    const char *trouble = lease_trouble(&v->view, &src->facts);
    if (trouble)
        return source_refuse(v, src, e, "%s", trouble);
    if (has_lease(&src->facts, "BREAKING"))
        return source_busy(v, src, e, "a lease (F_SETLEASE) that is being taken back");
    if (!has_lease(&src->facts, "WRITE"))
        return 0;
    if (is_mapped(v->s, src->facts.link))
        return source_refuse(v, src, e, "a lease for writing (F_SETLEASE) on a file that is mapped");
    return src->facts.fs_type == TMPFS_MAGIC ? leased_add(v, src, e) : 0; /* overlayfs keeps its own: the layer below has none */
}

int leases_look(struct saving *v, struct err *e)
{
    leases_free(v->s);
    for (size_t i = 0; i < v->sources_count; i++)
        if (v->sources[i].facts.fdinfo && source_look(v, &v->sources[i], e) < 0)
            return -1;
    return 0;
}

bool lease_is_anothers(const struct saving *v, const struct slot *slot, int holder_pid)
{
    if (v->s->victims[slot->victim].leader == holder_pid)
        return false;
    for (size_t i = 0; i < v->slots_count; i++)
        if (v->slots[i].source == slot->source && v->s->victims[v->slots[i].victim].leader == holder_pid)
            return true;
    return false;
}

void leases_free(struct snapshot *s)
{
    for (size_t i = 0; i < s->leased_count; i++)
        close(s->leased[i].fd);
    free(s->leased);
    s->leased = NULL;
    s->leased_count = 0;
}
