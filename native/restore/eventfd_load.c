/* eventfd(2). Mirrors snapshot/eventfd_save.c. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "files_load.h"

static int one_load(struct restore *r, const struct eventfd *event, struct err *e)
{
    size_t index;
    if (file_index(r, event->id, &index, e) < 0)
        return -1;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (event->semaphore ? EFD_SEMAPHORE : 0));
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "an eventfd") : -1;
    if (event->count && write(r->file_fds[index], &event->count, sizeof event->count) != sizeof event->count)
        return err_errno(e, "count %lu of an eventfd", event->count);
    return file_flags_set(r, index, e);
}

int eventfd_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->eventfds_count; i++)
        if (one_load(r, &r->image->eventfds[i], e) < 0)
            return -1;
    return 0;
}
