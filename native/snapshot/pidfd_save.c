/* pidfd(2): the process that it means, by its inner number; 0 when that has ended and was waited for. */
#include <fcntl.h>
#include <stdlib.h>

#include "files_save.h"

int pidfd_save(struct saving *v, struct source *src, struct err *e)
{
    const char *pid = facts_field(&src->facts, "Pid");
    if (!pid)
        return source_refuse(v, src, e, "a pidfd whose process this kernel does not show");
    if (src->facts.flags & O_EXCL)
        return source_refuse(v, src, e, "a pidfd of a thread (PIDFD_THREAD)");
    long outer = strtol(pid, NULL, 10);
    if (outer < 0)
        return 0;
    src->file->ref = saving_inner_pid(v, (pid_t)outer);
    return src->file->ref ? 0 : source_refuse(v, src, e, "a pidfd of a process outside of the pod");
}
