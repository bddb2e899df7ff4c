/* Leases (F_SETLEASE). Whoever opens a file against a lease makes the kernel take it back, and waits for its holder; so nothing that a lease for
 * writing lies on is opened by the engine: it is read through the holder's own descriptor, which breaks nothing. What would have to be opened
 * all the same is refused. */
#pragma once
#include "files_save.h"

/* Why a lease of this descriptor cannot be captured; NULL: it has none, or it can. */
const char *lease_trouble(const struct view *v, const struct facts *f);
/* Before any saver may open a file: refuses, and gathers files with leases for writing in s->leased, for the trees. */
MUST_CHECK int leases_look(struct saving *v, struct err *e);
/* Which process holds it: not the one of this slot, though that shares the description. */
bool lease_is_anothers(const struct saving *v, const struct slot *slot, int holder_pid);
void leases_free(struct snapshot *s);
