/* eventfd(2): its count, from fdinfo (reading it would take it). */
#include <stdlib.h>

#include "files_save.h"

int eventfd_save(struct saving *v, struct source *src, struct err *e)
{
    const char *count = facts_field(&src->facts, "eventfd-count");
    const char *semaphore = facts_field(&src->facts, "eventfd-semaphore");
    if (!count || !semaphore)
        return source_refuse(v, src, e, "an eventfd whose state this kernel does not show");
    struct eventfd *event = LIST_ADD(&v->s->image, eventfds);
    event->id = src->file->ref = src->file->id;
    event->count = strtoul(count, NULL, 16);
    event->semaphore = strtoul(semaphore, NULL, 10);
    return 0;
}
