/* See huge.h. Files of hugetlbfs take no write(2), so that they are filled by a mapping; what is mapped there could end its writer (SIGBUS) when no page
 * is free, so the pages are asked for before. Mirrors snapshot/memobj_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kernel/hugepool.h"
#include "huge.h"

#define SIZE_SHIFT 26 /* MAP_HUGE_SHIFT */

bool huge_size_is_known(uint64_t page_bytes)
{
    return page_bytes >= HUGEPOOL_SMALLEST && page_bytes <= HUGEPOOL_LARGEST && (page_bytes & (page_bytes - 1)) == 0;
}

uint64_t huge_size_flags(uint64_t page_bytes)
{
    return (uint64_t)__builtin_ctzl(page_bytes) << SIZE_SHIFT;
}

uint64_t huge_first_prot(const struct vma *v)
{
    return v->flags & VMAF_HUGETLB && !(v->flags & VMAF_SHARED) ? v->prot | PROT_READ | PROT_WRITE : v->prot;
}

static int memory_sink(void *ctx, uint64_t at, const void *data, size_t len, struct err *e)
{
    (void)e;
    if (data)
        memcpy((uint8_t *)ctx + at, data, len);
    return 0;
}

static int pages_take(int fd, const struct memobj *m, struct err *e)
{
    for (size_t k = 0; k < m->extents_count; k++) {
        const struct extent *x = &m->extents[k];
        if (x->at > m->size || x->len > m->size - x->at)
            return err_set(e, E_BAD_IMAGE, "content behind the end of huge pages of %lu bytes", m->size);
        if (fallocate(fd, 0, (off_t)x->at, (off_t)x->len) < 0)
            return err_errno(e, "get a huge page of %lu KiB", m->page_bytes / 1024);
    }
    return 0;
}

int huge_memobj_fill(struct restore *r, int fd, const struct memobj *m, struct err *e)
{
    if (ftruncate(fd, (off_t)m->size) < 0)
        return err_errno(e, "set the length of huge pages to %lu", m->size);
    if (pages_take(fd, m, e) < 0 || !m->extents_count)
        return m->extents_count ? -1 : 0;
    void *at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED)
        return err_errno(e, "map huge pages");
    int result = store_get_ranges(r->store, m->extents, m->extents_count, memory_sink, at, e);
    munmap(at, m->size);
    return result;
}
