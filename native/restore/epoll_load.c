/* epoll(7): the kernel keys a watch by (description, number when it was added), so each target stands at that number for a moment.
 * Sets first, watches afterwards (sets may watch sets). Mirrors snapshot/epoll_save.c. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "files_load.h"

/* A signalfd in an epoll set shows the signals of whoever added it. */
bool epoll_watch_is_late(const struct restore *r, const struct epoll_watch *w)
{
    struct err ignored;
    size_t index;
    return file_index(r, w->target_file, &index, &ignored) == 0 &&
           (r->image->files[index].kind == FILE_SIGNALFD || file_is_late(&r->image->files[index]));
}

int epoll_watch_add(int epoll_fd, int target_fd, const struct epoll_watch *w, struct err *e)
{
    struct epoll_event event = {.events = (uint32_t)w->events, .data.u64 = w->data};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, target_fd, &event) < 0 ? err_errno(e, "epoll watch of descriptor %lu", w->target_fd) : 0;
}

/* ---- a watch that has told once (EPOLLONESHOT) and was not armed again */
#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1u << 28)
#endif
#define PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)

static bool is_disarmed(const struct epoll_watch *w)
{
    return w->events & EPOLLONESHOT && !(w->events & ~(uint64_t)PRIVATE_BITS);
}

/* Adding a watch arms it for errors at least: let it tell once, which nearly every descriptor can. Else it stays armed for errors. */
static int disarmed_add(int epoll_fd, int target_fd, const struct epoll_watch *w, struct err *e)
{
    struct epoll_event told;
    struct epoll_watch ready = *w;
    ready.events |= EPOLLIN | EPOLLOUT;
    if (epoll_watch_add(epoll_fd, target_fd, &ready, e) < 0)
        return -1;
    if (epoll_wait(epoll_fd, &told, 1, 0) == 1)
        return 0;
    struct epoll_event event = {.events = (uint32_t)w->events, .data.u64 = w->data};
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, target_fd, &event) < 0 ? err_errno(e, "epoll watch of descriptor %lu", w->target_fd) : 0;
}

/* ---- watches
 * Their numbers may be in use by podinit itself: what stands there comes back afterwards. */
static int watch_load(const struct restore *r, int epoll_fd, const struct epoll_watch *w, struct err *e)
{
    size_t index;
    if (file_index(r, w->target_file, &index, e) < 0)
        return -1;
    int number = (int)w->target_fd, saved = fcntl(number, F_DUPFD_CLOEXEC, 0), flags = fcntl(number, F_GETFD);
    if (w->target_fd > INT32_MAX || dup2(r->file_fds[index], number) < 0)
        return err_errno(e, "descriptor %lu", w->target_fd);
    int result = (is_disarmed(w) ? disarmed_add : epoll_watch_add)(epoll_fd, number, w, e);
    if (saved < 0) {
        close(number);
        return result;
    }
    CHECK(dup3(saved, number, flags & FD_CLOEXEC ? O_CLOEXEC : 0) == number);
    close(saved);
    return result;
}

static int sets_make(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->epolls_count; i++) {
        size_t index;
        int fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd < 0 || file_index(r, r->image->epolls[i].id, &index, e) < 0 || file_place(r, index, fd, e) < 0)
            return fd < 0 ? err_errno(e, "an epoll set") : -1;
    }
    return 0;
}

int epoll_load(struct restore *r, struct err *e)
{
    if (sets_make(r, e) < 0)
        return -1;
    for (size_t i = 0; i < r->image->epolls_count; i++) {
        const struct epoll *epoll = &r->image->epolls[i];
        size_t index;
        if (file_index(r, epoll->id, &index, e) < 0)
            return -1;
        for (int disarmed = 1; disarmed >= 0; disarmed--) /* these first: as long as they are alone, what tells is one of them */
            for (size_t k = 0; k < epoll->watches_count; k++)
                if (is_disarmed(&epoll->watches[k]) == disarmed && !epoll_watch_is_late(r, &epoll->watches[k]) &&
                    watch_load(r, r->file_fds[index], &epoll->watches[k], e) < 0)
                    return -1;
        if (file_flags_set(r, index, e) < 0)
            return -1;
    }
    return 0;
}
