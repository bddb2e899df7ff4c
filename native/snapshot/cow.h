/* A copy-on-write view of a stopped process: a child made inside it that never runs an instruction of the job. Its memory is read after the pause.
 * It has no descriptor, is podinit's child, is held in a ptrace stop, and ends at once if the engine dies. */
#pragma once
#include "save.h"

/* 0 and *copy filled (copy->expendable: read through memfd only, process_vm_readv would un-share every page); 1 if the process cannot be
 * copied (limits): then its memory is read in the pause. */
MUST_CHECK int cow_make(struct victim *v, struct victim *copy, struct err *e);
void cow_end(struct victim *copy);
