/* timerfd_create(2): clock, interval, time left and expirations not read yet, from fdinfo. */
#include <stdio.h>
#include <stdlib.h>

#include "files_save.h"

static bool pair_parse(const char *at, uint64_t *ns)
{
    unsigned long seconds, nanoseconds;
    if (!at || sscanf(at, " (%lu, %lu)", &seconds, &nanoseconds) != 2)
        return false;
    *ns = seconds * 1000000000ul + nanoseconds;
    return true;
}

int timerfd_save(struct saving *v, struct source *src, struct err *e)
{
    const char *clock = facts_field(&src->facts, "clockid"), *ticks = facts_field(&src->facts, "ticks");
    const char *flags = facts_field(&src->facts, "settime flags");
    uint64_t interval, remaining;
    if (!clock || !ticks || !flags || !pair_parse(facts_field(&src->facts, "it_value"), &remaining) ||
        !pair_parse(facts_field(&src->facts, "it_interval"), &interval))
        return source_refuse(v, src, e, "a timerfd whose state this kernel does not show");
    struct timerfd *timer = LIST_ADD(&v->s->image, timerfds);
    timer->id = src->file->ref = src->file->id;
    timer->clock = strtoul(clock, NULL, 10);
    timer->ticks = strtoul(ticks, NULL, 10);
    timer->settime_flags = strtoul(flags, NULL, 8);
    timer->interval_ns = interval;
    timer->remaining_ns = remaining;
    return 0;
}
