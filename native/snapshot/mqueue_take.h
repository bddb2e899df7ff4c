/* The messages of a POSIX message queue can only be taken, not looked at. In the frozen pod, where nobody else sends or receives, those of one queue
 * at a time are taken into POD/mqueue, which is mapped, and put back in the order in which they came: priorities, and their order within one, stay.
 * The file says at every instant what was taken and what was put back, so that whoever finds the engine dead goes on from there; only then does
 * the pod run. */
#pragma once
#include "../pod/pod.h"

/* A look at a queue by any descriptor of it. */
struct mqueue_look {
    uint64_t messages, bytes;         /* that lie in it */
    uint64_t max_messages, message_bytes;
    unsigned long notified_pid;
};
MUST_CHECK int mqueue_look(int fd, struct mqueue_look *out, struct err *e);
/* Messages into `out`, from a descriptor that may do both; all of them are in the queue again afterwards, and also if it fails. */
MUST_CHECK int mqueue_messages_save(const struct pod *pod, int fd, struct mqueue *out, struct err *e);
/* What an engine that died has taken is put back. `find` opens the queue with that device and inode for reading and writing, -1: it is gone. */
MUST_CHECK int mqueue_messages_undo(const struct pod *pod, int (*find)(const struct pod *pod, dev_t dev, ino_t ino, struct err *e), struct err *e);
