/* Empty datagrams can be looked at once: the kernel marks them, and passes over them at the next look, so that the next image would lack them without
 * a word. Sockets in whose queue one was seen are therefore remembered in POD/empties, which is mapped: it is up to date whenever the engine
 * is killed. Such a socket is waited for until its queue was read. */
#pragma once
#include "../pod/pod.h"

MUST_CHECK int empties_open(const struct pod *pod, struct err *e);
/* Around a look at a message of the socket with that inode. */
void empties_look(uint64_t ino);
void empties_looked(uint64_t ino, bool was_empty);
bool empties_have(uint64_t ino);
void empties_forget(uint64_t ino); /* its queue was read */
