/* See copy_first.h. What the room does not hold is put within the pause, as if there were none. */
#include "copy_first.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../kernel/procfs.h"
#include "track.h"

#define ROOM_MAX_BYTES (4ul << 30)

uint64_t memory_available_bytes(void)
{
    AUTO_BUF struct buf text = {0};
    struct err ignored;
    if (io_slurpf(&text, 65536, &ignored, "/proc/meminfo") < 0)
        return 0;
    const char *line = strstr((char *)text.data, "MemAvailable:");
    return line ? strtoul(line + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;
}

static uint64_t trees_bytes(const struct pod *pod)
{
    uint64_t bytes = 0;
    for (const char *const *name = pod_tree_names; *name; name++) {
        struct err none;
        struct statfs at;
        AUTO_CLOSE int dir = pod_tree_open(pod, *name, &none);
        if (dir >= 0 && fstatfs(dir, &at) == 0 && at.f_type == TMPFS_MAGIC)
            bytes += (at.f_blocks - at.f_bfree) * (uint64_t)at.f_bsize;
    }
    return bytes;
}

/* The most that one process maps: most segments are mapped by all of a job's. */
static uint64_t mapped_bytes(const struct pod *pod, struct err *e)
{
    AUTO_FREE pid_t *pids = NULL;
    size_t count;
    uint64_t most = 0;
    if (pod_pids(pod, &pids, &count, e) < 0)
        return 0;
    for (size_t k = 0; k < count; k++) {
        PROC_STATUS struct proc_status s = {0};
        struct err gone;
        if (proc_status_read(pids[k], pids[k], &s, &gone) == 0 && (s.rss_shmem_kib + s.hugetlb_kib) * 1024 > most)
            most = (s.rss_shmem_kib + s.hugetlb_kib) * 1024;
    }
    return most;
}

int copy_first_prepare(struct snapshot *s, struct err *e)
{
    struct err none;
    uint64_t room = memory_available_bytes() / 4;
    s->copy_bytes = trees_bytes(s->pod) + mapped_bytes(s->pod, &none);
    if (s->tracks)
        s->copy_bytes += tracks_expected_bytes(s->tracks, &s->image.parent);
    return store_later_begin(s->store, room < ROOM_MAX_BYTES ? room : ROOM_MAX_BYTES, s->copy_bytes, e);
}

/* ---- what was only copied in the pause */
struct tokens {
    struct digest **digests;
    uint64_t *lens;
    size_t count;
};

static int token_note(void *ctx, const struct digest *digest, uint64_t len, struct err *e)
{
    struct tokens *t = ctx;
    (void)e;
    if (!store_later_is(digest))
        return 0;
    if ((t->count & (t->count - 1)) == 0) {
        t->digests = xrealloc(t->digests, t->count ? 2 * t->count : 1, sizeof *t->digests);
        t->lens = xrealloc(t->lens, t->count ? 2 * t->count : 1, sizeof *t->lens);
    }
    t->digests[t->count] = (struct digest *)(uintptr_t)digest;
    t->lens[t->count++] = len;
    return 0;
}

int copy_first_put(struct snapshot *s, struct err *e)
{
    struct tokens tokens = {0};
    int result = image_each_chunk(&s->image, token_note, &tokens, e);
    if (result == 0)
        result = store_later_put(s->store, tokens.digests, tokens.lens, tokens.count, &s->image.new_bytes, e);
    free(tokens.digests);
    free(tokens.lens);
    store_later_end(s->store);
    return result;
}
