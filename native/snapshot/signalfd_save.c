/* signalfd(2): its mask. Pending signals belong to the tasks. */
#include <stdlib.h>

#include "files_save.h"

int signalfd_save(struct saving *v, struct source *src, struct err *e)
{
    const char *mask = facts_field(&src->facts, "sigmask");
    if (!mask)
        return source_refuse(v, src, e, "a signalfd whose state this kernel does not show");
    struct signalfd *signals = LIST_ADD(&v->s->image, signalfds);
    signals->id = src->file->ref = src->file->id;
    signals->mask = strtoul(mask, NULL, 16);
    return 0;
}
