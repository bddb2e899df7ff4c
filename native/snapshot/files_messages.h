/* Looking at a socket's queue of messages without taking them: MSG_PEEK with SO_PEEK_OFF, which is journalled and put back. */
#pragma once
#include <sys/socket.h>

#include "files_save.h"

struct peeked {
    const uint8_t *data;
    size_t len;
    const struct sockaddr_storage *from;
    size_t from_len;
    bool has_creds;
    struct ucred creds;      /* pid as the engine sees it */
    uint64_t inner_pid;      /* and inside the pod */
    int rights[RIGHTS_MAX];  /* duplicates of the descriptors on their way (SCM_RIGHTS); fn takes them over */
    size_t rights_count;
};
/* Calls fn for each message in order (for a stream of `stream` bytes, 0 for messages: each stretch of one sender). Looking behind the
 * last byte of a stream would take an error away that waits there; with messages it would be taken first: none may wait. Descriptors on their
 * way (SCM_RIGHTS) come with the byte that they came with.
 * zero_ends: nothing means the end of file, not an empty message. */
MUST_CHECK int messages_peek(const struct saving *v, const struct source *src, size_t stream, bool zero_ends,
                             int (*fn)(void *ctx, const struct peeked *m, struct err *e), void *ctx, struct err *e);
