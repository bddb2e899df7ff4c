/* signalfd(2). Mirrors snapshot/signalfd_save.c. */
#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files_load.h"

static int one_load(struct restore *r, const struct signalfd *signals, struct err *e)
{
    size_t index;
    if (file_index(r, signals->id, &index, e) < 0)
        return -1;
    int fd = (int)syscall(SYS_signalfd4, -1, &signals->mask, sizeof signals->mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "a signalfd") : -1;
    return file_flags_set(r, index, e);
}

int signalfd_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->signalfds_count; i++)
        if (one_load(r, &r->image->signalfds[i], e) < 0)
            return -1;
    return 0;
}
