/* inotify(7), every watch under its old number. Mirrors snapshot/inotify_save.c. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "files_load.h"
#include "spaces.h"

#ifndef INOTIFY_IOC_SETNEXTWD
#define INOTIFY_IOC_SETNEXTWD _IOW('I', 0, int32_t)
#endif

static int watch_load(const struct restore *r, int fd, const struct inotify_watch *watch, struct err *e)
{
    char self[64];
    uint32_t mask = (uint32_t)watch->mask;
    if (ioctl(fd, INOTIFY_IOC_SETNEXTWD, (long)watch->wd) < 0)
        return err_errno(e, "number %lu of an inotify watch", watch->wd);
    if (space_enter(r, watch->mount_space, e) < 0)
        return -1;
    owner_rights_begin(r);
    AUTO_CLOSE int place = inside_open(watch->path, O_PATH | (mask & IN_DONT_FOLLOW ? O_NOFOLLOW : 0), 0);
    owner_rights_end(r);
    space_leave(r, watch->mount_space);
    owner_rights_begin(r);
    snprintf(self, sizeof self, "/proc/self/fd/%d", place);
    int wd = place < 0 ? -1 : inotify_add_watch(fd, self, mask & ~(uint32_t)IN_DONT_FOLLOW);
    owner_rights_end(r);
    if (wd < 0)
        return err_errno(e, "inotify watch on %s", watch->path);
    return (uint64_t)wd == watch->wd ? 0 : err_set(e, E_OS, "inotify watch on %s came back as %d, was %lu", watch->path, wd, watch->wd);
}

static int one_load(struct restore *r, const struct inotify *inotify, struct err *e)
{
    size_t index;
    if (file_index(r, inotify->id, &index, e) < 0)
        return -1;
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || file_place(r, index, fd, e) < 0)
        return fd < 0 ? err_errno(e, "an inotify instance") : -1;
    for (size_t i = 0; i < inotify->watches_count; i++)
        if (watch_load(r, r->file_fds[index], &inotify->watches[i], e) < 0)
            return -1;
    return file_flags_set(r, index, e);
}

int inotify_load(struct restore *r, struct err *e)
{
    for (size_t i = 0; i < r->image->inotifies_count; i++)
        if (one_load(r, &r->image->inotifies[i], e) < 0)
            return -1;
    return 0;
}
