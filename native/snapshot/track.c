/* See track.h. */
#include "track.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../pod/state.h"
#include "sample.h"

#define EPOCHS_MAX 16
#define TRACKS_MAX 4096
#define RANGES_MAX (1ul << 22)
#define FDS_PER_MESSAGE 200
#define WATCH_MIN_KIB 1024u /* smaller ones are copied as a whole */
#define IDLE_GENERATIONS 8
#define REST_FORMAT 3ul /* an engine of another version forgets */
#define UNKNOWN_COUNT (RANGES_MAX + 1)

/* ---- lists */
static void track_free(struct track *t)
{
    for (size_t k = 0; k < t->epoch_count; k++)
        page_ranges_free(&t->epochs[k].written);
    free(t->epochs);
    page_ranges_free(&t->sample);
    if (t->uffd >= 0)
        close(t->uffd);
}

static struct track *track_of(const struct tracks *t, pid_t pid)
{
    for (size_t k = 0; k < t->count; k++)
        if (t->items[k].pid == pid)
            return &t->items[k];
    return NULL;
}

const struct track *tracks_of(const struct tracks *t, pid_t pid)
{
    return track_of(t, pid);
}

static struct epoch *epoch_begin(struct track *t)
{
    if (t->epoch_count == EPOCHS_MAX) {
        page_ranges_free(&t->epochs[0].written);
        memmove(t->epochs, t->epochs + 1, (EPOCHS_MAX - 1) * sizeof *t->epochs);
        t->epoch_count--;
    }
    t->epochs = xrealloc(t->epochs, EPOCHS_MAX, sizeof *t->epochs);
    t->epochs[t->epoch_count] = (struct epoch){0};
    return &t->epochs[t->epoch_count++];
}

/* ---- at rest: one memfd of numbers and the descriptors, in messages of some hundred */
struct rest {
    struct buf bytes;
    size_t at;
    bool broken;
};

static void rest_put(struct rest *r, const void *data, size_t len)
{
    buf_add(&r->bytes, data, len);
}

static void rest_get(struct rest *r, void *data, size_t len)
{
    r->broken = r->broken || len > r->bytes.len - r->at;
    if (r->broken) {
        memset(data, 0, len);
        return;
    }
    memcpy(data, r->bytes.data + r->at, len);
    r->at += len;
}

static uint64_t rest_number(struct rest *r, uint64_t max)
{
    uint64_t n;
    rest_get(r, &n, sizeof n);
    r->broken = r->broken || n > max;
    return r->broken ? 0 : n;
}

static void rest_ranges(struct rest *r, uint64_t count, struct page_ranges *out)
{
    for (uint64_t n = 0; n < count && !r->broken; n++) {
        struct page_range range;
        rest_get(r, &range, sizeof range);
        page_ranges_add(out, range.start, range.end);
    }
}

static void track_write(const struct track *t, struct rest *r)
{
    uint64_t head[6] = {(uint64_t)t->pid, t->start_time, t->armed, t->idle, t->epoch_count, t->sample.count};
    rest_put(r, head, sizeof head);
    if (t->sample.count)
        rest_put(r, t->sample.items, t->sample.count * sizeof *t->sample.items);
    for (size_t k = 0; k < t->epoch_count; k++) {
        const struct epoch *p = &t->epochs[k];
        uint64_t count = p->unknown ? UNKNOWN_COUNT : p->written.count;
        rest_put(r, &p->image, sizeof p->image);
        rest_put(r, &count, sizeof count);
        if (count && !p->unknown)
            rest_put(r, p->written.items, count * sizeof *p->written.items);
    }
}

static void track_read(struct track *t, struct rest *r)
{
    *t = (struct track){.uffd = -1};
    t->pid = (pid_t)rest_number(r, INT32_MAX);
    t->start_time = rest_number(r, UINT64_MAX);
    t->armed = rest_number(r, 1);
    t->idle = (unsigned)rest_number(r, IDLE_GENERATIONS);
    uint64_t epochs = rest_number(r, EPOCHS_MAX);
    rest_ranges(r, rest_number(r, RANGES_MAX), &t->sample);
    for (uint64_t k = 0; k < epochs && !r->broken; k++) {
        struct epoch *p = epoch_begin(t);
        rest_get(r, &p->image, sizeof p->image);
        uint64_t count = rest_number(r, UNKNOWN_COUNT);
        p->unknown = count == UNKNOWN_COUNT;
        count = p->unknown ? 0 : count;
        rest_ranges(r, count, &p->written);
    }
}

static bool fds_send(int socket, const int *fds, size_t count)
{
    char control[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))] = {0};
    struct iovec word = {(char[]){'t'}, 1};
    struct msghdr m = {.msg_iov = &word, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    return sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* Everything that rests in the socket; the number of descriptors. */
static size_t fds_receive(int socket, int *fds, size_t max)
{
    size_t count = 0;
    for (;;) {
        char control[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))], byte;
        struct iovec word = {&byte, 1};
        struct msghdr m = {.msg_iov = &word, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
            return count;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t k = 0; k < n; k++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + k * sizeof fd, sizeof fd);
                if (count < max)
                    fds[count++] = fd;
                else
                    close(fd);
            }
        }
    }
}

static bool rest_load(int fd, struct rest *r)
{
    struct err ignored;
    off_t len = lseek(fd, 0, SEEK_END);
    if (len <= 0)
        return false;
    r->bytes.data = xcalloc(1, (size_t)len);
    r->bytes.len = r->bytes.cap = (size_t)len;
    return io_pread_all(fd, r->bytes.data, (size_t)len, 0, &ignored) == 0;
}

static void tracks_take(struct tracks *t)
{
    AUTO_FREE int *fds = xcalloc(TRACKS_MAX + 1, sizeof *fds);
    struct rest r = {0};
    size_t count = fds_receive(t->in, fds, TRACKS_MAX + 1);
    if (!count)
        return;
    bool whole = rest_load(fds[0], &r);
    whole = whole && rest_number(&r, REST_FORMAT) == REST_FORMAT;
    size_t tracks = whole ? rest_number(&r, TRACKS_MAX) : 0;
    whole = whole && tracks + 1 == count;
    for (size_t k = 0; whole && k < tracks && !r.broken; k++) {
        t->items = xrealloc(t->items, t->count + 1, sizeof *t->items);
        track_read(&t->items[t->count], &r);
        t->items[t->count++].uffd = fds[k + 1];
        fds[k + 1] = -1;
    }
    for (size_t k = 0; k < count; k++)
        if (fds[k] >= 0)
            close(fds[k]);
    buf_free(&r.bytes);
    if (whole && !r.broken)
        return;
    for (size_t k = 0; k < t->count; k++)
        track_free(&t->items[k]);
    t->count = 0;
}

static void tracks_rest(struct tracks *t)
{
    struct rest r = {0};
    const uint64_t head[2] = {REST_FORMAT, t->count};
    struct err ignored;
    AUTO_FREE int *fds = xcalloc(t->count + 1, sizeof *fds);
    rest_put(&r, head, sizeof head);
    for (size_t k = 0; k < t->count; k++) {
        track_write(&t->items[k], &r);
        fds[k + 1] = t->items[k].uffd;
    }
    AUTO_CLOSE int memfd = memfd_create("tracks", MFD_CLOEXEC);
    fds[0] = memfd;
    bool sent = memfd >= 0 && io_pwrite_all(memfd, r.bytes.data, r.bytes.len, 0, &ignored) == 0;
    for (size_t at = 0; sent && at < t->count + 1; at += FDS_PER_MESSAGE)
        sent = fds_send(t->out, fds + at, t->count + 1 - at < FDS_PER_MESSAGE ? t->count + 1 - at : FDS_PER_MESSAGE);
    buf_free(&r.bytes);
    if (!sent)
        fds_receive(t->in, NULL, 0); /* half of it is worth nothing */
}

/* ---- looking */
static bool look(struct track *t, struct epoch *p)
{
    struct err ignored;
    AUTO_CLOSE int pagemap = pagemap_open(t->pid, &ignored);
    return pagemap >= 0 && p->written.count < RANGES_MAX / 2 && pagemap_written(pagemap, 0, PAGEMAP_END, &p->written, &ignored) == 0;
}

/* Who writes more than half of its memory from one generation to the next pays for being watched, in faults, huge pages and a longer pause, and
 * gains nothing by it. */
static bool writes_most(const struct track *t)
{
    PROC_STATUS struct proc_status s = {0};
    struct err ignored;
    uint64_t written = 0;
    AUTO_CLOSE int pagemap = t->armed ? pagemap_open(t->pid, &ignored) : -1;
    return pagemap >= 0 && pagemap_written_bytes(pagemap, &written, &ignored) == 0 && proc_status_read(t->pid, t->pid, &s, &ignored) == 0 &&
           written / 512 > s.rss_anon_kib;
}

static void sample_again(struct track *t, struct epoch *now)
{
    page_ranges_free(&t->sample);
    sample_arm(t->pid, &t->sample, &now->written);
}

/* Before all of it is armed, a sample tells. */
static bool is_worthless(const struct track *t)
{
    return t->armed ? !t->idle && writes_most(t) : t->idle <= 1 && sample_tells_most(t->pid, &t->sample);
}

/* Before the stop. The pages of whoever is not looked at stay as they are, so that the next look tells them all. */
static bool look_before(struct track *t)
{
    struct epoch *now = &t->epochs[t->epoch_count - 1];
    if (is_worthless(t))
        t->idle = IDLE_GENERATIONS + 1;
    if (t->idle && --t->idle) {
        t->armed = false;
        if (t->idle == 1)
            sample_again(t, now);
        return true;
    }
    t->armed = true;
    return look(t, now);
}

static uint64_t track_expected_bytes(const struct track *t, const struct digest *image)
{
    PROC_STATUS struct proc_status s = {0};
    struct err ignored;
    uint64_t bytes = 0;
    size_t from = t->epoch_count;
    while (from > 0 && memcmp(&t->epochs[from - 1].image, image, sizeof *image) != 0)
        from--;
    if (from == 0 || digest_is_zero(image) || proc_status_read(t->pid, t->pid, &s, &ignored) < 0)
        return 0;
    for (size_t k = from - 1; k < t->epoch_count; k++)
        bytes += page_ranges_bytes(&t->epochs[k].written);
    return bytes <= s.rss_anon_kib * 1024 / 8 ? bytes : 0;
}

uint64_t tracks_expected_bytes(const struct tracks *t, const struct digest *image)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < t->count; k++)
        bytes += track_expected_bytes(&t->items[k], image);
    return bytes;
}

static void track_drop(struct tracks *t, struct track *one)
{
    track_free(one);
    *one = t->items[--t->count];
}

void tracks_begin(struct tracks *t)
{
    const char *ends = getenv(TRACK_ENVIRONMENT);
    t->on = ends && sscanf(ends, "%d,%d", &t->in, &t->out) == 2;
    if (!t->on)
        return;
    tracks_take(t);
    for (size_t k = t->count; k-- > 0;)
        if (process_start(t->items[k].pid) != t->items[k].start_time || !t->items[k].epoch_count ||
            !look_before(&t->items[k]))
            track_drop(t, &t->items[k]);
}

/* ---- at the cut */
bool tracks_can_watch(const struct vma *m)
{
    bool anonymous = m->kind == VMA_ANON || m->kind == VMA_HEAP || m->kind == VMA_STACK;
    return anonymous && !(m->flags & (VMAF_SHARED | VMAF_HUGETLB));
}

static struct track *track_begin(struct tracks *t, struct victim *v, struct err *e)
{
    int fd;
    if (uffd_open(v, &fd, e) < 0 || fd < 0)
        return NULL;
    t->items = xrealloc(t->items, t->count + 1, sizeof *t->items);
    struct track *one = &t->items[t->count++];
    *one = (struct track){.pid = v->pid, .start_time = v->start_time, .uffd = fd};
    epoch_begin(one);
    return one;
}

void tracks_cut_begin(struct tracks *t)
{
    for (size_t k = 0; k < t->count; k++)
        t->items[k].seen = t->items[k].lost = false;
}

int tracks_join(struct tracks *t, struct victim *v, struct err *e)
{
    e->code = E_OK;
    if (track_of(t, v->pid) || v->threads[0].status.rss_anon_kib < WATCH_MIN_KIB || t->count == TRACKS_MAX)
        return 0;
    return track_begin(t, v, e) || e->code == E_OK ? 0 : -1;
}

void tracks_cut(const struct tracks *t, const struct victim *v, const struct mm *mm, struct cut_seen *out)
{
    struct track *one = track_of(t, v->pid);
    struct err why;
    if (!one)
        return;
    one->seen = true;
    if (one->idle) {
        one->epochs[one->epoch_count - 1].unknown = true;
        epoch_begin(one);
        return;
    }
    bool full = one->epochs[one->epoch_count - 1].written.count >= RANGES_MAX / 2;
    one->lost = full || track_cut(one, mm, out, &why) < 0 || !out->any; /* none: an execve(2) took the memory away that it watched */
    if (!one->lost)
        epoch_begin(one);
}

void tracks_cut_end(struct tracks *t)
{
    for (size_t k = t->count; k-- > 0;)
        if (t->items[k].lost)
            track_drop(t, &t->items[k]);
}

void tracks_sample(struct tracks *t)
{
    for (size_t k = 0; k < t->count; k++) {
        if (t->items[k].fresh && t->items[k].epoch_count)
            sample_again(&t->items[k], &t->items[k].epochs[t->items[k].epoch_count - 1]);
        t->items[k].fresh = false;
    }
}

bool tracks_written_since(const struct tracks *t, const struct victim *v, const struct digest *image, struct page_ranges *out)
{
    const struct track *one = track_of(t, v->pid);
    if (!one || !one->seen || one->lost || digest_is_zero(image))
        return false;
    size_t from = one->epoch_count;
    while (from > 0 && memcmp(&one->epochs[from - 1].image, image, sizeof *image) != 0)
        from--;
    if (from == 0)
        return false;
    for (size_t k = from - 1; k < one->epoch_count; k++)
        if (one->epochs[k].unknown)
            return false;
    for (size_t k = from - 1; k < one->epoch_count; k++)
        for (size_t n = 0; n < one->epochs[k].written.count; n++)
            page_ranges_add(out, one->epochs[k].written.items[n].start, one->epochs[k].written.items[n].end);
    page_ranges_sort(out);
    return true;
}

void tracks_name(struct tracks *t, const struct digest *image)
{
    for (size_t k = 0; k < t->count; k++)
        if (t->items[k].seen && t->items[k].epoch_count)
            t->items[k].epochs[t->items[k].epoch_count - 1].image = *image;
}

void tracks_end(struct tracks *t)
{
    for (size_t k = t->count; t->on && k-- > 0;)
        if (process_start(t->items[k].pid) != t->items[k].start_time)
            track_drop(t, &t->items[k]);
    if (t->on)
        tracks_rest(t);
    for (size_t k = 0; k < t->count; k++)
        track_free(&t->items[k]);
    free(t->items);
    *t = (struct tracks){0};
}
