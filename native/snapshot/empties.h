/* Empty datagrams can be looked at once: the kernel marks them, and passes over them at the next look, so that the next image would lack them without
 * a word. Sockets in whose queue one was seen are therefore remembered in POD/empties, which is mapped: it is up to date whenever the engine
 * is killed. Such a socket is waited for until its queue was read. */
#pragma once
#include <sys/socket.h>

#include "../pod/pod.h"

#define EMPTIES_FIRST_BYTES 8u

/* What the kernel answers to a look at a message, in the mapped page too: it tells what was seen by whoever is killed right behind the call. */
struct empties_answer {
    struct msghdr header;
    uint8_t first[EMPTIES_FIRST_BYTES]; /* of the message */
};

MUST_CHECK int empties_open(const struct pod *pod, struct err *e);
/* Around a look at a message of the socket with that inode; all but msg_flags of the header is the caller's to fill. */
struct empties_answer *empties_look(uint64_t ino);
void empties_looked(uint64_t ino, bool was_empty);
bool empties_have(uint64_t ino);
void empties_forget(uint64_t ino); /* its queue was read */
