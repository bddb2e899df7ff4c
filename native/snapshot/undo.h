/* What the lines of a journal mean, and how each is undone. Idempotent: whoever undoes may die and be replaced. */
#pragma once
#include "../pod/pod.h"

/* Lines in the order in which they were written:
 *   act NAME PID                        the engine that wrote them
 *   tail PID START ADDRESS LENGTH       code was written into the zero tail of a page (outer pid and its start time)
 *   scratch PID START ADDRESS LENGTH    a work area was mapped
 *   cow PID START                       children of ours were made in it (cow.h); they end by themselves, the process reaps them
 *   thaw                                a frozen pod was thawed, to stop it by ptrace
 *   freeze                              the pod was frozen: from here to the end of the cut a dead engine leaves nobody running
 *   lock                                the pod's network was cut
 *   repair …, peekoff …                 sockets (snapshot/files_undo.h)
 *   mqueue take INO, mqueue put INO     messages of a POSIX queue are on their way to POD/mqueue and back (mqueue_take.h) */
MUST_CHECK int undo_lines(const struct pod *pod, char **lines, size_t count, struct err *e);
/* The same where no journal was begun, or its end was reached. */
MUST_CHECK int undo_without_lines(const struct pod *pod, struct err *e);
/* The messages alone: before the pod runs on (mqueue_save.c). */
MUST_CHECK int mqueues_undo(const struct pod *pod, struct err *e);
