/* See empties.h. */
#include "empties.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SOCKETS_MAX 502
#define UNANSWERED (-1)          /* the kernel sets never all of msg_flags */

static const uint8_t UNTOUCHED[EMPTIES_FIRST_BYTES] = {0xa5, 0x3c, 0x96, 0x0f, 0xe1, 0x5a, 0x78, 0xd2};

static struct {
    uint64_t looking;        /* at this one; left there by whoever was killed */
    uint64_t count;          /* more than SOCKETS_MAX: all others too */
    uint64_t sockets[SOCKETS_MAX];
    struct empties_answer answer;
} *page;

static void add(uint64_t ino)
{
    if (page->count < SOCKETS_MAX)
        page->sockets[page->count] = ino;
    if (page->count <= SOCKETS_MAX)
        page->count++;
}

/* A call that was begun ends before its caller does, whatever kills it: signal(7). */
static bool answered_empty(void)
{
    return page->answer.header.msg_flags != UNANSWERED && memcmp(page->answer.first, UNTOUCHED, sizeof UNTOUCHED) == 0;
}

int empties_open(const struct pod *pod, struct err *e)
{
    if (page)
        return 0;
    AUTO_CLOSE int fd = openat(pod->dirfd, "empties", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, sizeof *page) != 0)
        return err_errno(e, "POD/empties");
    void *at = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return err_errno(e, "map POD/empties");
    page = at;
    if (page->looking)
        empties_looked(page->looking, answered_empty());
    return 0;
}

struct empties_answer *empties_look(uint64_t ino)
{
    page->answer.header = (struct msghdr){.msg_flags = UNANSWERED};
    memcpy(page->answer.first, UNTOUCHED, sizeof UNTOUCHED);
    __atomic_store_n(&page->looking, ino, __ATOMIC_SEQ_CST);
    return &page->answer;
}

void empties_looked(uint64_t ino, bool was_empty)
{
    if (was_empty && !empties_have(ino))
        add(ino);
    page->looking = 0;
}

bool empties_have(uint64_t ino)
{
    for (uint64_t k = 0; k < page->count && k < SOCKETS_MAX; k++)
        if (page->sockets[k] == ino)
            return true;
    return page->count > SOCKETS_MAX;
}

void empties_forget(uint64_t ino)
{
    for (uint64_t k = 0; k < page->count && page->count <= SOCKETS_MAX; k++)
        if (page->sockets[k] == ino) {
            page->sockets[k] = page->sockets[page->count - 1];
            page->count--;
            return;
        }
}
