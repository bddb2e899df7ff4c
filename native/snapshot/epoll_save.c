/* epoll(7): every watch with the open file description that it means. The kernel keys a watch by (description, number at
 * the time of EPOLL_CTL_ADD); that number may since be closed, or be another's: kcmp KCMP_EPOLL_TFD says which
 * description it is. */
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_save.h"

struct line {
    int number;
    unsigned events;
    unsigned long data, ino;
};

static bool slot_is_target(const struct saving *v, const struct source *src, const struct line *line, uint32_t nth,
                           size_t victim, int number)
{
    struct kcmp_epoll_slot slot = {.efd = (uint32_t)src->number, .tfd = (uint32_t)line->number, .toff = nth};
    return syscall(SYS_kcmp, v->s->victims[victim].pid, v->s->victims[src->victim].pid, KCMP_EPOLL_TFD, number, &slot) == 0;
}

/* First where it most likely is: the same number in the same process; then in the others; then anywhere. */
static const struct source *target_find(const struct saving *v, const struct source *src, const struct line *line, uint32_t nth)
{
    const struct slot *slot = scan_find_slot(v, src->victim, line->number);
    if (slot && slot_is_target(v, src, line, nth, slot->victim, slot->number))
        return &v->sources[slot->source];
    for (size_t i = 0; i < v->s->victim_count; i++) {
        slot = scan_find_slot(v, i, line->number);
        if (slot && slot_is_target(v, src, line, nth, i, slot->number))
            return &v->sources[slot->source];
    }
    for (size_t i = 0; i < v->sources_count; i++) {
        const struct source *other = &v->sources[i];
        if (other->facts.st.st_ino == line->ino && slot_is_target(v, src, line, nth, other->victim, other->number))
            return other;
    }
    return NULL;
}

static uint32_t occurrence(const struct epoll *epoll, int number)
{
    uint32_t n = 0;
    for (size_t i = 0; i < epoll->watches_count; i++)
        n += epoll->watches[i].target_fd == (uint64_t)number;
    return n;
}

static int watch_save(struct saving *v, struct source *src, struct epoll *epoll, const struct line *line, struct err *e)
{
    const struct source *target = target_find(v, src, line, occurrence(epoll, line->number));
    if (!target)
        return source_refuse(v, src, e, "an epoll set that watches a file which no descriptor names any more (was %d)", line->number);
    struct epoll_watch *watch = LIST_ADD(epoll, watches);
    *watch = (struct epoll_watch){.target_fd = (uint64_t)line->number, .target_file = target->file->id, .events = line->events,
                                  .target_pid = (uint64_t)v->s->victims[target->victim].inner_pid, .data = line->data};
    return 0;
}

int epoll_save(struct saving *v, struct source *src, struct err *e)
{
    struct epoll *epoll = LIST_ADD(&v->s->image, epolls);
    epoll->id = src->file->ref = src->file->id;
    for (const char *at = strstr(src->facts.fdinfo, "\ntfd:"); at; at = strstr(at + 1, "\ntfd:")) {
        struct line line;
        if (sscanf(at, "\ntfd: %d events: %x data: %lx pos:%*d ino:%lx", &line.number, &line.events, &line.data, &line.ino) != 4)
            return source_refuse(v, src, e, "an epoll set whose state this kernel shows in an unknown way");
        if (watch_save(v, src, epoll, &line, e) < 0)
            return -1;
    }
    return 0;
}
