/* What the savers of descriptors do to a running job's sockets, and how whoever finds the engine dead takes it back.
 * Journal lines (pids as outside of the pod):
 *   repair PID FD INO REUSE     the TCP socket INO is in repair mode; REUSE is its SO_REUSEADDR (repair mode loses it)
 *   peekoff PID FD INO VALUE    SO_PEEK_OFF of the socket INO was VALUE
 * While a socket is in repair mode its owner must not run (it would see EPERM): keep the pod frozen until this is undone. */
#pragma once
#include "../pod/pod.h"

/* What these lines say, the last first, as far as there is anything to undo; other lines are left alone. */
void files_undo(const struct pod *pod, char **lines, size_t count);
