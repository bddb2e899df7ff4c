/* See uffd.h. Only anonymous memory is watched: of a mapped file a dropped page would look like a clean one. */
#include "uffd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REGIONS 512 /* as many as the kernel's own buffer takes */

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
struct page_region {
    uint64_t start, end, categories;
};
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask,
        return_mask;
};
#endif

/* ---- lists of ranges */
void page_ranges_add(struct page_ranges *l, uint64_t start, uint64_t end)
{
    if (l->count && l->items[l->count - 1].end == start) {
        l->items[l->count - 1].end = end;
        return;
    }
    if ((l->count & (l->count - 1)) == 0)
        l->items = xrealloc(l->items, l->count ? 2 * l->count : 1, sizeof *l->items);
    l->items[l->count++] = (struct page_range){start, end};
}

void page_ranges_free(struct page_ranges *l)
{
    free(l->items);
    *l = (struct page_ranges){0};
}

static int range_order(const void *a, const void *b)
{
    const struct page_range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

void page_ranges_sort(struct page_ranges *l)
{
    size_t kept = 0;
    if (l->count)
        qsort(l->items, l->count, sizeof *l->items, range_order);
    for (size_t k = 0; k < l->count; k++) {
        if (kept && l->items[k].start <= l->items[kept - 1].end) {
            if (l->items[k].end > l->items[kept - 1].end)
                l->items[kept - 1].end = l->items[k].end;
        } else {
            l->items[kept++] = l->items[k];
        }
    }
    l->count = kept;
}

/* The first that ends behind `at`. */
static size_t range_from(const struct page_ranges *l, uint64_t at)
{
    size_t first = 0;
    for (size_t end = l->count; first < end;) {
        size_t middle = first + (end - first) / 2;
        if (l->items[middle].end <= at)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

void page_ranges_within(const struct page_ranges *l, uint64_t start, uint64_t end, struct page_ranges *out)
{
    for (size_t k = range_from(l, start); k < l->count && l->items[k].start < end; k++) {
        const struct page_range *r = &l->items[k];
        page_ranges_add(out, r->start > start ? r->start : start, r->end < end ? r->end : end);
    }
}

void page_ranges_without(const struct page_ranges *l, const struct page_ranges *other, struct page_ranges *out)
{
    size_t n = 0;
    for (size_t k = 0; k < l->count; k++) {
        uint64_t at = l->items[k].start, end = l->items[k].end;
        while (n < other->count && other->items[n].end <= at)
            n++;
        for (size_t i = n; i < other->count && other->items[i].start < end && at < end; i++) {
            if (other->items[i].start > at)
                page_ranges_add(out, at, other->items[i].start);
            at = other->items[i].end;
        }
        if (at < end)
            page_ranges_add(out, at, end);
    }
}

void page_ranges_common(const struct page_ranges *l, const struct page_ranges *other, struct page_ranges *out)
{
    size_t n = 0;
    for (size_t k = 0; k < l->count; k++) {
        uint64_t start = l->items[k].start, end = l->items[k].end;
        while (n < other->count && other->items[n].end <= start)
            n++;
        for (size_t i = n; i < other->count && other->items[i].start < end; i++) {
            const struct page_range *r = &other->items[i];
            page_ranges_add(out, r->start > start ? r->start : start, r->end < end ? r->end : end);
        }
    }
}

uint64_t page_ranges_bytes(const struct page_ranges *l)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < l->count; k++)
        bytes += l->items[k].end - l->items[k].start;
    return bytes;
}

/* ---- the descriptor */
static bool features_agree(int fd)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED};
    return ioctl(fd, UFFDIO_API, &api) == 0;
}

int uffd_open(struct victim *v, int *fd, struct err *e)
{
    int64_t there, ignored;
    *fd = -1;
    if (remote_journal && remote_journal(v, "uffd", 0, 0, e) < 0)
        return -1;
    if (remote_one(v, 0, &there, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY, 0, 0, 0, 0, 0, e) < 0)
        return -1;
    if (there < 0)
        return 0;
    int own = victim_getfd(v, (int)there, e);
    if (remote_one(v, 0, &ignored, SYS_close, (uint64_t)there, 0, 0, 0, 0, 0, e) < 0 || own < 0) {
        if (own >= 0)
            close(own);
        return -1;
    }
    if (features_agree(own))
        *fd = own;
    else
        close(own);
    return 0;
}

int uffd_undo(struct victim *v, struct err *e)
{
    AUTO_FREE char *folder = xasprintf("/proc/%d/fd", v->pid);
    AUTO_DIR DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char target[64] = "";
        int64_t ignored;
        if (readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1) > 0 && strcmp(target, "anon_inode:[userfaultfd]") == 0 &&
            remote_one(v, 0, &ignored, SYS_close, (uint64_t)atol(d->d_name), 0, 0, 0, 0, 0, e) < 0)
            return -1;
    }
    return 0;
}

bool uffd_register(int fd, uint64_t start, uint64_t end)
{
    struct uffdio_register r = {.range = {start, end - start}, .mode = UFFDIO_REGISTER_MODE_WP};
    return ioctl(fd, UFFDIO_REGISTER, &r) == 0;
}

/* ---- what pages are */
int pagemap_open(pid_t pid, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/pagemap", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, "open %s", path) : fd;
}

bool pagemap_is_watched(int pagemap, uint64_t start)
{
    struct page_region one;
    struct pm_scan_arg scan = {.size = sizeof scan, .flags = PM_SCAN_CHECK_WPASYNC, .start = start, .end = start + PAGE_BYTES,
                               .vec = (uint64_t)(uintptr_t)&one, .vec_len = 1, .category_anyof_mask = PAGE_IS_PRESENT,
                               .return_mask = PAGE_IS_PRESENT};
    return ioctl(pagemap, PAGEMAP_SCAN, &scan) >= 0;
}

/* Linux up to 6.18 leaves walk_end where its own small buffer was last full, although it went on to the end: fewer regions than fit say that
 * all was seen, and no page is told twice. */
static int scan(int pagemap, struct pm_scan_arg arg, struct page_ranges *out, struct err *e)
{
    struct page_region regions[REGIONS]; /* not zeroed: as long as the scan of a small mapping */
    uint64_t end = arg.end;
    int result = 0;
    arg.size = sizeof arg;
    arg.vec = (uint64_t)(uintptr_t)regions;
    arg.vec_len = REGIONS;
    while (result == 0 && arg.start < end) {
        int n = ioctl(pagemap, PAGEMAP_SCAN, &arg);
        for (int k = 0; k < n; k++)
            page_ranges_add(out, regions[k].start, regions[k].end);
        if (n < 0) {
            int number = errno;
            result = err_errno(e, "scan pages at 0x%llx", (unsigned long long)arg.start);
            errno = number;
        }
        arg.start = n == REGIONS ? regions[n - 1].end : end;
    }
    return result;
}

int pagemap_present(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e)
{
    struct pm_scan_arg arg = {.start = start, .end = end, .category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO,
                              .category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO, .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                              .return_mask = PAGE_IS_PRESENT};
    return scan(pagemap, arg, out, e);
}

/* Exactly this question has a way of its own in the kernel (fs/proc/task_mmu.c). */
int pagemap_not_armed(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e)
{
    struct pm_scan_arg arg = {.start = start, .end = end, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN};
    return scan(pagemap, arg, out, e);
}

int pagemap_not_armed_all(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e)
{
    PAGE_RANGES struct page_ranges told = {0};
    struct pm_scan_arg arg = {.start = start, .end = end, .flags = PM_SCAN_CHECK_WPASYNC, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN};
    if (scan(pagemap, arg, &told, e) < 0)
        return errno == EPERM ? 1 : -1;
    for (size_t k = 0; k < told.count; k++)
        page_ranges_add(out, told.items[k].start, told.items[k].end);
    return 0;
}

int pagemap_huge(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e)
{
    struct pm_scan_arg arg = {.start = start, .end = end, .category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO,
                              .category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO | PAGE_IS_HUGE | PAGE_IS_PRESENT, .return_mask = PAGE_IS_HUGE};
    return scan(pagemap, arg, out, e);
}

/* A huge page or a whole table that was dropped, as it looks: memory that was never touched. */
static bool holes_are_told(int uffd, int pagemap, uint8_t *at, size_t len)
{
    PAGE_RANGES struct page_ranges told = {0};
    struct err ignored;
    uint64_t start = (uint64_t)(uintptr_t)at;
    return features_agree(uffd) && uffd_register(uffd, start, start + len) &&
           pagemap_not_armed(pagemap, start, start + len, &told, &ignored) == 0 && page_ranges_bytes(&told) == len;
}

static bool holes_try(void)
{
    struct err ignored;
    size_t len = 4ul << 20;
    AUTO_CLOSE int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    AUTO_CLOSE int pagemap = pagemap_open(getpid(), &ignored);
    uint8_t *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool told = uffd >= 0 && pagemap >= 0 && at != MAP_FAILED && holes_are_told(uffd, pagemap, at, len);
    if (at != MAP_FAILED)
        munmap(at, len);
    return told;
}

static pthread_once_t holes_tried = PTHREAD_ONCE_INIT;
static bool holes_told;

static void holes_try_once(void)
{
    holes_told = holes_try();
}

bool pagemap_tells_holes(void)
{
    pthread_once(&holes_tried, holes_try_once);
    return holes_told;
}

int pagemap_written_bytes(int pagemap, uint64_t *bytes, struct err *e)
{
    PAGE_RANGES struct page_ranges written = {0};
    struct pm_scan_arg arg = {.end = PAGEMAP_END, .category_mask = PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN,
                              .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED, .return_mask = PAGE_IS_WRITTEN};
    if (scan(pagemap, arg, &written, e) < 0)
        return -1;
    *bytes = page_ranges_bytes(&written);
    return 0;
}

int pagemap_written(int pagemap, uint64_t start, uint64_t end, struct page_ranges *out, struct err *e)
{
    struct pm_scan_arg arg = {.start = start, .end = end, .flags = PM_SCAN_WP_MATCHING, .category_inverted = PAGE_IS_PFNZERO,
                              .category_mask = PAGE_IS_WRITTEN | PAGE_IS_PFNZERO, .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED, .return_mask = PAGE_IS_WRITTEN};
    return scan(pagemap, arg, out, e);
}
