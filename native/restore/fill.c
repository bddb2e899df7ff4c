/* See fill.h. */
#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../pod/pager.h"
#include "share.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define WORTH_BYTES (1ul << 20)

/* Content put so lies in small pages: where the kernel would give huge ones it shall; who must not wait makes do with what it joins later. */
static bool gives_huge_pages(const struct mm *mm, const struct vma *v, bool is_lazy)
{
    static int always = -1;
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    if (always < 0)
        always = io_slurpf(&text, 256, &ignored, "/sys/kernel/mm/transparent_hugepage/enabled") == 0 && strstr((char *)text.data, "[always]");
    return v->advice & ADV_HUGEPAGE || (!is_lazy && always && !(v->advice & ADV_NOHUGEPAGE) && !(mm->thp_disable & 1));
}

static bool is_plain(const struct restore *r, const struct task *t, const struct vma *v, bool is_lazy)
{
    const uint64_t never = VMAF_SHARED | VMAF_GROWSDOWN | VMAF_HUGETLB;
    return (v->kind == VMA_ANON || v->kind == VMA_HEAP) && v->prot & PROT_WRITE && !(v->flags & never) && !(v->advice & ADV_LOCKED) &&
           !gives_huge_pages(&t->mm, v, is_lazy) && !share_of(r, (size_t)(t - r->image->tasks), v);
}

/* Mappings with much content. */
void fill_ranges(const struct restore *r, const struct task *t, bool is_lazy, struct fill *f)
{
    const struct mm *mm = &t->mm;
    size_t x = 0;
    for (size_t k = 0; k < mm->vmas_count; k++) {
        const struct vma *v = &mm->vmas[k];
        uint64_t bytes = 0;
        while (x < mm->extents_count && mm->extents[x].at + mm->extents[x].len <= v->start)
            x++;
        for (; x < mm->extents_count && mm->extents[x].at + mm->extents[x].len <= v->end; x++)
            bytes += mm->extents[x].len;
        if (bytes >= WORTH_BYTES && is_plain(r, t, v, is_lazy))
            *LIST_ADD(f, ranges) = (struct fill_range){v->start, v->end};
    }
}

/* Those that the kernel takes stay in the list. */
static void ranges_register(struct fill *f, uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    size_t kept = 0;
    bool agreed = ioctl(f->fd, UFFDIO_API, &api) == 0;
    for (size_t k = 0; k < f->ranges_count && agreed; k++) {
        struct uffdio_register one = {.range = {f->ranges[k].start, f->ranges[k].end - f->ranges[k].start}, .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (ioctl(f->fd, UFFDIO_REGISTER, &one) == 0)
            f->ranges[kept++] = f->ranges[k];
    }
    f->ranges_count = kept;
}

static int descriptor_make(struct victim *v, struct fill *out, uint64_t flags, struct err *e)
{
    if (remote_one(v, 0, &out->number, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags, 0, 0, 0, 0, 0, e) < 0)
        return -1;
    out->fd = out->number < 0 ? -1 : victim_getfd(v, (int)out->number, e);
    return out->number >= 0 && out->fd < 0 ? -1 : 0;
}

static int descriptor_drop(struct victim *v, struct fill *f, struct err *e)
{
    int64_t ignored;
    int64_t number = f->number;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->number = -1;
    return number < 0 ? 0 : remote_one(v, 0, &ignored, SYS_close, (uint64_t)number, 0, 0, 0, 0, 0, e);
}

/* All of them or none: where one cannot be watched, none of the process's doings may wait for a reader. */
static int lazy_open(const struct restore *r, struct victim *v, const struct task *task, struct fill *out, struct err *e)
{
    fill_ranges(r, task, true, out);
    size_t wanted = out->ranges_count;
    struct fill tried = {.fd = -1, .number = -1, .ranges = xcalloc(wanted, sizeof *out->ranges), .ranges_count = wanted};
    memcpy(tried.ranges, out->ranges, wanted * sizeof *out->ranges);
    if (descriptor_make(v, &tried, 0, e) < 0) {
        free(tried.ranges);
        return -1;
    }
    if (tried.fd >= 0)
        ranges_register(&tried, UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);
    out->lazy = tried.fd >= 0 && tried.ranges_count == wanted;
    free(tried.ranges);
    if (out->lazy) {
        out->fd = tried.fd;
        out->number = tried.number;
        return 0;
    }
    free(out->ranges);
    *out = (struct fill){.fd = -1, .number = -1};
    return descriptor_drop(v, &tried, e);
}

int fill_open(const struct restore *r, struct victim *v, const struct task *task, struct fill *out, struct err *e)
{
    *out = (struct fill){.fd = -1, .number = -1};
    if (r->pager && r->pager->models[task - r->image->tasks].pieces_count && lazy_open(r, v, task, out, e) < 0)
        return -1;
    if (out->lazy)
        return 0;
    fill_ranges(r, task, false, out);
    if (!out->ranges_count)
        return 0;
    if (descriptor_make(v, out, UFFD_USER_MODE_ONLY, e) < 0)
        return -1;
    if (out->fd >= 0)
        ranges_register(out, 0);
    else
        out->ranges_count = 0;
    return 0;
}

/* The first range that ends behind the address. */
static size_t range_from(const struct fill *f, uint64_t at)
{
    return FIRST_NOT(f->ranges_count, k, f->ranges[k].end <= at);
}

bool fill_takes(const struct fill *f, uint64_t at)
{
    size_t k = range_from(f, at);
    return k < f->ranges_count && f->ranges[k].start <= at;
}

uint64_t fill_same(const struct fill *f, uint64_t at, uint64_t len)
{
    size_t k = range_from(f, at);
    if (k == f->ranges_count)
        return len;
    uint64_t border = f->ranges[k].start <= at ? f->ranges[k].end : f->ranges[k].start;
    return border - at < len ? border - at : len;
}

int fill_put(const struct fill *f, uint64_t at, const void *data, size_t len, size_t *done, struct err *e)
{
    for (*done = 0; *done < len;) {
        struct uffdio_copy c = {.dst = at + *done, .src = (uint64_t)(uintptr_t)data + *done, .len = len - *done, .mode = UFFDIO_COPY_MODE_DONTWAKE};
        if (ioctl(f->fd, UFFDIO_COPY, &c) == 0)
            c.copy = (int64_t)(len - *done);
        else if (errno == EEXIST && c.copy <= 0)
            return 0;
        else if (errno != EAGAIN && errno != EEXIST)
            return err_errno(e, "fill memory at 0x%lx", at + *done);
        *done += c.copy > 0 ? (size_t)c.copy : 0;
    }
    return 0;
}

void fill_close(struct fill *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->ranges);
    *f = (struct fill){.fd = -1, .number = f->number};
}
